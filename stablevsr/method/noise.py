"""The noise of sequences, in the published order of draws, from one generator a sequence.

First the initial latents of all frames, then step by step one tensor a frame in visit order. A strategy that goes
through the steps one after another can take the draws as they come; where visits jump between steps, or where a run is
resumed, they are repeated from the generators' states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from stablevsr.method.stores import Store

INITIAL = -1  #: in place of a step: the latents that sampling starts from


def draw(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """One draw (1, 4, h, w), as the published code calls it, on the generator's device."""
    return torch.randn(1, *shape, generator=generator, device=generator.device)


class Noise(Protocol):
    """Gives the draw of ``step`` (or :data:`INITIAL`) and ``frame`` of S sequences: (S, 4, h, w), on any device."""

    def __call__(self, step: int, frame: int) -> Tensor:
        """The draw."""


class DrawnNoise:
    """Draws as it is asked, for steps in ascending order; all frames of a step are moved to ``device`` together.

    Args:
        generators: one a sequence.
        shape: of one latent, (4, h, w).
        order: the frames in drawing order, for each step (:func:`stablevsr.method.visits.noise_order`).
        device: where the draws are needed.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        shape: tuple[int, ...],
        order: Sequence[Sequence[int]],
        device: torch.device,
    ) -> None:
        self._generators, self._shape, self._order, self._device = generators, shape, order, device
        self._step, self._drawn = INITIAL, self._draw(range(len(order[0])))

    def __call__(self, step: int, frame: int) -> Tensor:
        while self._step < step:
            self._step += 1
            self._drawn = self._draw(self._order[self._step])
        return self._drawn[frame]

    def _draw(self, order: Sequence[int]) -> Tensor:
        drawn = torch.empty(len(order), len(self._generators), *self._shape, device=self._generators[0].device)
        for frame in order:
            for sequence, generator in enumerate(self._generators):
                drawn[frame, sequence] = draw(generator, self._shape)[0]
        return drawn.to(self._device)


class ReplayedNoise:
    """The same draws in any order and as often as wanted, also by a later process if ``states`` is on disk.

    The generators' states before each draw are kept (5 kB a frame and step), far less than the tensors. One pass
    through all draws collects them, some thousandths of what sampling costs.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        shape: tuple[int, ...],
        order: Sequence[Sequence[int]],
        states: Store,
    ) -> None:
        """As :class:`DrawnNoise`; ``states`` that hold all steps already are used instead of ``generators``."""
        self._shape, self._states = shape, states
        self._generator = torch.Generator(generators[0].device)
        self._loaded: tuple[int, Tensor] | None = None
        if f"noise{len(order) - 1}" not in states:
            for step in range(INITIAL, len(order)):
                self._record(generators, step, range(len(order[0])) if step == INITIAL else order[step])

    def _record(self, generators: Sequence[torch.Generator], step: int, order: Sequence[int]) -> None:
        states = torch.empty(len(order), len(generators), len(generators[0].get_state()), dtype=torch.uint8)
        for frame in order:
            for sequence, generator in enumerate(generators):
                states[frame, sequence] = generator.get_state()
                draw(generator, self._shape)
        self._states[f"noise{step}"] = states

    def __call__(self, step: int, frame: int) -> Tensor:
        if self._loaded is None or self._loaded[0] != step:
            self._loaded = step, self._states[f"noise{step}"]
        return torch.cat([self._repeat(state) for state in self._loaded[1][frame]])

    def _repeat(self, state: Tensor) -> Tensor:
        # set_state reads from the start of the tensor's storage (torch 2.14): a row has to be copied out first
        self._generator.set_state(state.clone())
        return draw(self._generator, self._shape)
