"""The visits of one sampling run: a strategy's generator with the settings applied. Nothing here imports torch."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from stablevsr.method.settings import Sampling
from stablevsr.method.strategies import PROBE, STRATEGIES, Visit


def visits(sampling: Sampling, frames: int) -> Iterator[Visit]:
    """Every frame-step of ``frames`` frames, in visit order."""
    first, last = round(sampling.guide_from * sampling.steps, 9), sampling.steps - 1
    guided = [step >= first and (last - step) % sampling.guide_every == 0 for step in range(sampling.steps)]
    return STRATEGIES[sampling.strategy](frames, guided)


def guided_steps(sampling: Sampling) -> list[int]:
    """The steps (from 0) at which the TCM acts."""
    return sorted({visit.step for visit in visits(sampling, PROBE) if visit.neighbour is not None})


def noise_order(sampling: Sampling, frames: int) -> list[Sequence[int]]:
    """For each step, the frames in the order in which their noise is drawn: the visit order, as published.

    ``guide_every`` and ``guide_from`` do not change it.
    """
    order = [array("I") for _ in range(sampling.steps)]
    for visit in visits(sampling.model_copy(update={"guide_every": 1, "guide_from": 0.0}), frames):
        order[visit.step].append(visit.frame)
    return list(order)
