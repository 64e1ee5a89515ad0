"""Folders of ground truth and of results for the tests of ``evaluate``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from stablevsr.data.frames import write_frame

SIZE = (40, 48)
COUNTS = {"a": 5, "b": 3}  #: frames by sequence


def clip(seed: int, frames: int, noise: float = 0.0) -> list[np.ndarray]:
    """A smooth texture that pans by (1, 2) pixels a frame, with noise: uint8 (H, W, 3)."""
    coarse = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    wide = torch.nn.functional.interpolate(coarse, size=(96, 96), mode="bicubic")[0].permute(1, 2, 0).numpy()
    random = np.random.default_rng(seed)
    views = [wide[f : f + SIZE[0], 2 * f : 2 * f + SIZE[1]] for f in range(frames)]
    return [
        np.clip(255 * (view + noise * random.standard_normal(view.shape)), 0, 255).round().astype(np.uint8)
        for view in views
    ]


def write(folder: Path, clips: dict[str, list[np.ndarray]]) -> Path:
    for name, frames in clips.items():
        for index, frame in enumerate(frames):
            write_frame(folder / name / f"{index:04d}.png", frame)
    return folder
