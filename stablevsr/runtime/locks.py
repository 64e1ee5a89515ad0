"""File locks between processes (by ``filelock``): a job and the orphan of a killed run never write the same folder.

The operating system releases a lock when its process ends, even by ``kill -9``. Lock files are never removed: a third
process could then lock a new file of the same name. A file system without locks is refused: the library's own
substitute, the existence of the file, excludes nobody here, because the file stays.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from stablevsr.runtime.errors import UserError

WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  #: errors of file systems that have no locks
LOCK = ".lock"  #: the file in a folder that its only writer holds


@contextmanager
def exclusive(file: Path, activity: str) -> Iterator[None]:
    """Wait for the lock ``file`` and hold it.

    Processes that wait show the holder's process id, which is stored in the file, and ``activity`` ("writing FOLDER").
    Raises :class:`UserError` where the file system has no locks.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, poll_interval=0.5, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = file.read_text(encoding="utf-8").strip() or "?"
        print(f"waiting for process {holder}, which is still {activity}", file=sys.stderr, flush=True)
        lock.acquire()
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        raise UserError(
            f"the file system of {file.parent} has no file locks (flock), so two processes could write there at once: "
            "mount it with locks (Lustre: the option flock), or work in a folder of another file system"
        ) from error
    try:
        file.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        lock.release()


@contextmanager
def single_writer(folder: Path) -> Iterator[None]:
    """Be the only process that writes ``folder``, which is created if needed."""
    with exclusive(folder / LOCK, f"writing {folder}"):
        yield
