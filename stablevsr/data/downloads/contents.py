"""What a data set holds once it is complete: folders of PNG frames, their number and their size in pixels.

:meth:`Contents.fault` checks a folder against that, :func:`frames_sha256` hashes the frames, and :func:`frames_stamp`
notices later whether one of them has changed since, without reading any.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from stablevsr.runtime.io import sha256_of, write_text

PNG_START = b"\x89PNG\r\n\x1a\n"


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path:
        raise ValueError(f"{path!r} must be a relative path that stays inside its folder")
    return path


Inside = Annotated[str, AfterValidator(_inside)]


class Strict(BaseModel):
    """Unknown keys are refused; values cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Contents(Strict):
    """Sequences of PNG frames below a data set's folder: ``root/<sequence>/<frame>.png``.

    The names of the sequences are given here (``000-239`` means 240 names), or by list files with one name per line, of
    which the number of lines is known. A listed name may have a slash (``00001/0266``).
    """

    root: Inside
    sequences: list[str] = []
    lists: dict[Inside, int] = {}
    frames: int = Field(gt=0)  #: per sequence
    width: int = Field(gt=0)  #: pixels
    height: int = Field(gt=0)  #: pixels

    def named(self) -> list[str]:
        """The sequences named in the registry (none if list files name them)."""
        return [name for item in self.sequences for name in _expand(item)]

    def fault(self, folder: Path) -> str | None:
        """The first difference between ``folder`` and these contents, as the end of a sentence; None if complete.

        Counts the frames of every sequence and reads the picture size of every frame.
        """
        try:
            for file, lines in self.lists.items():
                if (found := len(_listed(folder / file))) != lines:
                    return f"{folder / file} names {found} sequences where {lines} are expected"
            for sequence in self._folders(folder):
                if fault := self._sequence_fault(sequence):
                    return fault
        except (FileNotFoundError, NotADirectoryError) as error:
            return f"{error.filename} is missing"
        return None

    def _folders(self, folder: Path) -> list[Path]:
        listed = {name for file in self.lists for name in _listed(folder / file)}
        return [folder / self.root / name for name in sorted({*self.named(), *listed})]

    def _sequence_fault(self, folder: Path) -> str | None:
        frames = _frames(folder)
        if len(frames) != self.frames:
            return f"{folder} has {len(frames)} frames where {self.frames} are expected"
        for frame in frames:
            size = _png_size(frame)
            if size != (self.width, self.height):
                shown = "not a PNG image" if size is None else f"{size[0]}x{size[1]} pixels"
                return f"{frame} is {shown} where {self.width}x{self.height} are expected"
        return None

    def write_missing_list(self, folder: Path) -> None:
        """Write the one list file if it is missing and as many sequences are there as it should name.

        Vimeo-90K's test archive holds only test sequences; copies with and without ``sep_testlist.txt`` exist.
        """
        root = folder / self.root
        lacking = [file for file in self.lists if not (folder / file).exists()]
        if len(self.lists) == len(lacking) == 1 and root.is_dir():
            names = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*") if path.is_dir())
            if len(names) == self.lists[lacking[0]]:
                write_text(folder / lacking[0], "".join(f"{name}\n" for name in names))


def _expand(item: str) -> Iterator[str]:
    span = re.fullmatch(r"(\d+)-(\d+)", item)
    if span is None:
        yield item
        return
    first, last = span.groups()
    for number in range(int(first), int(last) + 1):
        yield str(number).zfill(len(first))


def _listed(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").split()


def _frames(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix == ".png" and not path.name.startswith("."))


def _png_size(path: Path) -> tuple[int, int] | None:
    with path.open("rb") as stream:
        head = stream.read(24)
    if len(head) < 24 or not head.startswith(PNG_START):
        return None
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def _all_frames(contents: list[Contents], folder: Path) -> Iterator[tuple[str, Path]]:
    for part in contents:
        for sequence in part._folders(folder):
            for frame in _frames(sequence):
                yield frame.relative_to(folder).as_posix(), frame


def frames_sha256(contents: list[Contents], folder: Path) -> str:
    """One sha256 over the names and bytes of all frames."""
    digest = hashlib.sha256()
    for name, frame in _all_frames(contents, folder):
        digest.update(f"{name} {sha256_of(frame)}\n".encode())
    return digest.hexdigest()


def frames_stamp(contents: list[Contents], folder: Path) -> str | None:
    """One sha256 over the names, sizes and modification times of all frames; None if a sequence is missing."""
    digest = hashlib.sha256()
    try:
        for name, frame in _all_frames(contents, folder):
            status = frame.stat()
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return digest.hexdigest()
