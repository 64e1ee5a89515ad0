"""The frames on their way into the metrics: runs of consecutive frames, decoded beside the computation.

A chunk holds up to a batch of frames of one sequence, from the ground truth and from every method, and before them the
one frame that temporal metrics look back to.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stablevsr.data.frames import Frame, read_frame
from stablevsr.metrics.folders import Clip

DECODERS = 4
CHUNK_PIXELS = 8 * 1280 * 720  # frames larger than 720p come in shorter chunks, so that memory stays as it is


@dataclass(frozen=True)
class Chunk:
    """Consecutive frames of one sequence.

    Arrays are uint8 (lead + n, H, W, 3); ``lead`` is 1 where the frame before the first of the n comes along, 0 at the
    start of a sequence. ``outputs`` has one array a method.
    """

    sequence: str
    stems: tuple[str, ...]
    lead: int
    gt: NDArray[np.uint8]
    outputs: tuple[NDArray[np.uint8], ...]
    device: torch.device

    def __len__(self) -> int:
        return len(self.stems)

    @cached_property
    def gt_tensor(self) -> Tensor:
        """(lead + n, 3, H, W) in [0, 1] on the device, as torchvision's ToTensor makes it."""
        return _to_tensor(self.gt, self.device)

    @cached_property
    def output_tensors(self) -> list[Tensor]:
        """One tensor like :attr:`gt_tensor` a method."""
        return [_to_tensor(output, self.device) for output in self.outputs]

    @cached_property
    def pair_keys(self) -> list[str]:
        """A digest of each consecutive pair of ground-truth frames, by pixel content: keys of the cache."""
        shape = str(self.gt.shape[1:]).encode()
        frames = [hashlib.blake2b(frame.tobytes(), key=shape, digest_size=20).digest() for frame in self.gt]
        return [
            hashlib.blake2b(current + previous, digest_size=20).hexdigest()
            for previous, current in itertools.pairwise(frames)
        ]


def _to_tensor(frames: NDArray[np.uint8], device: torch.device) -> Tensor:
    return torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).contiguous().float().div(255)


def read_chunks(clips: Sequence[Clip], batch: int, device: torch.device) -> Iterator[Chunk]:
    """All frames of all clips in order, at most ``batch`` at a time; the next chunk is decoded while one is in use."""
    spans = [span for clip in clips for span in _spans(clip, batch)]
    with ThreadPoolExecutor(DECODERS) as pool:
        ahead = [_decode(pool, span) for span in spans[:1]]
        before: Chunk | None = None
        for index, span in enumerate(spans):
            ahead += [_decode(pool, following) for following in spans[index + 1 : index + 2]]
            before = _assemble(span, ahead.pop(0), before, device)
            yield before


Span = tuple[Clip, slice]
Decoding = list[list[Future[Frame]]]  #: ground truth first, then the methods


def _spans(clip: Clip, batch: int) -> list[Span]:
    step = max(1, min(batch, CHUNK_PIXELS // (clip.size[0] * clip.size[1])))
    return [(clip, slice(start, start + step)) for start in range(0, len(clip.stems), step)]


def _decode(pool: ThreadPoolExecutor, span: Span) -> Decoding:
    clip, part = span
    return [[pool.submit(read_frame, file) for file in side[part]] for side in (clip.gt, *clip.outputs)]


def _assemble(span: Span, decoding: Decoding, before: Chunk | None, device: torch.device) -> Chunk:
    clip, part = span
    lead = int(part.start > 0)
    sides = [np.stack([frame.result() for frame in side]) for side in decoding]
    if lead and before is not None:
        sides = [np.concatenate((old[-1:], new)) for old, new in zip((before.gt, *before.outputs), sides, strict=True)]
    return Chunk(clip.name, clip.stems[part], lead, sides[0], tuple(sides[1:]), device)
