"""MATLAB-compatible bicubic resizing of 8-bit frames to any size; :mod:`.degradation` has the factors 4 and 1/4."""

from __future__ import annotations

import numpy as np

from stablevsr.data.degradation import resize_matrix, rounded
from stablevsr.data.frames import Frame


def resize(frame: Frame, height: int, width: int) -> Frame:
    """Resize uint8 (H, W, 3) like MATLAB's ``imresize(frame, [height width])``, antialiased along axes that shrink.

    The factor of each axis is that of its sides, so that borders stay borders. Returns uint8 (height, width, 3).
    """
    image = frame.astype(np.float32)
    # the matrix has ceil(length * factor) rows, one too many where the product is rounded up
    sides = zip(frame.shape[:2], (height, width), strict=True)
    rows, columns = (resize_matrix(length, side / length)[:side] for length, side in sides)
    resized = np.tensordot(columns, np.tensordot(rows, image, axes=(1, 0)), axes=(1, 1))
    return rounded(resized.transpose(1, 0, 2))
