"""Bicubic interpolation as MATLAB's ``imresize`` does it, in 8 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stablevsr.baselines import Upscaler, register
from stablevsr.data.degradation import bicubic_upscale


@register("bicubic")
def load(_device: str) -> Upscaler:
    """Nothing to load."""
    return upscale


def upscale(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Frame by frame, rounded to 8 bits."""
    enlarged = np.stack([bicubic_upscale(frame) for frame in frames])
    return enlarged.astype(np.float32) / np.float32(255)
