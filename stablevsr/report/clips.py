"""Frames of a study for figures and the page: which clips are there, reading them, and where to look in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stablevsr.data.frames import Frame, list_frames, read_frame
from stablevsr.runtime.errors import UserError
from stablevsr.study.methods import Method
from stablevsr.study.paths import Paths

Video = NDArray[np.uint8]  #: (N, H, W, 3)
Box = tuple[int, int, int, int]  #: top, left, height, width


@dataclass(frozen=True)
class Clip:
    """One clip of a dataset, with its ground-truth frames."""

    dataset: str
    name: str
    gt: tuple[Path, ...]

    @property
    def stems(self) -> list[str]:
        """Names of the frames."""
        return [path.stem for path in self.gt]


def find_clips(paths: Paths, dataset: str, limit: int) -> list[Clip]:
    """The first ``limit`` clips of a dataset whose ground truth is there, by name."""
    root = paths.dataset(dataset) / "gt"
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []
    clips = (Clip(dataset, folder.name, tuple(list_frames(folder))) for folder in folders[:limit])
    return [clip for clip in clips if clip.gt]


def video(files: Sequence[Path]) -> Video | None:
    """The frames (N, H, W, 3), or None if one is missing, damaged, or of another size."""
    try:
        frames = [read_frame(path) for path in files]
    except UserError:
        return None
    return np.stack(frames) if frames and len({frame.shape for frame in frames}) == 1 else None


def method_files(paths: Paths, clip: Clip, method: Method, seed: int | None = None) -> list[Path]:
    """Where the frames of ``clip`` by ``method`` lie (its first seed unless told), one for each ground-truth frame."""
    form = method.on(clip.dataset)
    folder = paths.frames(clip.dataset, form.digest, form.seeds[0] if seed is None else seed) / clip.name
    return [folder / f"{stem}.png" for stem in clip.stems]


def method_video(paths: Paths, clip: Clip, method: Method) -> Video | None:
    """The frames of ``clip`` by ``method``; None where they are missing, damaged or not of the ground truth's size."""
    if clip.dataset not in method.datasets:
        return None
    found = video(method_files(paths, clip, method))
    if found is None or found.shape[1:3] != read_frame(clip.gt[0]).shape[:2]:
        return None
    return found


def lr_video(paths: Paths, clip: Clip) -> Video | None:
    """The low-resolution frames of ``clip``."""
    folder = paths.dataset(clip.dataset) / "lr" / clip.name
    return video([folder / f"{stem}.png" for stem in clip.stems])


def luma(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Brightness of RGB frames (..., 3) in [0, 255]."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.asarray(frames.astype(np.float32) @ weights, np.float32)


def moving_row(gt: Video) -> int:
    """The row of pixels where the ground truth changes most from frame to frame (mean over five rows)."""
    if len(gt) < 2:
        return int(gt.shape[1] // 2)
    change = np.abs(np.diff(luma(gt), axis=0)).mean((0, 2))
    smooth = np.convolve(change, np.ones(5) / 5, mode="same")
    return int(smooth.argmax())


def detailed_box(frame: Frame, size: int) -> Box:
    """The square of about ``size`` pixels with the strongest gradients: where super-resolution has work to do."""
    height, width = frame.shape[:2]
    size = min(size, height, width)
    rows, columns = np.gradient(luma(frame))
    total = np.pad(np.hypot(rows, columns).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    step = max(1, size // 8)
    tops, lefts = np.arange(0, height - size + 1, step)[:, None], np.arange(0, width - size + 1, step)[None]
    sums = total[tops + size, lefts + size] - total[tops, lefts + size] - total[tops + size, lefts] + total[tops, lefts]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return (int(tops[top, 0]), int(lefts[0, left]), size, size)


def cut(frame: Frame, box: Box) -> Frame:
    """The part of a frame inside ``box``."""
    top, left, height, width = box
    return frame[top : top + height, left : left + width]
