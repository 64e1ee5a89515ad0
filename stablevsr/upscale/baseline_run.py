"""One clip by a baseline, from LR frames to x4 frames on disk, window by window; finished windows are not made again.

Only the LR frames of a window are in memory, and one x4 frame. A baseline that looks at one frame alone has windows of
one frame. Otherwise neighbouring windows overlap and are cross-faded, as those of the sampler (:mod:`.windows`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablevsr.baselines import Upscaler
from stablevsr.data.frames import read_frame, write_frame
from stablevsr.upscale.clips import SizedClip
from stablevsr.upscale.windowed_run import WindowedRun
from stablevsr.upscale.windows import Window, split


class BaselineRun(WindowedRun):
    """The work on one clip, in frames.

    Args:
        clip, work, result: as for :class:`WindowedRun`; ``work`` holds the frames in which windows overlap.
        window: largest number of frames that the baseline gets at once; 0 = all, 1 = it looks at one frame alone.
    """

    def __init__(self, clip: SizedClip, work: Path, result: Path, window: int) -> None:
        count = len(clip.files)
        windows = [Window(i, i + 1, i) for i in range(count)] if window == 1 else split(count, window)
        super().__init__(clip, work, result, windows, steps=1)

    def done_of(self, index: int) -> int:
        """Frames of a window if it is finished, else 0: half a window is made again."""
        return len(self.windows[index]) if self._is_done(index) else 0

    def run(self, upscaler: Upscaler, progress: Callable[[int], Any]) -> None:
        """Make all frames that are not written yet; ``progress`` is called with the number of frames just done."""
        for index, window in enumerate(self.windows):
            if not self._is_done(index):
                lr = np.stack([read_frame(file) for file in self.clip.files[window.start : window.stop]])
                for frame, image in enumerate(upscaler.stream(lr), start=window.start):
                    self._write(index, frame, image)
                    progress(1)
        shutil.rmtree(self.work, ignore_errors=True)

    def _write(self, index: int, frame: int, image: NDArray[np.float32]) -> None:
        """Write a frame of a window: cross-faded with the window before, or kept for the one after."""
        share = self.windows[index].weight(frame)
        if share < 1:
            before = read_frame(self._overlap(index - 1, frame)).astype(np.float32) / 255
            image = (share * image + (1 - share) * before).astype(np.float32)
        path = self.outputs[frame] if frame in self.final[index] else self._overlap(index, frame)
        write_frame(path, np.rint(image * 255).astype(np.uint8))

    def _overlap(self, index: int, frame: int) -> Path:
        return self.folder(index) / f"{frame:08d}.png"

    def _is_done(self, index: int) -> bool:
        """Whether its final frames are written, and those that it shares with the next window."""
        shared = range(self.final[index].stop, self.windows[index].stop)
        return self.is_written(index) and all(self._overlap(index, frame).exists() for frame in shared)
