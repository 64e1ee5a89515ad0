"""Windows over a long clip: which frames are sampled together, and how neighbouring windows are joined.

Sampling a clip in windows is an approximation: a frame near a window's border is guided by fewer frames than in the
whole clip. Two things avoid a visible seam: each frame has the same noise in every window, so that neighbouring windows
synthesise nearly the same detail where they overlap, and the overlap is cross-faded.
"""

from __future__ import annotations

from dataclasses import dataclass

SMALLEST = 4  #: frames; shorter windows would have no overlap


@dataclass(frozen=True)
class Window:
    """Frames [start, stop) sampled together; [start, joined) are cross-faded with the window before.

    ``joined`` is the end of the window before, and ``start`` for the first window.
    """

    start: int
    stop: int
    joined: int

    def __len__(self) -> int:
        return self.stop - self.start

    def weight(self, frame: int) -> float:
        """The share of this window in ``frame``: rises evenly over the overlap with the window before, then 1."""
        if frame >= self.joined:
            return 1.0
        return (frame - self.start + 1) / (self.joined - self.start + 1)


def split(frames: int, size: int) -> list[Window]:
    """Cover ``frames`` by windows of at most ``size`` whose lengths differ by one at most; ``size`` 0 is one window.

    Neighbouring windows share a quarter of ``size``, at most 8 frames.
    """
    if size == 0 or size >= frames:
        return [Window(0, frames, 0)]
    shared = min(8, size // 4)
    count = -(-(frames - shared) // (size - shared))
    sampled = frames + (count - 1) * shared
    starts = [sampled * index // count - index * shared for index in range(count)]
    stops = [*(start + shared for start in starts[1:]), frames]
    return [Window(*window) for window in zip(starts, stops, [0, *stops[:-1]], strict=True)]
