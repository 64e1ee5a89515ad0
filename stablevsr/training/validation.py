"""Validation on fixed held-out windows: figures by noise level, and a strip of what the networks make of them.

The samples are frozen once and spread evenly over the noise levels: two validations differ by the weights alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from stablevsr.data.frames import write_frame
from stablevsr.training.task import Sample, TrainingTask

LEVELS = {"low": (0, 333), "mid": (333, 667), "high": (667, 1000)}  #: noise levels by timestep (of 1000)
CAPTION = 14  #: rows of pixels above a strip


class ValidatedTask(TrainingTask):
    """A task that is validated on frozen samples; each holds its window's ground truth ``gt`` and its ``timesteps``."""

    held_out: Sequence[Sample] = ()  #: in chunks

    @abstractmethod
    def figures(self) -> dict[str, dict[str, float]]:
        """Figures on the held-out samples by name and noise level (:meth:`by_level`)."""

    @abstractmethod
    def columns(self, sample: Sample) -> dict[str, Tensor]:
        """What the strip shows between LR crops and ground truth: RGB (B, 3, H, W) in [-1, 1] by title."""

    @torch.no_grad()
    def validate(self, picture: Path) -> dict[str, float]:
        """``val_<figure>_<level>``; a strip of the first chunk in ``picture``."""
        if not self.held_out:
            return {}
        shown = self.held_out[0]
        low = F.interpolate(shown["lq"], scale_factor=4.0, mode="nearest")
        strip({"LR": low, **self.columns(shown), "ground truth": shown["gt"] * 2 - 1}, picture)
        return {f"val_{name}_{k}": v for name, levels in self.figures().items() for k, v in levels.items()}

    def by_level(self, errors: Callable[[Sample], Tensor]) -> dict[str, float]:
        """The mean of ``errors(chunk)`` (B, ...) over all chunks, for each of :data:`LEVELS`."""
        values = torch.cat([errors(chunk).flatten(1).mean(1) for chunk in self.held_out])
        timesteps = torch.cat([chunk["timesteps"] for chunk in self.held_out])
        return {k: float(values[(timesteps >= a) & (timesteps < b)].mean()) for k, (a, b) in LEVELS.items()}


def strip(columns: dict[str, Tensor], picture: Path) -> None:
    """Write one PNG: a column a name, a row a sample, noise rising downwards. Images (B, 3, H, W) in [-1, 1]."""
    frames = [_column(name, images) for name, images in columns.items()]
    write_frame(picture, np.concatenate(frames, axis=1))


def _column(name: str, images: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    stacked = (images.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).flatten(0, 1).cpu().numpy()
    title = Image.new("RGB", (stacked.shape[1], CAPTION), "white")
    ImageDraw.Draw(title).text((2, 1), name, fill="black")
    return np.concatenate([np.asarray(title), np.rint(stacked * 255).astype(np.uint8)])
