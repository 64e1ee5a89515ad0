"""Stops sampling where a network gives values that are not finite, which would otherwise become black frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stablevsr.runtime.errors import UserError


class NotFiniteError(UserError):
    """A network's output has values that are not finite."""


class _Output(NamedTuple):
    network: str
    step: int
    frames: Sequence[int]
    finite: Tensor  #: (B,), bool: sequences of the first frame, then of the second, ...


class FiniteCheck:
    """Checks the outputs of one sampling run, on a GPU without waiting for the work just queued.

    Args:
        steps: denoising steps of the run, for messages.
        dtype: of the networks, for the advice in messages.
        first: number of the run's first frame in its clip, for messages.
    """

    def __init__(self, steps: int, dtype: torch.dtype, first: int = 0) -> None:
        self._steps, self._dtype, self._first = steps, dtype, first
        self._queued: list[_Output] = []
        self._due: list[_Output] = []

    def watch(self, network: str, step: int, frames: Sequence[int], *outputs: Tensor) -> None:
        """Note whether each row of ``outputs`` (B, ...) is finite; B is a multiple of the number of ``frames``."""
        finite = torch.stack([output.isfinite().flatten(1).all(1) for output in outputs]).all(0)
        self._queued.append(_Output(network, step, frames, finite))

    def settle(self, everything: bool = False) -> None:
        """Raise :class:`NotFiniteError` for the first output that was not finite, up to the previous call.

        ``everything``: up to now. Outputs are in the order of computation, so the first one names the culprit.
        """
        due, self._due, self._queued = self._due, self._queued, []
        if everything:
            due, self._due = due + self._due, []
        if due and not bool(torch.cat([output.finite for output in due]).all()):
            self._fail(next(output for output in due if not bool(output.finite.all())))

    def _fail(self, output: _Output) -> None:
        sequences = len(output.finite) // len(output.frames)
        row = int(output.finite.int().argmin())
        which = f", sequence {row % sequences + 1} of {sequences}" if sequences > 1 else ""
        where = f"frame {self._first + output.frames[row // sequences]}{which}, step {output.step + 1} of {self._steps}"
        raise not_finite(output.network, where, self._dtype)


def not_finite(network: str, where: str, dtype: torch.dtype) -> NotFiniteError:
    """The error for a network in ``dtype`` whose output at ``where`` is not finite."""
    again = "the model is damaged or its weights are out of range: fetch, copy or train it again"
    fix = again if dtype == torch.float32 else f"use precision fp32 (or bf16 in place of fp16), or {again}"
    return NotFiniteError(f"the {network} gave values that are not finite numbers at {where}: {fix}")
