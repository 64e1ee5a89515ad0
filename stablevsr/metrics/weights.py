"""What each metric lacks on this machine: a package, or a weight file (:mod:`stablevsr.data.downloads.weights`)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from stablevsr.data.downloads.weights import absence, file_sha256, location
from stablevsr.metrics.registry import METRICS, Metric
from stablevsr.runtime.errors import install_command

DISTS_SHA256 = "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218"
PACKAGES = {
    "lpips": "lpips",
    "tlp": "lpips",
    "dists": "DISTS_pytorch",
    "musiq": "pyiqa",
    "clipiqa": "pyiqa",
    "niqe": "pyiqa",
}


def missing(metric: Metric | str) -> str | None:
    """Why ``metric`` cannot be computed here, in one sentence with the fix, or None if it can.

    Looks for packages and files only; contents are verified by :func:`weight_file` when they are loaded.
    """
    metric = METRICS[metric] if isinstance(metric, str) else metric
    absent = [name for name in metric.needs if not location(name).is_file()]
    return missing_package(metric) or (absence(absent[0]) if absent else None)


def missing_package(metric: Metric) -> str | None:
    """As :func:`missing`, for what comes with pip alone."""
    package = PACKAGES.get(metric.name)
    if package and importlib.util.find_spec(package) is None:
        return f"the package {package} is not installed: {install_command(metric.extra)}"
    if metric.name == "dists" and dists_weights() is None:
        return "weights.pt of the package DISTS-pytorch is not found: pip install --force-reinstall DISTS-pytorch"
    return None


def dists_weights() -> Path | None:
    """The channel weights (alpha, beta) of the DISTS-pytorch wheel, known by their hash, or None.

    The package itself reads ``sys.prefix/weights.pt``, which is wrong for --user and --target installs and may be any
    program's file; the wheel also puts a copy into the package folder.
    """
    spec = importlib.util.find_spec("DISTS_pytorch")
    folders = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    for file in [folder / "weights.pt" for folder in [*folders, Path(sys.prefix)]]:
        if file.is_file() and file_sha256(file, file.stat().st_mtime_ns) == DISTS_SHA256:
            return file
    return None
