"""The weight files that metrics need: where they are looked for, what is missing, and whether they are the right ones.

No function here touches the network or imports torch. Addresses, hashes and places come from the registry of downloads
(:mod:`stablevsr.data.registry`); the files lie in torch's hub cache, where torchvision and pyiqa look for them too, and
``stablevsr fetch NAME`` puts them there.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import sys
from pathlib import Path

from stablevsr.data import registry as downloads
from stablevsr.errors import UserError, install_command
from stablevsr.metrics.registry import METRICS, Metric

DISTS_SHA256 = "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218"
PACKAGES = {
    "lpips": "lpips",
    "tlp": "lpips",
    "dists": "DISTS_pytorch",
    "musiq": "pyiqa",
    "clipiqa": "pyiqa",
    "niqe": "pyiqa",
}


def location(name: str) -> Path:
    """Where the weight file called ``name`` in the registry of downloads is looked for, whether it exists or not."""
    return downloads.local_path(name, Path())


def published_hash(name: str) -> str:
    """What is published of the file's sha256: all of it, its beginning (in the file's name), or nothing ('')."""
    row = downloads.get(name)
    return row.sha256 or row.sha256_prefix or ""


def missing(metric: Metric | str) -> str | None:
    """Why ``metric`` cannot be computed here, in one sentence with the fix, or None if it can.

    Looks for packages and files only; contents are verified by :func:`weight_file` when they are loaded.
    """
    metric = METRICS[metric] if isinstance(metric, str) else metric
    absent = [name for name in metric.needs if not location(name).is_file()]
    return missing_package(metric) or (_absence(absent[0]) if absent else None)


def missing_package(metric: Metric) -> str | None:
    """As :func:`missing`, for what comes with pip alone."""
    package = PACKAGES.get(metric.name)
    if package and importlib.util.find_spec(package) is None:
        return f"the package {package} is not installed: {install_command(metric.extra)}"
    if metric.name == "dists" and dists_weights() is None:
        return "weights.pt of the package DISTS-pytorch is not found: pip install --force-reinstall DISTS-pytorch"
    return None


def weight_file(name: str) -> Path:
    """The path of the weight file called ``name`` in the registry of downloads, once its sha256 is verified.

    Raises :class:`UserError` if the file is missing or is not the published one.
    """
    file, expected = location(name), published_hash(name)
    if not file.is_file():
        raise UserError(_absence(name))
    if not digest(name).startswith(expected):
        raise UserError(
            f"the weights {file} are damaged (their sha256 does not begin with {expected[:8]}): delete the file and "
            f"run stablevsr fetch {name}"
        )
    return file


def digest(name: str) -> str:
    """The sha256 of the local file, in hexadecimal."""
    file = location(name)
    return _sha256(file, file.stat().st_mtime_ns)


def dists_weights() -> Path | None:
    """The channel weights (alpha, beta) of the DISTS-pytorch wheel, known by their hash, or None.

    The package itself reads ``sys.prefix/weights.pt``, which is wrong for --user and --target installs and may be any
    program's file; the wheel also puts a copy into the package folder.
    """
    spec = importlib.util.find_spec("DISTS_pytorch")
    folders = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    for file in [folder / "weights.pt" for folder in [*folders, Path(sys.prefix)]]:
        if file.is_file() and _sha256(file, file.stat().st_mtime_ns) == DISTS_SHA256:
            return file
    return None


def _absence(name: str) -> str:
    file = location(name)
    return f"the weights {file.name} are not in {file.parent}: stablevsr fetch {name} ({downloads.get(name).urls[0]})"


@functools.cache
def _sha256(file: Path, mtime_ns: int) -> str:
    """Hex digest of a file; ``mtime_ns`` makes a replaced file count as a new one."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
