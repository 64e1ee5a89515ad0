"""The noise of sequences, in the published order of draws, from one generator a sequence.

First the initial latents of all frames, then step by step one tensor a frame in visit order. Draws are made once; the
generator's state before each is kept (5 kB a frame and step, far less than the tensors), so that a strategy that jumps
between steps, or a resumed run, can repeat any of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stablevsr.method.stores import Store

INITIAL = -1  #: in place of a step: the latents that sampling starts from


class Noise:
    """The noise (S, 4, h, w) of S sequences by step and frame.

    Args:
        generators: one a sequence, all on one device.
        shape: of one latent, (4, h, w).
        order: the frames in drawing order, for each step (:func:`stablevsr.method.visits.noise_order`).
        states: keeps the generators' states; draws of an earlier process, whose states it holds, are repeated.
        keep_on: the device that keeps the last step's draws for all frames; None: each is repeated from its state when
            it is asked for, which takes no memory.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        shape: tuple[int, ...],
        order: Sequence[Sequence[int]],
        states: Store,
        keep_on: torch.device | None = None,
    ) -> None:
        self._generators, self._shape, self._states, self._keep_on = generators, shape, states, keep_on
        self._order = {INITIAL: range(len(order[0])), **dict(enumerate(order))}
        self._repeating = torch.Generator(generators[0].device)
        self._last = INITIAL - 1  # the step drawn last
        self._drawn: dict[int, Tensor] = {}  # of that step, by frame
        self._loaded: tuple[int, Tensor] | None = None
        while f"noise{self._last + 1}" in states:
            self._last += 1
        if self._last >= INITIAL:
            for generator, state in zip(generators, self._state(self._last, self._order[self._last][-1]), strict=True):
                generator.set_state(state.clone())
                self._draw(generator)

    def __call__(self, step: int, frame: int) -> Tensor:
        """The draw of ``step`` (or :data:`INITIAL`) for ``frame``, on the generators' device or ``keep_on``."""
        while self._last < step:
            self._record(self._last + 1)
        if step == self._last and frame in self._drawn:
            return self._drawn[frame]
        draws = []
        for state in self._state(step, frame):
            # set_state reads from the start of the tensor's storage (torch 2.14): a row has to be copied out first
            self._repeating.set_state(state.clone())
            draws.append(self._draw(self._repeating))
        return torch.cat(draws)

    def _record(self, step: int) -> None:
        """Draw the noise of all frames for ``step``, keeping each generator's state before each draw."""
        self._drawn, states = {}, {}
        for frame in self._order[step]:
            states[frame] = torch.stack([generator.get_state() for generator in self._generators])
            noise = torch.cat([self._draw(generator) for generator in self._generators])
            if self._keep_on is not None:
                self._drawn[frame] = noise.to(self._keep_on)
        self._states[f"noise{step}"] = torch.stack([states[frame] for frame in sorted(states)])
        self._last = step

    def _state(self, step: int, frame: int) -> Tensor:
        if self._loaded is None or self._loaded[0] != step:
            self._loaded = step, self._states[f"noise{step}"]
        return self._loaded[1][frame]

    def _draw(self, generator: torch.Generator) -> Tensor:
        return torch.randn(1, *self._shape, generator=generator, device=generator.device)
