"""The weight files that metrics need: where they are looked for, what is missing, and whether they are the right ones.

No function here touches the network or imports torch. Files are expected where torch, torchvision and pyiqa keep them
(torch's hub cache), under the names their authors gave them; ``stablevsr fetch NAME`` puts them there.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from stablevsr.errors import UserError
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


@dataclass(frozen=True)
class WeightFile:
    """A published weight file: its place below torch's hub folder and the start of its sha256 ('' if unpublished)."""

    name: str
    folder: str
    file: str
    url: str
    sha256: str


_TORCH = "https://download.pytorch.org/models"
_PYIQA = "https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights"
_CLIP_SHA256 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"


def _row(name: str, folder: str, base: str, file: str, sha256: str) -> tuple[str, WeightFile]:
    return name, WeightFile(name, folder, file, f"{base}/{file}", sha256)


FILES: dict[str, WeightFile] = dict(
    (
        _row("raft", "checkpoints", _TORCH, "raft_large_C_T_SKHT_V2-ff5fadd5.pth", "ff5fadd5"),
        _row("alexnet", "checkpoints", _TORCH, "alexnet-owt-7be5be79.pth", "7be5be79"),
        _row("vgg16", "checkpoints", _TORCH, "vgg16-397923af.pth", "397923af"),
        _row("musiq", "pyiqa", _PYIQA, "musiq_koniq_ckpt-e95806b9.pth", "e95806b9"),
        _row(
            "clip_rn50",
            "clip",
            f"https://openaipublic.azureedge.net/clip/models/{_CLIP_SHA256}",
            "RN50.pt",
            _CLIP_SHA256,
        ),
        _row("niqe", "pyiqa", _PYIQA, "niqe_modelparameters.mat", ""),
    )
)


def hub_folder() -> Path:
    """torch.hub's cache folder by torch's own rules (TORCH_HOME, XDG_CACHE_HOME, ~/.cache), without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", str(Path(cache) / "torch"))).expanduser() / "hub"


def path(name: str) -> Path:
    """Where the weight file ``name`` is looked for (whether it exists or not)."""
    row = FILES[name]
    return hub_folder() / row.folder / row.file


def missing(metric: Metric | str) -> str | None:
    """Why ``metric`` cannot be computed here, in one sentence with the fix, or None if it can.

    Looks for packages and files only; contents are verified by :func:`checked` when they are loaded.
    """
    metric = METRICS[metric] if isinstance(metric, str) else metric
    package = PACKAGES.get(metric.name)
    if package and importlib.util.find_spec(package) is None:
        wanted = f"stablevsr[{metric.extra}]" if metric.extra else "stablevsr"
        return f"the package {package} is not installed: pip install '{wanted}'"
    if metric.name == "dists" and dists_weights() is None:
        return "weights.pt of the package DISTS-pytorch is not found: pip install --force-reinstall DISTS-pytorch"
    for name in metric.needs:
        if not path(name).is_file():
            row = FILES[name]
            return f"the weights {row.file} are not in {path(name).parent}: stablevsr fetch {name} ({row.url})"
    return None


def checked(name: str) -> Path:
    """The path of weight file ``name`` once its sha256 is verified.

    Raises :class:`UserError` if the file is missing or is not the published one.
    """
    file, row = path(name), FILES[name]
    if not file.is_file():
        raise UserError(f"the weights {row.file} are not in {file.parent}: stablevsr fetch {name} ({row.url})")
    if not _sha256(file, file.stat().st_mtime_ns).startswith(row.sha256):
        raise UserError(
            f"the weights {file} are damaged (their sha256 does not begin with {row.sha256[:8]}): delete the file and "
            f"run stablevsr fetch {name}"
        )
    return file


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


@functools.cache
def _sha256(file: Path, mtime_ns: int) -> str:
    """``mtime_ns`` makes a replaced file count as a new one."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
