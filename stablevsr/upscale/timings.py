"""The times of a video's frames, and whether a file ends before it should by what its header declares."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av

TRUNCATED = 0.9  #: with less than this share of what it declares a file is cut off; an edit list may hide a few frames
SLACK = 2  #: frames by which the length in an FLV file's header is too long
TIMED = ("matroska,webm", "flv")  #: FFmpeg's names of containers that declare a length and no number of frames


class Timing(NamedTuple):
    """When a frame is shown and for how long, in units of the video's time base."""

    start: int
    duration: int


def cut_off(container: Any, stream: Any, timings: Sequence[Timing], rate: Fraction, time_base: Fraction) -> str | None:
    """What is missing of a stream of which the frames with ``timings`` were read, for a message; None if nothing is.

    ``container`` and ``stream`` are PyAV's, ``rate`` is in frames a second, ``time_base`` in seconds.
    """
    first, last = (timings[0], timings[-1]) if timings else (Timing(0, 0), Timing(0, 0))
    stops = last.start + last.duration
    # an AVI file with dropped frames has fewer than it declares, but they last as long
    lasts_long_enough = stream.duration and stops - first.start >= stream.duration * TRUNCATED
    if len(timings) < stream.frames * TRUNCATED and not lasts_long_enough:
        return f"{len(timings)} of its {stream.frames} frames can be read"
    end, seconds = _declared_end(container, stream), stops * time_base
    if seconds + SLACK / rate < end * TRUNCATED:
        return f"it stops at {float(seconds):.2f} of its {float(end):.2f} seconds"
    return None


def _declared_end(container: Any, stream: Any) -> Fraction:
    """When a stream ends by the header of a :data:`TIMED` container, in seconds; 0 where it does not say so.

    Beside sound, which may be longer, only the tag that FFmpeg writes tells the length of the video.
    """
    if container.format.name not in TIMED:
        return Fraction(0)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag:
        hours, minutes, seconds = map(Fraction, tag.groups())
        return hours * 3600 + minutes * 60 + seconds
    return Fraction(0 if container.streams.audio else container.duration or 0, av.time_base)
