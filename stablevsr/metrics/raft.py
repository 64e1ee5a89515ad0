"""RAFT along a clip, for tOF: the flow of every frame to the one before it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from stablevsr.motion import RAFTFlow


class ConsecutiveRAFT:
    def __init__(self, file: Path | None, device: torch.device | str = "cpu") -> None:
        self.flow = RAFTFlow(file, device)

    def __call__(self, frames: Tensor) -> Tensor:
        return self.flow(frames[1:], frames[:-1])
