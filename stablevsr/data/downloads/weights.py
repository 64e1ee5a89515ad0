"""Single weight files (backbones of metrics, RAFT): where they are looked for, and whether they are the published ones.

No function here uses the network or imports torch. The files lie in torch's hub cache, where torchvision and pyiqa look
for them too; ``stablevsr fetch NAME`` puts them there.
"""

from __future__ import annotations

import functools
from pathlib import Path

from stablevsr.data.downloads import registry
from stablevsr.data.downloads.record import DownloadRecord
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import file_hash


def location(name: str) -> Path:
    """The path at which the weight file called ``name`` in the registry is looked for, whether it exists or not."""
    return registry.local_path(name, Path())


def published_hash(name: str) -> str:
    """The file's published sha256, or the first digits of it, or '' if nothing is published."""
    row = registry.get(name)
    if row.source and location(name) == registry.index_path(row):
        return row.source.convolutions_sha256 or row.source.member_sha256
    return row.sha256 or row.sha256_prefix or ""


def weight_file(name: str) -> Path:
    """The path of a weight file, after its sha256 was compared with the published one (else with the recorded one).

    Raises :class:`UserError` if the file is missing or is another one.
    """
    file = location(name)
    if not file.is_file():
        raise UserError(absence(name))
    expected = published_hash(name) or DownloadRecord.of(registry.get(name), Path()).sha256(registry.get(name).filename)
    if not digest(name).startswith(expected or ""):
        raise UserError(
            f"the weights {file} are damaged (their sha256 does not begin with {str(expected)[:8]}): delete the file "
            f"and run stablevsr fetch {name}"
        )
    return file


def digest(name: str) -> str:
    """The sha256 of the local file, in hexadecimal."""
    file = location(name)
    return file_sha256(file, file.stat().st_mtime_ns)


def absence(name: str) -> str:
    """The sentence that says which file is missing where, and how to get it."""
    file = location(name)
    address = "".join(f" ({url})" for url in registry.get(name).urls[:1])
    return f"the weights {file.name} are not in {file.parent}: stablevsr fetch {name}{address}"


@functools.cache
def file_sha256(file: Path, mtime_ns: int) -> str:
    """The sha256 of a file, computed once; ``mtime_ns`` makes a replaced file count as a new one."""
    return file_hash(file)
