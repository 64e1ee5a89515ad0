"""The noise of sampling: keyed by sequence, frame and step, or drawn from generators in the published order.

Studies and ``stablevsr upscale`` use keyed noise: a draw depends only on its key, so that all strategies start
from the same noise, and a frame gets the same noise in every batch, shard, window and resumed run. With an explicit
generator of the pipeline, and with ``sampling.noise: published`` in a study, noise is drawn as by the released code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeGuard

import torch
from torch import Tensor

from stablevsr.method.settings import Sampling
from stablevsr.method.visits import noise_order

INITIAL = -1  #: in place of a step: the latents that sampling starts from

Draw = Callable[[int, int], Tensor]  #: (step or :data:`INITIAL`, frame) -> noise (S, 4, h, w) of S sequences
Sources = Sequence[str] | Sequence[torch.Generator]  #: one a sequence: keys, or generators for the published order


def noise_of(sources: Sources, shape: tuple[int, ...], sampling: Sampling, frames: int, device: torch.device) -> Draw:
    """The noise of sequences of ``frames`` frames whose latents are of ``shape``; ``device`` is the networks'."""
    if _are_keys(sources):
        return KeyedNoise(sources, shape)
    return PublishedNoise([s for s in sources if not isinstance(s, str)], shape, noise_order(sampling, frames), device)


def _are_keys(sources: Sources) -> TypeGuard[Sequence[str]]:
    return all(isinstance(source, str) for source in sources)


def seeded_generator(key: str) -> torch.Generator:
    """A generator on the CPU that is seeded from a text."""
    return torch.Generator().manual_seed(_seed(key))


def _seed(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:8], "big") >> 1


class KeyedNoise:
    """Noise (S, 4, h, w) on the CPU, keyed by (key of the sequence, frame, step).

    Args:
        keys: one a sequence; a study's are ``seed/dataset/sequence``.
        shape: of one latent, (4, h, w).
    """

    def __init__(self, keys: Sequence[str], shape: tuple[int, ...]) -> None:
        self._keys, self._shape, self._generator = keys, shape, torch.Generator()

    def __call__(self, step: int, frame: int) -> Tensor:
        """The draw of ``step`` (or :data:`INITIAL`) for ``frame``."""
        return torch.cat([self._draw(f"{key}/{frame}/{step}") for key in self._keys])

    def _draw(self, key: str) -> Tensor:
        return torch.randn(1, *self._shape, generator=self._generator.manual_seed(_seed(key)))


class PublishedNoise:
    """Noise (S, 4, h, w) in the published order of draws, from one generator a sequence.

    First the initial latents of all frames, then step by step one tensor a frame in visit order. The generators' states
    before each draw are kept (5 kB a frame and step, far less than the tensors), so that a strategy that jumps between
    steps can repeat any of them.

    Args:
        generators: one a sequence, all on one device.
        shape: of one latent, (4, h, w).
        order: the frames in drawing order, for each step (:func:`stablevsr.method.visits.noise_order`).
        device: keeps the draws of the last step for all frames.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        shape: tuple[int, ...],
        order: Sequence[Sequence[int]],
        device: torch.device,
    ) -> None:
        self._generators, self._shape, self._device = generators, shape, device
        self._order = {INITIAL: range(len(order[0])), **dict(enumerate(order))}
        self._repeating = torch.Generator(generators[0].device)
        self._last = INITIAL - 1  # the step drawn last
        self._drawn: dict[int, Tensor] = {}  # of that step, by frame
        self._states: dict[tuple[int, int], list[Tensor]] = {}  # before the draw of a step and frame

    def __call__(self, step: int, frame: int) -> Tensor:
        """The draw of ``step`` (or :data:`INITIAL`) for ``frame``, on ``device`` or, repeated, on the generators'."""
        while self._last < step:
            self._record(self._last + 1)
        if step == self._last:
            return self._drawn[frame]
        return torch.cat([self._draw(self._repeating.set_state(state)) for state in self._states[step, frame]])

    def _record(self, step: int) -> None:
        """Draw the noise of all frames for ``step``."""
        self._drawn, self._last = {}, step
        for frame in self._order[step]:
            self._states[step, frame] = [generator.get_state() for generator in self._generators]
            self._drawn[frame] = torch.cat([self._draw(g) for g in self._generators]).to(self._device)

    def _draw(self, generator: torch.Generator) -> Tensor:
        return torch.randn(1, *self._shape, generator=generator, device=generator.device)
