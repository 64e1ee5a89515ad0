"""Reads frames in chunks of consecutive frames, the next chunk while the metrics score the current one."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stablevsr.data.frames import read_frame
from stablevsr.metrics.folders import FramePaths
from stablevsr.runtime.background import pool_of_generator, prefetch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DECODERS = 4
CHUNK_PIXELS = 8 * 1280 * 720  # chunks of larger frames are shorter, which bounds memory

Result = TypeVar("Result")


@dataclass(frozen=True)
class Chunk:
    """n consecutive frames of one sequence, and before them the frame that temporal metrics compare the first with.

    Arrays are uint8 (lead + n, H, W, 3); ``lead`` is 0 at the start of a sequence, else 1. ``outputs`` has one array
    for each method. ``centre`` is the stem of the sequence's centre frame, if the sequence is a septuplet.
    """

    sequence: str
    stems: tuple[str, ...]
    lead: int
    gt: NDArray[np.uint8]
    outputs: tuple[NDArray[np.uint8], ...]
    device: torch.device | str
    centre: str | None = None
    _results: dict[Callable[[Chunk], Any], Any] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.stems)

    def once(self, compute: Callable[[Chunk], Result]) -> Result:
        """``compute(self)``, computed for the first metric that asks and shared by the others."""
        if compute not in self._results:
            self._results[compute] = compute(self)
        return self._results[compute]

    @cached_property
    def gt_tensor(self) -> Tensor:
        """(lead + n, 3, H, W) in [0, 1] on the device, as torchvision's ToTensor makes it."""
        return _to_tensor(self.gt, self.device)

    @cached_property
    def output_tensors(self) -> list[Tensor]:
        """A tensor like :attr:`gt_tensor` for each method."""
        return [_to_tensor(output, self.device) for output in self.outputs]

    @property
    def gt_frames(self) -> Tensor:
        """:attr:`gt_tensor` without the lead, (n, 3, H, W)."""
        return self.gt_tensor[self.lead :]

    @property
    def output_frames(self) -> list[Tensor]:
        """:attr:`output_tensors` without the lead."""
        return [output[self.lead :] for output in self.output_tensors]

    @cached_property
    def pair_keys(self) -> list[str]:
        """A digest of the pixels of each consecutive pair of ground-truth frames, for :meth:`Tools.cached`."""
        shape = str(self.gt.shape[1:]).encode()
        frames = [hashlib.blake2b(frame.tobytes(), key=shape, digest_size=20).digest() for frame in self.gt]
        return [
            hashlib.blake2b(current + previous, digest_size=20).hexdigest()
            for previous, current in itertools.pairwise(frames)
        ]


def _to_tensor(frames: NDArray[np.uint8], device: torch.device | str) -> Tensor:
    import torch

    return torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).contiguous().float().div(255)


def read_chunks(sequences: Sequence[FramePaths], batch: int, device: torch.device | str) -> Iterator[Chunk]:
    """All frames of all sequences in order, at most ``batch`` at a time; the next are decoded in the background."""
    spans = []
    for paths in sequences:
        step = max(1, min(batch, CHUNK_PIXELS // (paths.size[0] * paths.size[1])))
        spans += [(paths, slice(start, start + step)) for start in range(0, len(paths.stems), step)]
    with pool_of_generator(DECODERS) as pool:

        def decode(span: tuple[FramePaths, slice]) -> list[NDArray[np.uint8]]:
            paths, part = span
            return [np.stack(list(pool.map(read_frame, side[part]))) for side in (paths.reference, *paths.outputs)]

        last: list[NDArray[np.uint8]] = []
        for (paths, part), sides in zip(spans, prefetch(decode, spans), strict=True):
            lead = int(part.start > 0)
            if lead:
                sides = [np.concatenate(both) for both in zip(last, sides, strict=True)]
            last = [side[-1:].copy() for side in sides]
            yield Chunk(paths.name, paths.stems[part], lead, sides[0], tuple(sides[1:]), device, paths.centre)
