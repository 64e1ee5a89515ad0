"""Writing files atomically: a reader sees the old content or the new one, never half of it.

After a power cut a file system may keep a new name and lose the content. So the content is flushed to the disk before
the file gets its name. Files that are cheap to make again are not flushed, but carry a checksum.
"""

from __future__ import annotations

import os
import secrets
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from stablevsr.runtime.errors import DamagedError, UserError

MADE_HERE = ".made_by_stablevsr"  #: the mark of a folder whose content a command may replace
SEAL = 12  #: bytes of length and CRC-32 before the content of a sealed file


@contextmanager
def atomic_file(path: Path, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary file in the folder of ``path`` for writing bytes; it is renamed to ``path`` when the block ends.

    ``durable``: the content is on the disk before it gets the name. Raises :class:`UserError` if ``path`` is a folder,
    pipe or device. After an error the temporary file is removed and ``path`` is unchanged. An OSError (a full disk)
    gets ``path`` as its file name, which the operating system leaves out of errors of ``write``.
    """
    check_output(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f".{path.name[:50]}.{secrets.token_hex(6)}.part")
    try:
        with name.open("xb") as stream:  # readable by those whom the umask lets read files
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        name.replace(path)
    except BaseException as error:
        name.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left of :func:`atomic_file` in ``folder``, where no other process may write now."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)


def start_over(root: Path, folders: Iterable[str]) -> None:
    """Remove the folders below ``root`` that an earlier call made there, before they are made again.

    Raises :class:`UserError` if one is there and ``root`` has no mark that this function left: it is somebody else's.
    """
    mark, found = root / MADE_HERE, [root / name for name in folders if (root / name).exists()]
    if found and not mark.exists():
        raise UserError(f"{found[0]} is there and was not made by this command: move it away, or write somewhere else")
    for folder in found:
        shutil.rmtree(folder)
    root.mkdir(parents=True, exist_ok=True)
    mark.touch()


def check_output(path: Path) -> None:
    """Raise :class:`UserError` if ``path`` is there and no regular file: it would be replaced, a device too."""
    if path.exists() and not path.is_file():
        raise UserError(f"the output {path} is a folder, pipe or device: give the name of a file")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8; file names in it get the bytes that they have on disk."""
    with atomic_file(path) as stream:
        stream.write(text.encode("utf-8", "surrogateescape"))
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names of the files in ``folder`` to the disk, so that what is promised there survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_sealed(path: Path, content: bytes, durable: bool = True) -> None:
    """Write ``content`` with its checksum, atomically."""
    with sealed_file(path, durable) as stream:
        stream.write(content)


def read_sealed(path: Path) -> bytes:
    """What :func:`write_sealed` wrote. Raises :class:`DamagedError` if it is not that, FileNotFoundError if absent."""
    with open_sealed(path) as stream:
        return stream.read()


@contextmanager
def sealed_file(path: Path, durable: bool = True) -> Iterator[IO[bytes]]:
    """As :func:`write_sealed`, for content that is written in parts: a file for writing from start to end."""
    with atomic_file(path, durable) as stream:
        stream.write(bytes(SEAL))
        writer = _SealedWriter(stream)
        yield cast(IO[bytes], writer)
        stream.seek(0)
        stream.write(writer.seal.bytes)


@contextmanager
def open_sealed(path: Path) -> Iterator[IO[bytes]]:
    """A sealed file, checked and open at the start of its content. Raises as :func:`read_sealed` does."""
    with path.open("rb") as stream:
        expected, seal = stream.read(SEAL), _Seal()
        while part := stream.read(2**20):
            seal.add(part)
        if expected != seal.bytes:
            raise DamagedError(path)
        stream.seek(SEAL)
        yield stream


class _Seal:
    """Length and CRC-32 of content that comes in parts."""

    def __init__(self) -> None:
        self._size, self._sum = 0, 1  # starting at 1, a seal is never all zeros

    def add(self, part: bytes | memoryview) -> None:
        self._size += memoryview(part).nbytes
        self._sum = zlib.crc32(part, self._sum)

    @property
    def bytes(self) -> bytes:
        return self._size.to_bytes(8, "little") + self._sum.to_bytes(4, "little")


class _SealedWriter:
    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.seal = stream, _Seal()

    def write(self, part: bytes | memoryview) -> int:
        self.seal.add(part)
        return self._stream.write(part)

    def flush(self) -> None:
        self._stream.flush()
