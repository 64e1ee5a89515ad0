"""Bicubic interpolation as MATLAB's ``imresize`` does it, in 8 bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stablevsr.baselines import Upscaler, register
from stablevsr.data.degradation import bicubic_upscale


@register("bicubic")
def load(_device: str, _precision: str) -> Upscaler:
    """Nothing to load."""
    return Upscaler(stream)


def stream(frames: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    """Frame by frame, rounded to 8 bits."""
    for frame in frames:
        yield bicubic_upscale(frame).astype(np.float32) / np.float32(255)
