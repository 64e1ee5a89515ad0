"""What all runs over a clip's windows share: the outputs, which window each final frame is of, and what is finished."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from stablevsr.upscale.clips import SizedClip
from stablevsr.upscale.windows import Window


class WindowedRun(ABC):
    """The work on one clip.

    Args:
        clip: its LR frames.
        work: folder for what is needed until the clip is finished; removed then.
        result: folder for the x4 frames, PNG with the stems of the LR frames; only final frames are written.
        windows: in order; they cover the clip.
        steps: pieces of work a frame of a window takes, for progress.
    """

    def __init__(self, clip: SizedClip, work: Path, result: Path, windows: Sequence[Window], steps: int) -> None:
        self.clip, self.work, self.windows, self.steps = clip, work, windows, steps
        self.outputs = [result / f"{file.stem}.png" for file in clip.files]
        starts = [*(window.start for window in windows), len(clip.files)]
        self.final = [range(*pair) for pair in pairwise(starts)]  # of each window: its frames before the next one

    @property
    def total(self) -> int:
        """Pieces of work of the whole clip; frames in two windows count twice."""
        return sum(map(len, self.windows)) * self.steps

    def done(self) -> int:
        """Pieces of work finished, by this run or an earlier one."""
        return self.total if self.is_finished() else sum(map(self.done_of, range(len(self.windows))))

    @abstractmethod
    def done_of(self, index: int) -> int:
        """As :meth:`done`, for one window of a clip that is not finished."""

    def is_finished(self) -> bool:
        """Whether all x4 frames are written."""
        return all(path.exists() for path in self.outputs)

    def is_written(self, index: int) -> bool:
        """Whether the final frames of a window are written."""
        return all(self.outputs[frame].exists() for frame in self.final[index])

    def folder(self, index: int) -> Path:
        """The folder of a window below ``work``."""
        return self.work / f"window{index:06d}"
