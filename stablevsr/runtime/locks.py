"""One writer at a time: an flock on a folder, so that a job and the orphan of a killed run never write together."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold ``folder`` (made if needed) for this process; wait, and say for whom, while another process holds it.

    The lock dies with its process, also under kill -9. The holder's process id is written into the lock file only to
    be shown to whoever waits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "?"
            print(f"waiting for process {holder}, which is still writing {folder}", file=sys.stderr, flush=True)
            while not _try_lock(handle.fileno()):
                time.sleep(0.5)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
