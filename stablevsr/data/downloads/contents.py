"""What a complete dataset holds: folders of PNG frames, their number and their size in pixels.

:meth:`Contents.fault` checks a folder, :func:`frames_sha256` hashes its frames, and :func:`frames_stamp` notices later
changes without reading a frame.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from stablevsr.runtime.hashing import file_hash
from stablevsr.runtime.io import write_text

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
    """Sequences of PNG frames below a dataset's folder: ``root/<sequence>/<frame>.png``.

    The sequences are named here (``000-239`` means 240 names), or in list files with a known number of lines and one
    name per line, which may have a slash (``00001/0266``).
    """

    root: Inside
    sequences: list[str] = []
    lists: dict[Inside, int] = {}
    frames: int = Field(gt=0)  #: per sequence
    width: int = Field(gt=0)  #: pixels
    height: int = Field(gt=0)  #: pixels

    def named(self) -> list[str]:
        """The sequences named in the registry (none if list files name them)."""
        names = []
        for item in self.sequences:
            if span := re.fullmatch(r"(\d+)-(\d+)", item):
                first, last = span.groups()
                names += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
            else:
                names.append(item)
        return names

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
            with Path(frame).open("rb") as stream:
                head = stream.read(24)
            is_png = len(head) == 24 and head.startswith(PNG_START)
            width, height = struct.unpack(">II", head[16:]) if is_png else (0, 0)
            if (width, height) != (self.width, self.height):
                shown = f"{width}x{height} pixels" if is_png else "not a PNG image"
                return f"{frame.path} is {shown} where {self.width}x{self.height} are expected"
        return None

    def write_missing_list(self, folder: Path) -> None:
        """Write the only list file if it is missing and the folder has as many sequences as it should name.

        Some copies of Vimeo-90K's test archive, which holds only test sequences, lack ``sep_testlist.txt``.
        """
        root = folder / self.root
        lacking = [file for file in self.lists if not (folder / file).exists()]
        if len(self.lists) == len(lacking) == 1 and root.is_dir():
            names = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*") if path.is_dir())
            if len(names) == self.lists[lacking[0]]:
                write_text(folder / lacking[0], "".join(f"{name}\n" for name in names))


def _listed(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").split()


def _frames(folder: Path) -> list[os.DirEntry[str]]:
    """The frames of a sequence, by scandir, which is fast enough for the 640,000 frames of Vimeo-90K."""
    with os.scandir(folder) as entries:
        frames = [entry for entry in entries if entry.name.endswith(".png") and not entry.name.startswith(".")]
    return sorted(frames, key=lambda entry: entry.name)


def frames_left(contents: list[Contents], folder: Path) -> list[Path]:
    """The frames that are in the folders of ``contents``; of sequences that lists name, in any below the root."""
    found: list[Path] = []
    for part in contents:
        root = folder / part.root
        places = {root / name for name in part.named()} or {file.parent for file in root.rglob("*.png")}
        found += [Path(frame) for place in sorted(places) if place.is_dir() for frame in _frames(place)]
    return found


def _digest(contents: list[Contents], folder: Path, describe: Callable[[os.DirEntry[str]], str]) -> str:
    digest = hashlib.sha256()
    for part in contents:
        for sequence in part._folders(folder):
            name = sequence.relative_to(folder).as_posix()
            for frame in _frames(sequence):
                digest.update(f"{name}/{frame.name} {describe(frame)}\n".encode())
    return digest.hexdigest()


def frames_sha256(contents: list[Contents], folder: Path) -> str:
    """One sha256 over the names and bytes of all frames."""
    return _digest(contents, folder, lambda frame: file_hash(Path(frame)))


def frames_stamp(contents: list[Contents], folder: Path) -> str | None:
    """One sha256 over the names, sizes and modification times of all frames; None if a sequence is missing."""
    try:
        return _digest(contents, folder, lambda frame: f"{frame.stat().st_size} {frame.stat().st_mtime_ns}")
    except (FileNotFoundError, NotADirectoryError):
        return None
