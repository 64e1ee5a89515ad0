"""What the training loop trains: the interface of a task with its validation, and the settings of the loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset

from stablevsr.data.frames import Frame, write_frame
from stablevsr.data.layouts import Clip
from stablevsr.method.settings import Optimisation

Sample = dict[str, Tensor]
LEVELS = {"low": (0, 333), "mid": (333, 667), "high": (667, 1000)}  #: noise levels by timestep (of 1000)
CAPTION = 14  #: rows of pixels above a strip


class LoopSettings(Optimisation):
    """The settings of a training, with those that only the loop needs."""

    learning_rate_new: float | None = Field(None, gt=0)  #: of layers not copied from the base model
    weight_decay: float = Field(1e-2, ge=0)
    ema: float = Field(0.0, ge=0, lt=1)  #: decay of the weights' moving average that is saved; 0 = the last weights
    workers: int = Field(2, ge=0)  #: processes that read crops
    save_every: int = Field(500, ge=1)
    log_every: int = Field(50, ge=1)


class TrainingTask(ABC):
    """Something that can be trained: its data, its loss, and how its result is saved."""

    model: Any  #: the nn.Module that is optimised (of diffusers' classes, which mypy cannot see into)
    data: Dataset[Sample]
    copied: Sequence[Path] = ()  #: folders of the base model that are copied into the result
    #: Frozen samples to validate on, in chunks, each with its ground truth ``gt`` (B, 3, H, W) in [0, 1] and its LR
    #: crops ``lq`` (B, 3, h, w) in [-1, 1]; empty = no validation.
    held_out: Sequence[Sample] = ()

    @abstractmethod
    def loss(self, batch: Sample, generators: Sequence[torch.Generator]) -> Tensor:
        """Scalar loss of one micro-batch; each row draws from its generator, on the CPU."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the trained weights into ``folder`` in diffusers' layout."""

    def parameter_groups(self, settings: LoopSettings) -> list[dict[str, Any]]:
        """Optimiser groups; tasks with copied and new layers override it."""
        return [{"params": [p for p in self.model.parameters() if p.requires_grad], "lr": settings.learning_rate}]

    def figures(self) -> dict[str, dict[str, float]]:
        """Figures on the held-out samples by name and noise level (:meth:`by_level`)."""
        return {}

    def columns(self, sample: Sample) -> Sample:
        """Images for the strip, between LR crops and ground truth: RGB (B, 3, H, W) in [-1, 1] by title."""
        return {}

    @torch.no_grad()
    def validate(self, picture: Path) -> dict[str, float]:
        """``val_<figure>_<level>`` on the held-out samples, and a strip of the first chunk in ``picture`` (PNG).

        The samples are spread evenly over the noise levels and never change: validations differ by the weights alone.
        """
        if not self.held_out:
            return {}
        shown = self.held_out[0]
        low = F.interpolate(shown["lq"], scale_factor=4.0, mode="nearest")
        images = {"LR": low, **self.columns(shown), "ground truth": shown["gt"] * 2 - 1}
        write_frame(picture, np.concatenate([_column(*titled) for titled in images.items()], axis=1))
        return {f"val_{name}_{k}": v for name, levels in self.figures().items() for k, v in levels.items()}

    def by_level(self, errors: Callable[[Sample], Tensor]) -> dict[str, float]:
        """The mean of ``errors(chunk)`` (B, ...) over all held-out samples, for each of :data:`LEVELS`."""
        values = torch.cat([errors(chunk).flatten(1).mean(1) for chunk in self.held_out])
        timesteps = torch.cat([chunk["timesteps"] for chunk in self.held_out])
        return {k: float(values[(timesteps >= a) & (timesteps < b)].mean()) for k, (a, b) in LEVELS.items()}


def _column(title: str, images: Tensor) -> Frame:
    """Images (B, 3, H, W) in [-1, 1] below each other, under a title."""
    stacked = (images.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).flatten(0, 1).cpu().numpy()
    caption = Image.new("RGB", (stacked.shape[1], CAPTION), "white")
    ImageDraw.Draw(caption).text((2, 1), title, fill="black")
    return np.concatenate([np.asarray(caption), np.rint(stacked * 255).astype(np.uint8)])


@dataclass(frozen=True)
class TaskInputs:
    """What a task is built from."""

    model: Path  #: folder of the base model
    settings: Any  #: of the kind's class: Training, Finetuning or Distillation
    clips: Sequence[Clip]  #: to train on; unused with cached samples
    held_out: Sequence[Clip]  #: to validate on; may be empty
    device: torch.device
    samples: Path | None = None  #: cached samples (:mod:`.cached_samples`)
