"""Single weight files (backbones of metrics, RAFT) in torch's hub cache, where torchvision and pyiqa look for them too.

No function here uses the network or imports torch; ``stablevsr fetch NAME`` downloads a file.
"""

from __future__ import annotations

import functools
from pathlib import Path

from stablevsr.data.downloads import registry
from stablevsr.data.downloads.record import DownloadRecord
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import file_hash


def location(name: str) -> Path:
    """The path of the weight file called ``name`` in the registry, whether it exists or not."""
    return registry.local_path(name, Path())


def published_hash(name: str) -> str:
    """The file's published sha256, or the first digits of it, or '' if nothing is published."""
    row = registry.get(name)
    if row.source and location(name) == registry.index_path(row):
        return row.source.convolutions_sha256 or row.source.member_sha256
    return row.sha256 or row.sha256_prefix or ""


def weight_file(name: str) -> Path:
    """The path of a weight file, whose sha256 is compared with the published one, or else with the recorded one.

    Raises :class:`UserError` if the file is missing or is another one.
    """
    file, row = location(name), registry.get(name)
    if not file.is_file():
        raise UserError(absence(name))
    expected = published_hash(name) or DownloadRecord.of(row, Path()).sha256(row.filename) or ""
    if not sha256_of(name).startswith(expected):
        raise UserError(
            f"the weights {file} are damaged (their sha256 does not begin with {expected[:8]}): delete the file and "
            f"run stablevsr fetch {name}"
        )
    return file


def sha256_of(name: str) -> str:
    """The sha256 of the local file, in hexadecimal; computed once while the file does not change."""
    return _hash_of_version(location(name), location(name).stat().st_mtime_ns)


@functools.cache
def _hash_of_version(file: Path, mtime_ns: int) -> str:
    return file_hash(file)


def absence(name: str) -> str:
    """The error message for a missing file: where it should be, and how to download it."""
    file = location(name)
    address = "".join(f" ({url})" for url in registry.get(name).urls[:1])
    return f"the weights {file.name} are not in {file.parent}: stablevsr fetch {name}{address}"
