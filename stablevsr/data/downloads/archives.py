"""Unpacking zip archives that are not trusted.

An archive is refused as a whole, before anything is written, if an entry could be written outside its folder, is a
link, a device or encrypted, has a name that no file system takes, or has the same target as another or lies below it.
CRCs are checked; an existing file of the same size and CRC is kept, so an interrupted unpacking continues where it
stopped.
"""

from __future__ import annotations

import itertools
import lzma
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeAlias

#: Files of an archive by their path below the dataset's folder.
Members: TypeAlias = Mapping[PurePosixPath, zipfile.ZipInfo]
Written = set[PurePosixPath]  #: paths of unpacked members


EXPANSION, SMALL = 20, 1 << 20  #: of frames, which are compressed already: times, and bytes that need no proof
LONGEST_NAME = 200  #: bytes of a file's name, which is longer while it is written; file systems allow 255
HEADER = 30  #: bytes of an entry's header, without its name


class ArchiveError(Exception):
    """The archive is refused; the message follows the archive's name in a sentence."""


#: What reading an archive raises if it is refused, truncated or damaged.
DAMAGE = (ArchiveError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, struct.error,
          ValueError)  # fmt: skip


def describe(error: BaseException) -> str:
    """One of :data:`DAMAGE` in words, to follow the archive's name in a sentence."""
    return str(error) if isinstance(error, ArchiveError) else f"is truncated or damaged ({error})"


def members(archive: zipfile.ZipFile, keep: Sequence[str]) -> Members:
    """The files of ``archive`` that have a path component in ``keep``, in the order of their data in the archive.

    The path before that component is dropped (``train/train_sharp/000/...`` becomes ``train_sharp/000/...``). Raises
    :class:`ArchiveError` that names the entry if any entry of the archive, wanted or not, is unsafe.
    """
    found: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        fault = _unsafe(info)
        if fault:
            raise ArchiveError(f"is refused: its entry {info.filename!r} {fault}, so nothing was unpacked")
        target = _target(info, keep)
        if target is None:
            continue
        if target in found:
            raise ArchiveError(f"is refused: two of its entries would both be written to {target}")
        if info.header_offset >= archive.start_dir:
            raise ArchiveError(f"is damaged: its entry {info.filename!r} lies beyond its entries")
        found[target] = info
    for target in found:
        if inside := next((parent for parent in target.parents if parent in found), None):
            raise ArchiveError(f"is refused: its entry {inside} is a file and the folder of another, {target}")
    packed, unpacked = (sum(getattr(i, name) for i in found.values()) for name in ("compress_size", "file_size"))
    if unpacked > EXPANSION * packed + SMALL:
        raise ArchiveError(
            f"is refused: its {packed} bytes would be {unpacked} bytes unpacked, so nothing was unpacked"
        )
    ordered = dict(sorted(found.items(), key=lambda item: item[1].header_offset))
    _refuse_overlaps(list(ordered.values()))
    return ordered


def _refuse_overlaps(infos: Sequence[zipfile.ZipInfo]) -> None:
    """Entries that share bytes are how an archive hides its expansion."""
    for before, after in itertools.pairwise(infos):
        if before.header_offset + HEADER + before.compress_size > after.header_offset:
            raise ArchiveError(f"is refused: its entries {before.filename!r} and {after.filename!r} share bytes")


def _unsafe(info: zipfile.ZipInfo) -> str | None:
    """Why an entry is unsafe, if it is. zipfile cuts ``filename`` at a NUL, so ``orig_filename`` is examined."""
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
    if any(len(part.encode("utf-8", "surrogateescape")) > LONGEST_NAME for part in name.split("/")):
        return f"has a name of more than {LONGEST_NAME} bytes"
    return None


def _target(info: zipfile.ZipInfo, keep: Sequence[str]) -> PurePosixPath | None:
    parts = PurePosixPath(info.filename).parts
    start = next((index for index, part in enumerate(parts) if part in keep), None)
    # Archives made on macOS hold metadata of every file under __MACOSX.
    if info.is_dir() or start is None or "__MACOSX" in parts or parts[-1].startswith("."):
        return None
    return PurePosixPath(*parts[start:])


def unpack(
    archive: zipfile.ZipFile, chosen: Members, folder: Path, progress: Callable[[int], object], written: Written
) -> None:
    """Write the members below ``folder`` that are not there; calls ``progress`` with the bytes unpacked so far.

    ``written`` takes in those that were written, also where an error ends the call.

    Raises one of :data:`DAMAGE` if the archive is truncated or an entry's CRC is wrong, OSError if the disk is full.
    """
    done = 0
    for target, info in chosen.items():
        path = folder / target
        if not (_has_size(path, info) and zlib.crc32(path.read_bytes()) == info.CRC):
            written.add(target)
            _write(archive, info, path)
        done += info.file_size
        progress(done)


def missing_bytes(chosen: Members, folder: Path) -> int:
    """How many bytes unpacking will add below ``folder``; files of the right size count as unpacked."""
    return sum(info.file_size for target, info in chosen.items() if not _has_size(folder / target, info))


def _has_size(path: Path, info: zipfile.ZipInfo) -> bool:
    return path.is_file() and path.stat().st_size == info.file_size


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The temporary name never changes (the caller holds the folder's lock): the next run overwrites what a kill left.
    part = path.with_name(f".{path.name}.part")
    try:
        with archive.open(info) as source, part.open("wb") as out:
            shutil.copyfileobj(source, out)
        if part.stat().st_size != info.file_size:
            raise zipfile.BadZipFile(f"{info.filename} ends early")
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is None:  # bz2's decompressor, about its input
            raise zipfile.BadZipFile(str(error)) from error
        raise
