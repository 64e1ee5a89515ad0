"""The record of downloads: which files were verified, with which sha256, and whether they have changed since.

A download counts as present only if it was recorded as verified and its size and modification time are still the same.
A file without a published hash must match the sha256 that was recorded at its first download. The record of datasets
is ``downloads.lock.json`` in the data folder; that of weights and models, which all projects share, is in
``~/.cache/stablevsr``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from stablevsr.data.downloads.contents import Strict, frames_stamp
from stablevsr.data.downloads.registry import (
    Cache,
    Hub,
    Pick,
    Published,
    Row,
    TorchHub,
    Unpack,
    cache_folder,
    get,
    local_path,
)
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import write_text
from stablevsr.runtime.locks import exclusive

NAME = "downloads.lock.json"
FRAMES = "frames"  #: the entry of a dataset's frames, all together


class Verified(Strict):
    """A verified file; ``stamp`` tells whether it has changed since, and is None for a file that is not kept."""

    sha256: str
    stamp: str | None


class RecordedRow(Strict):
    """The verified files of one version of a row."""

    version: str
    files: dict[str, Verified]


RECORD = TypeAdapter(dict[str, RecordedRow])


def file_stamp(path: Path) -> str | None:
    """Size and modification time of a file, to notice a change; None if there is no such file."""
    if not path.is_file():
        return None
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


@dataclass(frozen=True)
class DownloadRecord:
    """The verified files of one row of the registry, or of one hub repository, in one version."""

    path: Path
    name: str
    version: str

    @classmethod
    def of(cls, row: Row, data_root: Path) -> DownloadRecord:
        """The record of a row; ``data_root`` is where its dataset is stored."""
        folder = data_root if isinstance(row.destination, Unpack | Pick) else cache_folder()
        return cls(folder / NAME, row.name, row.version)

    def sha256(self, file: str) -> str | None:
        """The sha256 that was recorded for ``file``, if any."""
        entry = self._files(self._read()).get(file)
        return entry.sha256 if entry else None

    def is_current(self, file: str, stamp: str | None) -> bool:
        """Whether ``file`` had this stamp (of :func:`file_stamp` or :func:`.frames_stamp`) when it was verified."""
        entry = self._files(self._read()).get(file)
        return entry is not None and entry.stamp is not None and entry.stamp == stamp

    def add(self, file: str, sha256: str, stamp: str | None) -> None:
        """Record a verified file; entries of another version of the row are dropped."""
        with exclusive(self.path.with_name(f".{NAME}.lock"), f"writing {self.path}"):
            known = self._read()
            files = {**self._files(known), file: Verified(sha256=sha256, stamp=stamp)}
            known[self.name] = RecordedRow(version=self.version, files=files)
            write_text(self.path, RECORD.dump_json(known, indent=1).decode() + "\n")

    def mismatch(self, file: str, published: Published, size: int, sha256: str) -> str | None:
        """How a file differs from the published one, or from the recorded one if no hash is published, else None."""
        fault = published.mismatch(size, sha256)
        before = self.sha256(file)
        if fault or published.sha256 or before in (None, sha256):
            return fault
        return (
            f"its sha256 is {sha256}, but {before} was recorded at the first download; if the publisher changed it and "
            f"you trust the new one, remove '{self.name}' from {self.path}"
        )

    def _files(self, known: dict[str, RecordedRow]) -> dict[str, Verified]:
        row = known.get(self.name)
        return row.files if row and row.version == self.version else {}

    def _read(self) -> dict[str, RecordedRow]:
        try:
            return RECORD.validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(f"{self.path} is damaged: restore it, or remove it to verify everything again") from error


def is_present(name: str, data_root: Path) -> bool:
    """Whether ``name`` is on this machine, verified by an earlier call of ``fetch`` and unchanged since."""
    row = get(name)
    record, path = DownloadRecord.of(row, data_root), local_path(name, data_root)
    match row.destination:
        case TorchHub() | Cache():
            return record.is_current(path.name, file_stamp(path))
        case Hub(files=files):
            return all(record.is_current(file, file_stamp(path / file)) for file in files)
        case _:
            return record.is_current(FRAMES, frames_stamp(row.contents, path))
