"""The frames of a study's clips, for figures and the page, and the rows and boxes of pixels that show most."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stablevsr.data.frames import Frame, list_frames, read_frame
from stablevsr.runtime.errors import UserError
from stablevsr.study.methods import Method
from stablevsr.study.paths import Paths

Video = NDArray[np.uint8]  #: (N, H, W, 3)
Box = tuple[int, int, int, int]  #: top, left, height, width
INPUT, TRUTH = "LR input", "Ground truth"  #: labels of the frames that no method made


@dataclass(frozen=True)
class ClipFrames:
    """One clip of a dataset; the input and every method have a frame for each of ``gt_files``."""

    paths: Paths
    dataset: str
    name: str
    gt_files: tuple[Path, ...]

    def middle(self, count: int) -> ClipFrames:
        """The clip with ``count`` frames that end with its middle one; all of a shorter clip."""
        last = len(self.gt_files) // 2
        return replace(self, gt_files=self.gt_files[max(0, last - count + 1) : last + 1])

    def thinned(self, most: int) -> ClipFrames:
        """The clip with at most ``most`` of its frames, evenly chosen, first and last included."""
        chosen = np.unique(np.linspace(0, len(self.gt_files) - 1, min(len(self.gt_files), most)).round().astype(int))
        return replace(self, gt_files=tuple(self.gt_files[i] for i in chosen))

    def videos(self, methods: Iterable[Method]) -> dict[str, Video]:
        """The input, the output of ``methods`` and the ground truth by label, without those that lack a frame."""
        truth = self.truth()
        return dict(self.inputs_and_outputs(methods)) | ({} if truth is None else {TRUTH: truth})

    def truth(self) -> Video | None:
        """The ground truth; None if a frame is damaged or of another size."""
        return _read(self.gt_files)

    def inputs_and_outputs(self, methods: Iterable[Method]) -> Iterator[tuple[str, Video]]:
        """Label and frames of the input and of ``methods``, one at a time, without those that lack a frame."""
        lr = self._in(self.paths.dataset(self.dataset) / "lr")
        if lr is not None:
            yield INPUT, lr
        for method in methods:
            if (frames := self.output(method)) is not None:
                yield method.label, frames

    def output(self, method: Method) -> Video | None:
        """The frames by ``method`` in run 0; None if one is missing, damaged, or not of the GT's size."""
        if self.dataset not in method.datasets:
            return None
        form = method.on(self.dataset)
        found = self._in(self.paths.frames(self.dataset, form.digest, form.run))
        return None if found is None or found.shape[1:3] != read_frame(self.gt_files[0]).shape[:2] else found

    def _in(self, folder: Path) -> Video | None:
        return _read([folder / self.name / f"{path.stem}.png" for path in self.gt_files])


def find_clips(paths: Paths, dataset: str, limit: int) -> list[ClipFrames]:
    """Those of the first ``limit`` clips of a dataset, by name, that have ground-truth frames."""
    root = paths.dataset(dataset) / "gt"
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []
    clips = (ClipFrames(paths, dataset, folder.name, tuple(list_frames(folder))) for folder in folders[:limit])
    return [clip for clip in clips if clip.gt_files]


def _read(files: Sequence[Path]) -> Video | None:
    """The frames (N, H, W, 3), or None if one is missing, damaged, or of another size."""
    try:
        frames = [read_frame(path) for path in files]
    except UserError:
        return None
    return np.stack(frames) if frames and len({frame.shape for frame in frames}) == 1 else None


def _brightness(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Luma (..., H, W) in [0, 255] of RGB frames (..., H, W, 3)."""
    return np.asarray(frames.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)


def moving_row(gt: Video) -> int:
    """The row of pixels where the ground truth changes most from frame to frame (mean over five rows)."""
    if len(gt) < 2:
        return int(gt.shape[1] // 2)
    change = np.abs(np.diff(_brightness(gt), axis=0)).mean((0, 2))
    return int(np.convolve(change, np.ones(5) / 5, mode="same").argmax())


def detailed_box(frame: Frame, size: int) -> Box:
    """The square of at most ``size`` pixels a side with the strongest gradients."""
    size = min(size, *frame.shape[:2])
    rows, columns = np.gradient(_brightness(frame))
    total = cv2.integral(np.hypot(rows, columns))
    sums = total[size:, size:] - total[:-size, size:] - total[size:, :-size] + total[:-size, :-size]
    step = max(1, size // 8)
    top, left = np.unravel_index(int(sums[::step, ::step].argmax()), sums[::step, ::step].shape)
    return (int(top) * step, int(left) * step, size, size)


def cut(frame: Frame, box: Box, ratio: float = 1.0) -> Frame:
    """The part of a frame inside ``box``, whose numbers are pixels of a frame ``ratio`` times as large."""
    top, left, height, width = (round(side / ratio) for side in box)
    return frame[top : top + height, left : left + width]
