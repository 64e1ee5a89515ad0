"""Training samples: crops of windows of consecutive frames.

Sample ``index`` of a run is a pure function of (seed, index), whichever worker makes it and whether or not the run was
interrupted, so a training state does not store the order of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from stablevsr.data.degradation import SCALE
from stablevsr.data.frames import open_image, read_frame
from stablevsr.data.layouts import Clip
from stablevsr.method.settings import Order
from stablevsr.runtime.errors import UserError

PAST, CENTRE, NEXT = 0, 1, 2  #: the frames of a TCM's training window
MEMORY = 2**30  #: bytes of decoded frames that a process keeps: all of a small set, a small part of REDS


class WindowDataset(Dataset[dict[str, torch.Tensor]]):
    """Windows of ``frames`` consecutive frames, cropped to ``crop`` pixels (ground truth), flipped half of the time.

    An item is ``{"gt": (frames, 3, crop, crop), "lq": (frames, 3, crop/4, crop/4)}``, float32 in [0, 1], from a random
    window of a clip. The clips come in shuffled ``epochs``, each clip once, or are drawn in proportion to their
    ``pixels``, so that in a set of mixed sizes small pictures are not seen more often than large ones.
    """

    def __init__(self, clips: Sequence[Clip], frames: int, crop: int, seed: int, order: Order = "pixels") -> None:
        self.clips = [clip for clip in clips if len(clip.gt) >= frames]
        if not self.clips:
            raise UserError(f"no training clip has {frames} frames")
        self.frames, self.crop, self.seed, self.order = frames, crop, seed, order
        sizes = [_size(clip.lr[0]) for clip in self.clips]
        for clip, size in zip(self.clips, sizes, strict=True):
            if min(size) < crop // SCALE:
                small = f"frame {clip.lr[0]} is smaller than a crop of {crop // SCALE} pixels"
                raise UserError(f"{small}: choose a smaller training crop")
        pixels = np.array([width * height for width, height in sizes])
        frame_and_lr = 3 * (SCALE**2 + 1) * int(pixels.max())  # bytes
        self._read = lru_cache(maxsize=max(frames, MEMORY // frame_and_lr) * 2)(read_frame)
        weights = pixels * [len(clip.gt) for clip in self.clips]
        self._odds = weights / weights.sum()

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, index])
        if self.order == "epochs":
            epoch, place = divmod(index, len(self.clips))
            clip = self.clips[_shuffled(len(self.clips), self.seed, epoch)[place]]
        else:
            clip = self.clips[rng.choice(len(self.clips), p=self._odds)]
        start = int(rng.integers(len(clip.gt) - self.frames + 1))
        window = slice(start, start + self.frames)
        return self._crop(clip.gt[window], clip.lr[window], rng)

    def _crop(self, gt: tuple[Path, ...], lr: tuple[Path, ...], rng: np.random.Generator) -> dict[str, torch.Tensor]:
        height, width = self._read(lr[0]).shape[:2]
        side = self.crop // SCALE
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        flip = bool(rng.random() < 0.5)
        return {
            "gt": _stack([_cut(self._read(p), top * SCALE, left * SCALE, self.crop, flip) for p in gt]),
            "lq": _stack([_cut(self._read(p), top, left, side, flip) for p in lr]),
        }


def _size(path: Path) -> tuple[int, int]:
    """Width and height."""
    with open_image(path) as image:
        return image.size


def _cut(frame: NDArray[np.uint8], top: int, left: int, side: int, flip: bool) -> NDArray[np.uint8]:
    crop = frame[top : top + side, left : left + side]
    return crop[:, ::-1] if flip else crop


def _stack(crops: list[NDArray[np.uint8]]) -> torch.Tensor:
    array = np.stack(crops).transpose(0, 3, 1, 2)
    return torch.from_numpy(array.astype(np.float32) / 255.0)


@lru_cache(maxsize=2)  # a batch can span two epochs
def _shuffled(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of ``count`` clips in an epoch."""
    return np.random.default_rng([seed, epoch, count]).permutation(count)


def sample_numbers(start: int, steps: int, batch: int, rank: int = 0, world: int = 1) -> list[int]:
    """The samples of process ``rank`` of ``world`` from step ``start`` on: its share of every batch, in order."""
    return np.arange(start * batch, steps * batch).reshape(-1, world, batch // world)[:, rank].ravel().tolist()


def sample_generator(seed: int, number: int) -> torch.Generator:
    """The CPU generator for all draws of one sample (noise, timestep, neighbour): a pure function of its arguments.

    Each sample has one, so the draws do not depend on how a batch is split into micro-batches or between processes.
    """
    state = np.random.SeedSequence([seed, number]).generate_state(2, dtype=np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


def draw_normal(generators: Sequence[torch.Generator], shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal numbers (B, *shape), each row from its own generator."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


def draw_integers(generators: Sequence[torch.Generator], low: int, high: int) -> torch.Tensor:
    """Integers (B,) in [low, high), each from its own generator."""
    return torch.cat([torch.randint(low, high, (1,), generator=generator) for generator in generators])
