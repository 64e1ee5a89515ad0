"""Scales other than x4: the sizes of frames, and the resizing after a pass, which always makes x4 frames.

Up to x4 there is one pass, whose frames are down-scaled to the wanted size. Above x4 there are two: the x4 frames are
down-scaled to a quarter of the wanted size, by the degradation that the networks learned to undo, and the second pass
enlarges them to the wanted size. The second pass costs (scale / 4)^2 times the first one; making x16 frames and
down-scaling those would always cost 16 times the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor
from pathlib import Path

from stablevsr.data.degradation import SCALE
from stablevsr.data.frames import read_frame, write_frame
from stablevsr.data.resizing import resize
from stablevsr.runtime.errors import UserError
from stablevsr.upscale.clips import Size, SizedClip, remove_damaged

LARGEST_AREA = 2 * 89_478_485  #: pixels; Pillow refuses to open larger files


def output_size(height: int, width: int, scale: float) -> Size:
    """Sides ``scale`` times as large, rounded to whole pixels, halves up."""
    exact = Fraction(str(scale))  # the decimal number that was typed: 1.005 times 100 is 100.5, not below it

    def rounded(side: int) -> int:
        return floor(exact * side + Fraction(1, 2))

    return rounded(height), rounded(width)


def input_size(size: Size) -> Size:
    """The size of LR frames whose x4 frames are as large as ``size``, or up to 3 pixels a side larger."""
    return -(-size[0] // SCALE), -(-size[1] // SCALE)


def check_area(height: int, width: int, size: Size, where: Path) -> None:
    """Raise :class:`UserError` if a pass on the way from ``height``, ``width`` to ``size`` makes too large frames."""
    last = max((height, width), input_size(size))
    made = (SCALE * last[0], SCALE * last[1])
    if made[0] * made[1] > LARGEST_AREA:
        raise UserError(
            f"{where} is {width}x{height} and takes frames of {made[1]}x{made[0]}, more than the {LARGEST_AREA:,} "
            "pixels that can be read: cut it, or give a smaller --scale"
        )


def resized(clips: Sequence[SizedClip], sizes: Sequence[Size], folder: Path) -> list[SizedClip]:
    """``clips`` with frames of ``sizes``, written below ``folder``; whole frames that are there already are kept."""
    return [_resized(clip, size, folder / clip.name) for clip, size in zip(clips, sizes, strict=True)]


def _resized(clip: SizedClip, size: Size, folder: Path) -> SizedClip:
    made = [folder / file.name for file in clip.files]
    remove_damaged(made)
    for file, target in zip(clip.files, made, strict=True):
        if not target.exists():
            write_frame(target, resize(read_frame(file), *size))
    return SizedClip(clip.name, tuple(made), *size)
