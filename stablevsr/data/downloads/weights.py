"""Single weight files (metrics' backbones, RAFT): where they are looked for, and whether they are the published ones.

No function here touches the network or imports torch. Addresses, hashes and places come from the registry
(:mod:`.registry`); the files lie in torch's hub cache, where torchvision and pyiqa look for them too, and
``stablevsr fetch NAME`` puts them there.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from stablevsr.data.downloads import registry
from stablevsr.runtime.errors import UserError


def location(name: str) -> Path:
    """Where the weight file called ``name`` in the registry of downloads is looked for, whether it exists or not."""
    return registry.local_path(name, Path())


def published_hash(name: str) -> str:
    """What is published of the file's sha256: all of it, its beginning (in the file's name), or nothing ('')."""
    row = registry.get(name)
    return row.sha256 or row.sha256_prefix or ""


def weight_file(name: str) -> Path:
    """The path of the weight file called ``name`` in the registry of downloads, once its sha256 is verified.

    Raises :class:`UserError` if the file is missing or is not the published one.
    """
    file, expected = location(name), published_hash(name)
    if not file.is_file():
        raise UserError(absence(name))
    if not digest(name).startswith(expected):
        raise UserError(
            f"the weights {file} are damaged (their sha256 does not begin with {expected[:8]}): delete the file and "
            f"run stablevsr fetch {name}"
        )
    return file


def digest(name: str) -> str:
    """The sha256 of the local file, in hexadecimal."""
    file = location(name)
    return file_sha256(file, file.stat().st_mtime_ns)


def absence(name: str) -> str:
    file = location(name)
    return f"the weights {file.name} are not in {file.parent}: stablevsr fetch {name} ({registry.get(name).urls[0]})"


@functools.cache
def file_sha256(file: Path, mtime_ns: int) -> str:
    """Hex digest of a file; ``mtime_ns`` makes a replaced file count as a new one."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
