"""MATLAB-compatible bicubic resizing of 8-bit frames to any size; :mod:`.degradation` has the factors 4 and 1/4."""

from __future__ import annotations

from stablevsr.data.degradation import resize_axes, rounded
from stablevsr.data.frames import Frame


def resize(frame: Frame, height: int, width: int) -> Frame:
    """Resize uint8 (H, W, 3) like MATLAB's ``imresize(frame, [height width])``, antialiased along axes that shrink.

    The factor of each axis is that of its sides, so that borders stay borders. Returns uint8 (height, width, 3).
    """
    resized = resize_axes(frame, height / frame.shape[0], width / frame.shape[1])
    return rounded(resized[:height, :width])  # a side is one too many where length * factor is rounded up
