"""What the training loop trains: the interface of a task, the settings of the loop, and what tasks are built from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset

from stablevsr.data.layouts import Sequence as Clip
from stablevsr.method.settings import Optimisation

Sample = dict[str, Tensor]


class LoopSettings(Optimisation):
    """How to optimise: the settings of a training, and what only the loop knows."""

    learning_rate_new: float | None = Field(None, gt=0)  #: for layers that are not copied from the base model
    weight_decay: float = Field(1e-2, ge=0)
    ema: float = Field(0.0, ge=0, lt=1)  #: decay of the weights' moving average that is saved; 0 = the last weights
    workers: int = Field(2, ge=0)  #: processes that read crops
    save_every: int = Field(500, ge=1)
    log_every: int = Field(50, ge=1)


class TrainingTask(ABC):
    """Something that can be trained: its data, its loss, and how its result is saved."""

    model: Any  #: the nn.Module that is optimised (of diffusers' classes, which mypy cannot see into)
    data: Dataset[Sample]
    copied: Sequence[Path] = ()  #: folders that belong to the result beside the trained weights

    @abstractmethod
    def loss(self, batch: Sample, generators: Sequence[torch.Generator]) -> Tensor:
        """Scalar loss of one micro-batch; a row's randomness comes from its own generator (on the CPU)."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the trained weights into ``folder`` in diffusers' layout."""

    def parameter_groups(self, settings: LoopSettings) -> list[dict[str, Any]]:
        """Optimiser groups; tasks with copied and new layers override it."""
        return [{"params": [p for p in self.model.parameters() if p.requires_grad], "lr": settings.learning_rate}]

    def validate(self, picture: Path) -> dict[str, float]:
        """Figures on fixed held-out windows, and what they look like in ``picture`` (PNG); none by default."""
        return {}


@dataclass(frozen=True)
class TaskInputs:
    """What a task is built from."""

    model: Path  #: folder of the base model
    settings: Any  #: of the kind's class: Training, Finetuning or Distillation
    clips: Sequence[Clip]  #: to train on; unused with cached samples
    held_out: Sequence[Clip]  #: to validate on; may be empty
    device: torch.device
    samples: Path | None = None  #: cached samples (:mod:`.cached_samples`)
