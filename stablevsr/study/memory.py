"""GPU memory that a study with the full-size networks needs at least, by frame size and by training batch.

The bytes are those of tensors, in float32, counted from shapes (``benchmarks/memory.py``). CUDA, the workspaces of its
kernels and gaps of the allocator come on top. An H200 measured 7.3 GB for sampling 320x180 (5.7 counted) and 11.5 GB
for a step of a TCM with 8 crops (12 counted): docs/performance.md.
"""

from __future__ import annotations

from stablevsr.method.settings import Sampling
from stablevsr.study.methods import TrainingRun

UNET, TCM, VAE = 1.89e9, 0.83e9, 0.22e9  #: bytes of the weights
DECODING = 2.83e9  #: the VAE's decoder at its peak, for a frame of 320x180
#: What a sample of a training keeps for its backward pass, for a crop of 256x256.
KEPT = {"tcm": 0.79e9, "unet": 0.76e9}
AREA, CROP = 320 * 180, 256**2


def sampling_memory(sampling: Sampling, area: int, at_once: int) -> float:
    """Bytes for sampling ``at_once`` sequences of frames of ``area`` LR pixels: the weights, and decoding a frame each.

    The decoder needs more than the other networks. Lower precision halves both (a VAE that overflows in float16 stays
    in float32).
    """
    weights = UNET + TCM + VAE
    return (weights + DECODING * area / AREA * at_once) * (1 if sampling.precision == "fp32" else 0.5)


def training_memory(run: TrainingRun, processes: int) -> float | None:
    """Bytes for a training on each of ``processes`` GPUs; None for kinds that need less than the others.

    All weights, for what is trained also its gradients and Adam's two averages, and what is kept for the backward pass.
    """
    if run.kind not in KEPT:
        return None
    trained, frozen = (TCM, UNET + VAE) if run.kind == "tcm" else (UNET, VAE)
    share = 1 if run.settings.precision == "fp32" else 0.5
    kept = KEPT[run.kind] * run.settings.crop**2 / CROP * crops_at_once(run, processes)
    return 4 * trained + (frozen + kept) * share


def crops_at_once(run: TrainingRun, processes: int) -> int:
    """How many crops of a batch each of ``processes`` GPUs takes at once."""
    return run.settings.micro_batch or run.settings.batch // processes
