"""Validation on fixed held-out windows: the loss by noise level, and a strip of what the networks make of them.

The samples are frozen once and spread evenly over the noise levels: two validations differ by the weights alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from stablevsr.data.frames import write_frame
from stablevsr.data.layouts import Sequence as Clip
from stablevsr.training.samples import WindowDataset, sample_generator
from stablevsr.training.task import DenoisingTask, Sample

SAMPLES, CHUNK = 48, 8
SEED = 12345
LEVELS = {"low": (0, 333), "mid": (333, 667), "high": (667, 1000)}  #: noise levels by timestep (of 1000)
CAPTION = 14  #: rows of pixels above a strip


def held_out(task: DenoisingTask, clips: Sequence[Clip], frames: int, crop: int, device: torch.device) -> list[Sample]:
    """Frozen samples of ``clips`` in chunks, each with the windows' ``gt``; none without clips.

    Args:
        task: what freezes them; its networks are on ``device``.
        clips: that no training sees.
        frames: of a window.
        crop: pixels a side of the ground truth.
        device: where the samples go.
    """
    if not clips:
        return []
    windows = WindowDataset(clips, frames, crop, SEED)
    timesteps = torch.linspace(0, int(task.scheduler.config.num_train_timesteps) - 1, SAMPLES).round().long()
    chunks = []
    for first in range(0, SAMPLES, CHUNK):
        # every sixth level in a chunk, so that the first one alone spans them all
        rows = list(range(first // CHUNK, SAMPLES, SAMPLES // CHUNK))
        items = [windows[row] for row in rows]
        window = {key: torch.stack([item[key] for item in items]).to(device) for key in items[0]}
        drawn = task.draw(window["lq"].shape[-1], [sample_generator(SEED, row) for row in rows])
        frozen = task.freeze(window, drawn | {"timesteps": timesteps[rows]})
        chunks.append(frozen | {"gt": window["gt"][:, frames // 2]})
    return chunks


def joined(samples: Sequence[Sample], key: str) -> Tensor:
    """One entry of all chunks."""
    return torch.cat([chunk[key] for chunk in samples])


def by_level(errors: Tensor, timesteps: Tensor) -> dict[str, float]:
    """Mean of ``errors`` (B,) for each of :data:`LEVELS`."""
    return {
        level: float(errors[(timesteps >= low) & (timesteps < high)].mean()) for level, (low, high) in LEVELS.items()
    }


def enlarged(sample: dict[str, Tensor]) -> Tensor:
    """The LR crops in blocks of 4x4 pixels, so that one sees what the network was given."""
    return F.interpolate(sample["lq"], scale_factor=4.0, mode="nearest")


def truth(sample: dict[str, Tensor]) -> Tensor:
    """The ground truth of frozen samples in [-1, 1]."""
    return sample["gt"] * 2 - 1


def strip(columns: dict[str, Tensor], picture: Path) -> None:
    """Write one PNG: a column a name, a row a sample, noise rising downwards. Images (B, 3, H, W) in [-1, 1]."""
    frames = [_column(name, images) for name, images in columns.items()]
    write_frame(picture, np.concatenate(frames, axis=1))


def _column(name: str, images: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    stacked = (images.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).flatten(0, 1).cpu().numpy()
    title = Image.new("RGB", (stacked.shape[1], CAPTION), "white")
    ImageDraw.Draw(title).text((2, 1), name, fill="black")
    return np.concatenate([np.asarray(title), np.rint(stacked * 255).astype(np.uint8)])
