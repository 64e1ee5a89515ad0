"""MATLAB-compatible bicubic resizing: the degradation of the BI x4 protocol, and the bicubic baseline.

MATLAB's ``imresize`` widens the cubic kernel when it shrinks an image (antialiasing) and mirrors the border, including
the edge pixel. PIL, OpenCV and scikit-image do not, which shifts scores of super-resolution methods by tenths of a dB.
The reference for the tests is BasicSR's ``imresize`` (``tests/vectors/metrics_bunny``).
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

SCALE = 4  #: the paper's factor; the VAE's decoder has two upsampling stages
#: Output rows and image columns of one matrix product: small enough that BLAS starts no threads, because frames are
#: already resized in parallel threads, and more threads made that seven times slower.
ROWS, COLUMNS = 8, 512


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -0.5, as MATLAB uses it."""
    a = np.abs(x)
    near = (1.5 * a - 2.5) * a**2 + 1.0
    far = ((-0.5 * a + 2.5) * a - 4.0) * a + 2.0
    return np.where(a <= 1, near, np.where(a <= 2, far, 0.0))


@lru_cache(maxsize=32)
def resize_matrix(length: int, scale: float) -> NDArray[np.float32]:
    """Weights (ceil(length * scale), length) that resize one axis, borders mirrored with the edge pixel repeated."""
    out_length = ceil(length * scale)
    stretch = min(scale, 1.0)  # antialiasing: the kernel is 1/scale times wider when shrinking
    width = 4.0 / stretch
    centre = (np.arange(1, out_length + 1) / scale) + 0.5 * (1 - 1 / scale)  # 1-based, as in MATLAB
    left = np.floor(centre - width / 2)
    taps = left[:, None] + np.arange(ceil(width) + 2)[None, :]
    weights = stretch * _cubic(stretch * (centre[:, None] - taps))
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = np.mod(taps.astype(np.int64) - 1, 2 * length)
    source = np.where(mirrored < length, mirrored, 2 * length - 1 - mirrored)
    matrix = np.zeros((out_length, length))
    np.add.at(matrix, (np.arange(out_length)[:, None], source), weights)
    matrix32 = matrix.astype(np.float32)
    matrix32.setflags(write=False)
    return matrix32


def imresize(image: NDArray[np.uint8] | NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Resize like MATLAB's ``imresize(image, scale)`` (bicubic, antialiased when shrinking), without rounding.

    Args:
        image: (H, W, C), any value range.
        scale: above 0; 1/4 degrades, 4 is the bicubic baseline.

    Returns:
        float32 (ceil(H*scale), ceil(W*scale), C) in the input's range; the cubic kernel may overshoot it.
    """
    return resize_axes(image, scale, scale)


def resize_axes(image: NDArray[np.uint8] | NDArray[np.float32], down: float, across: float) -> NDArray[np.float32]:
    """As :func:`imresize`, with a scale for each axis: of the height, and of the width."""
    height, width, channels = image.shape
    rows = _resize_rows(image.astype(np.float32).reshape(height, -1), down)
    turned = rows.reshape(-1, width, channels).transpose(1, 0, 2).reshape(width, -1)
    columns = _resize_rows(turned, across)
    return np.ascontiguousarray(columns.reshape(-1, len(rows), channels).transpose(1, 0, 2))


def _resize_rows(pixels: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Resize the first axis of (length, n)."""
    length, count = pixels.shape
    resized = np.empty((ceil(length * scale), count), dtype=np.float32)
    for first, used, weights in _bands(length, scale):
        for left in range(0, count, COLUMNS):
            part = slice(left, left + COLUMNS)
            resized[first : first + len(weights), part] = weights @ pixels[used, part]
    return resized


@lru_cache(maxsize=32)
def _bands(length: int, scale: float) -> list[tuple[int, slice, NDArray[np.float32]]]:
    """The sparse weight matrix in bands: first output row, the input rows used, and the weights of those."""
    matrix = resize_matrix(length, scale)
    bands = []
    for first in range(0, len(matrix), ROWS):
        band = matrix[first : first + ROWS]
        columns = np.flatnonzero(band.any(axis=0))
        used = slice(int(columns[0]), int(columns[-1]) + 1)
        bands.append((first, used, np.ascontiguousarray(band[:, used])))
    return bands


def rounded(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round to the nearest grey level and clip to 0..255 (input in 0..255)."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def degrade(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The BI x4 degradation: uint8 (H, W, 3) -> uint8 (H/4, W/4, 3) by MATLAB's bicubic.

    Source: the REDS and Vimeo-90K low-resolution sets are MATLAB bicubic of the sharp frames.
    """
    return rounded(imresize(frame, 1 / SCALE))


def bicubic_upscale(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bicubic baseline: uint8 (h, w, 3) -> uint8 (4h, 4w, 3)."""
    return rounded(imresize(frame, SCALE))
