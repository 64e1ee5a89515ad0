"""Zip archives from strangers, unpacked safely, and the check that a dataset's folder is complete.

An archive is refused as a whole, before anything is written, if one entry could land outside its folder (``..``, an
absolute path, a drive letter, a backslash), is a link or a device, is encrypted, or lands on the same file as another.
Every entry's CRC is checked while it is written to a temporary name beside its target; a file that is already there
with the same size and CRC is kept, so an interrupted unpacking goes on where it stopped.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stablevsr.data.downloads.registry import Layout
from stablevsr.runtime.errors import UserError

BLOCK = 1 << 20
#: What zipfile raises, besides OSError, when the bytes are not the zip they should be.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error)
PNG_START = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Member:
    """One file of an archive and where it lands below the dataset's folder."""

    info: zipfile.ZipInfo
    target: PurePosixPath


def members(archive: zipfile.ZipFile, keep: Sequence[str], label: str) -> list[Member]:
    """The files of ``archive`` that have a component in ``keep``, in the order in which they lie in the archive.

    What stands before that component is dropped (``train/train_sharp/000/...`` lands at ``train_sharp/000/...``).
    Raises :class:`UserError` that names ``label`` and the entry if any entry of the archive, wanted or not, is hostile.
    """
    found: dict[PurePosixPath, Member] = {}
    for info in archive.infolist():
        fault = _hostile(info)
        if fault:
            raise UserError(f"{label} is refused: its entry {info.filename!r} {fault}, so nothing was unpacked")
        target = _target(info, keep)
        if target is None:
            continue
        if target in found:
            raise UserError(f"{label} is refused: two of its entries would both land at {target}")
        found[target] = Member(info, target)
    return sorted(found.values(), key=lambda member: member.info.header_offset)


def _hostile(info: zipfile.ZipInfo) -> str | None:
    # orig_filename: zipfile cuts the name at a NUL and would hide what follows it.
    name = info.orig_filename
    mode = info.external_attr >> 16
    if name.startswith("/") or "\\" in name or "\0" in name or ":" in name.split("/")[0]:
        return "has an absolute or foreign path"
    if ".." in name.split("/"):
        return "climbs out of its folder with '..'"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if info.flag_bits & 0x1:
        return "is encrypted"
    return None


def _target(info: zipfile.ZipInfo, keep: Sequence[str]) -> PurePosixPath | None:
    parts = PurePosixPath(info.filename).parts
    start = next((index for index, part in enumerate(parts) if part in keep), None)
    # macOS archives carry a shadow of every file under __MACOSX; hidden files are no data either.
    if info.is_dir() or start is None or "__MACOSX" in parts or parts[-1].startswith("."):
        return None
    return PurePosixPath(*parts[start:])


def unpack(
    archive: zipfile.ZipFile, chosen: Iterable[Member], folder: Path, at: Callable[[int], object] = lambda done: None
) -> None:
    """Write the members below ``folder``; calls ``at`` with the bytes unpacked so far.

    Raises one of :data:`DAMAGE` if the archive is truncated or an entry's CRC is wrong, OSError if the disk is full.
    """
    done = 0
    for member in chosen:
        path = folder / member.target
        if not _already_there(path, member.info):
            _write(archive, member.info, path)
        done += member.info.file_size
        at(done)


def missing_bytes(chosen: Iterable[Member], folder: Path) -> int:
    """How many bytes unpacking will add below ``folder``; files of the right size are taken as already there."""
    sizes = ((folder / member.target, member.info.file_size) for member in chosen)
    return sum(size for path, size in sizes if not (path.is_file() and path.stat().st_size == size))


def _already_there(path: Path, info: zipfile.ZipInfo) -> bool:
    if not path.is_file() or path.stat().st_size != info.file_size:
        return False
    crc = 0
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            crc = zlib.crc32(block, crc)
    return crc == info.CRC


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Always the same temporary name (the caller holds the folder's lock): what a kill leaves behind is overwritten by
    # the next run instead of piling up.
    part = path.with_name(f".{path.name}.part")
    try:
        with archive.open(info) as source, part.open("wb") as out:
            while block := source.read(BLOCK):
                out.write(block)
        if part.stat().st_size != info.file_size:
            raise zipfile.BadZipFile(f"{info.filename} ends early")
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def layout_fault(layout: Layout, folder: Path, look_inside: bool = True) -> str | None:
    """The first thing in which ``folder`` differs from the layout, as the end of a sentence, or None if it is complete.

    Counts the PNG frames of every sequence; with ``look_inside`` also reads the picture size of every frame.
    """
    try:
        listed = [name for file, lines in layout.lists.items() for name in _listed(folder / file, lines)]
        for name in [*layout.named(), *listed]:
            fault = _sequence_fault(layout, folder / layout.root / name, look_inside)
            if fault:
                return fault
    except (FileNotFoundError, NotADirectoryError) as error:
        return f"{error.filename} is missing"
    except ValueError as error:
        return str(error)
    return None


def _listed(path: Path, lines: int) -> list[str]:
    names = path.read_text(encoding="utf-8").split()
    if len(names) != lines:
        raise ValueError(f"{path} names {len(names)} sequences where {lines} are expected")
    return names


def _sequence_fault(layout: Layout, folder: Path, look_inside: bool) -> str | None:
    frames = [path for path in folder.iterdir() if path.suffix == ".png" and not path.name.startswith(".")]
    if len(frames) != layout.frames:
        return f"{folder} has {len(frames)} frames where {layout.frames} are expected"
    for frame in sorted(frames) if look_inside else []:
        size = _png_size(frame)
        if size != (layout.width, layout.height):
            shown = "not a PNG image" if size is None else f"{size[0]}x{size[1]} pixels"
            return f"{frame} is {shown} where {layout.width}x{layout.height} are expected"
    return None


def _png_size(path: Path) -> tuple[int, int] | None:
    with path.open("rb") as stream:
        head = stream.read(24)
    if len(head) < 24 or not head.startswith(PNG_START):
        return None
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def write_missing_lists(layout: Layout, folder: Path) -> None:
    """Write a list file that an archive lacks from the sequences found, if their number is exactly the expected one.

    Vimeo's test archive holds nothing but test sequences; copies of it with and without ``sep_testlist.txt`` exist.
    """
    lacking = [file for file in layout.lists if not (folder / file).exists()]
    if len(layout.lists) != 1 or not lacking or not (folder / layout.root).is_dir():
        return
    root = folder / layout.root
    names = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*") if path.is_dir())
    if len(names) == layout.lists[lacking[0]]:
        (folder / lacking[0]).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
