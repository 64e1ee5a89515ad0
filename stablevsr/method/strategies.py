"""In which order denoising steps and frames are visited, and at which steps they are guided (paper, section 4.3).

Nothing here imports torch: a study's plan counts guided steps.
"""

from __future__ import annotations

from stablevsr.method.settings import Sampling, Strategy


def guided_steps(sampling: Sampling) -> list[int]:
    """The steps (from 0) at which the TCM acts; none for a strategy without a neighbour to take guidance from."""
    if sampling.strategy == "single_frame":
        return []
    first, last = round(sampling.guide_from * sampling.steps, 9), sampling.steps - 1
    return [step for step in range(sampling.steps) if step >= first and (last - step) % sampling.guide_every == 0]


def visiting_order(strategy: Strategy, step: int, frames: int) -> list[int]:
    """The frames of one denoising step in the order in which they are visited (and their noise is drawn)."""
    backward = strategy == "bidirectional" and step % 2 == 1
    return list(range(frames - 1, -1, -1)) if backward else list(range(frames))


def sweeps(sampling: Sampling) -> dict[int, int]:
    """For every guided step its place among them, which decides the direction in which frames are visited.

    Counted by steps, guidance at every second step would always run the same way.
    """
    return {step: place for place, step in enumerate(guided_steps(sampling))}
