"""A pair of frames for metrics that compare pixels: as RGB, as luma and down-scaled, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stablevsr.data.degradation import degrade
from stablevsr.data.frames import Frame

Image = NDArray[np.float64]


@dataclass(frozen=True)
class FramePair:
    """A frame of the ground truth and of a method, uint8 RGB (H, W, 3) of equal size; conversions are cached.

    Without ground truth ``gt`` is the LR frame (H/4, W/4, 3), and only :attr:`low` has a meaning.
    """

    gt: Frame
    sr: Frame

    @cached_property
    def rgb(self) -> tuple[Image, Image]:
        """Both frames (H, W, 3) in [0, 1], the ground truth first."""
        return self.gt / 255.0, self.sr / 255.0

    @cached_property
    def luma(self) -> tuple[Image, Image]:
        """Both frames as luma (H, W) in [16, 235], the ground truth first."""
        return luma(self.gt), luma(self.sr)

    @cached_property
    def low(self) -> tuple[Image, Image]:
        """Both down-scaled to (H/4, W/4, 3) in [0, 1], the ground truth first; a ``gt`` that is an LR frame stays."""
        gt = degrade(self.gt) if self.gt.shape == self.sr.shape else self.gt
        return gt / 255.0, degrade(self.sr) / 255.0


def luma(frame: Frame) -> Image:
    """BT.601 luma (H, W) of a uint8 RGB frame in [16, 235], not rounded, as MATLAB's rgb2ycbcr on floats."""
    weights = np.array([65.481, 128.553, 24.966]) / 255.0
    return np.asarray(frame.astype(np.float64) @ weights + 16.0)
