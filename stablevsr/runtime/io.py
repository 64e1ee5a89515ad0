"""Writing files atomically: a reader sees the old content or the new one, never half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stablevsr.runtime.errors import UserError


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file in the folder of ``path`` for writing bytes; it is renamed to ``path`` when the block ends.

    Raises :class:`UserError` if ``path`` is a folder, pipe or device. After an error the temporary file is removed and
    ``path`` is unchanged. An OSError (a full disk) gets ``path`` as its file name, which the operating system leaves
    out of errors of ``write``.
    """
    check_output(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:50]}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


def check_output(path: Path) -> None:
    """Raise :class:`UserError` if ``path`` is there and no regular file: it would be replaced, a device too."""
    if path.exists() and not path.is_file():
        raise UserError(f"the output {path} is a folder, pipe or device: give the name of a file")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8; file names in it get the bytes that they have on disk."""
    with atomic_file(path) as stream:
        stream.write(text.encode("utf-8", "surrogateescape"))
