"""What is known of the files that were fetched: their hashes, remembered beside the data, and who may write now.

``downloads.lock.json`` in the data folder holds the sha256 of every fetched file under the row's name and version. For
a file whose publisher states no hash it is the only witness: a later download with another hash is refused. Size and
time of change are kept too, so that a second call need not hash gigabytes again. :func:`exclusive` is the flock that
keeps two processes from writing the same file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stablevsr.data.downloads.registry import Row
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import write_text

NAME = "downloads.lock.json"
BLOCK = 1 << 20


@contextmanager
def exclusive(path: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the flock on ``path``; calls ``waiting`` once if another process has it. The kernel frees it after a kill.

    The empty lock file stays: removing it would let a third process lock a new file of the same name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def sha256_of(path: Path, at: Callable[[int], object] = lambda done: None) -> str:
    """The file's sha256 in hex; ``at`` is called with the bytes read so far."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
            done += len(block)
            at(done)
    return digest.hexdigest()


class Ledger:
    """The recorded hashes of one data folder."""

    def __init__(self, data_root: Path) -> None:
        self.path = data_root / NAME

    def recorded(self, row: Row, file: str) -> str | None:
        """The sha256 that an earlier download of this file, in this version of the row, had."""
        entry = self._entry(row, file)
        return str(entry["sha256"]) if entry else None

    def unchanged(self, row: Row, file: str, path: Path) -> bool:
        """Whether ``path`` is the file that was checked and recorded, by size and time of change."""
        entry = self._entry(row, file)
        if entry is None or not path.is_file():
            return False
        status = path.stat()
        return (entry["size"], entry["mtime_ns"]) == (status.st_size, status.st_mtime_ns)

    def record(self, row: Row, file: str, path: Path, sha256: str) -> None:
        """Remember a checked file; entries of an older version of the row are dropped."""
        status = path.stat()
        with exclusive(self.path.with_name(f".{NAME}.lock")):
            known = self._read()
            kept = known.get(row.name, {})
            files = kept["files"] if kept.get("version") == row.version else {}
            files[file] = {"sha256": sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
            known[row.name] = {"version": row.version, "files": files}
            write_text(self.path, json.dumps(known, indent=1, sort_keys=True) + "\n")

    def _entry(self, row: Row, file: str) -> dict[str, Any] | None:
        kept = self._read().get(row.name, {})
        entry: dict[str, Any] | None = kept.get("files", {}).get(file) if kept.get("version") == row.version else None
        return entry

    def _read(self) -> dict[str, Any]:
        try:
            known: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            return known
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(f"{self.path} is damaged ({error}): restore it, or remove it to record anew") from error


def mismatch(
    row: Row, ledger: Ledger, file: str, size: int, sha256: str, published: tuple[int | None, str | None, str | None]
) -> str | None:
    """How a file differs from what is published, else from what was recorded; None if it does not.

    ``published``: size in bytes, sha256, and the first digits of the sha256, each where known.
    """
    expected_size, expected, prefix = published
    if expected_size not in (None, size):
        return f"it has {size} bytes where {expected_size} are expected"
    if expected not in (None, sha256) or not sha256.startswith(prefix or ""):
        return f"its sha256 is {sha256} where {expected or f'{prefix}...'} is expected"
    before = ledger.recorded(row, file)
    if expected is None and before not in (None, sha256):
        return (
            f"its sha256 is {sha256}, but {before} was recorded at the first download; if the publisher changed it and "
            f"you trust the new one, remove '{row.name}' from {ledger.path}"
        )
    return None
