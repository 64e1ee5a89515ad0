"""The device that the user names, checked before anything is loaded, and the settings of torch in a job."""

from __future__ import annotations

import os

from stablevsr.runtime.errors import UserError

MOST_THREADS = 1024  #: more than any processor has; torch would try to start as many as it is told


def device_of(wanted: str) -> str:
    """cpu or cuda for ``auto``, else ``wanted``. Raises :class:`UserError` if this machine has no such device."""
    if wanted in ("cpu", "cpu:0"):
        return "cpu"
    import torch

    count = torch.cuda.device_count()
    if wanted == "auto":
        return "cuda" if count else "cpu"
    kind, colon, number = wanted.partition(":")
    if kind != "cuda" or bool(colon) != number.isdecimal():
        raise UserError(f"device {wanted} is not supported: try auto, cpu or cuda")
    if int(number or 0) >= count:
        raise UserError(f"device {wanted}: torch sees no such CUDA device here (it sees {count}); cpu always works")
    return wanted


def usable_cores() -> int:
    """The processor cores that this process may use, which a job's share of a machine can be fewer than all."""
    return len(os.sched_getaffinity(0))


def granted_threads() -> int:
    """The threads that Snakemake granted (OMP_NUM_THREADS), else all usable cores; shared by torchrun's processes."""
    granted = _whole("OMP_NUM_THREADS") or usable_cores()
    return max(1, min(granted, MOST_THREADS) // (_whole("LOCAL_WORLD_SIZE") or 1))


def _whole(variable: str) -> int:
    """A number in the environment; of a list (OpenMP's 4,2: nested threads) the first; 0 for anything else."""
    first = os.environ.get(variable, "").partition(",")[0].strip()
    return int(first) if first.isascii() and first.isdecimal() else 0
