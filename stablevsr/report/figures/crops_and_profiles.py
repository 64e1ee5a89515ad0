"""Figures of frames: crops, temporal profiles (a row of pixels over time), and both for each ablation."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from stablevsr.data.frames import Frame
from stablevsr.report.clip_frames import ClipFrames, Video, cut, detailed_box, find_clips, moving_row
from stablevsr.report.figures.style import VERMILLION, save
from stablevsr.report.scores import ScoreBook, distinct
from stablevsr.study.methods import Method

MAX_CLIPS = 4
CROP = 64  #: pixels a side
PROFILE_HEIGHT = 48  #: the profile of a short clip is stretched to about this many rows
TRUTH = "Ground truth"


@dataclass(frozen=True)
class _Column:
    """One clip: its ground truth and the methods' frames, by label."""

    clip: ClipFrames
    gt: Video
    outputs: dict[str, Video]


def draw(book: ScoreBook, folder: Path) -> list[Path]:
    """``temporal_profile_<dataset>``, ``crops_<dataset>`` and ``ablation_<name>``."""
    files: list[Path] = []
    for dataset in book.study.main_datasets():
        columns = _columns(book, dataset, distinct(book.study.table1()), MAX_CLIPS)
        if columns:
            files += temporal_profile(columns, folder, f"temporal_profile_{dataset}")
            files += crops(columns, folder, f"crops_{dataset}")
    for name in book.study.ablations:
        files += ablation(book, name, folder)
    return files


def _columns(book: ScoreBook, dataset: str, methods: list[Method], limit: int) -> list[_Column]:
    """The first clips, those in focus before the others, that have ground truth and at least one method's frames."""
    focus = book.focus(dataset).clips
    clips = find_clips(book.paths, dataset, 100)
    columns = []
    for clip in sorted(clips, key=lambda clip: focus is not None and clip.name not in focus)[:limit]:
        gt = clip.ground_truth()
        outputs = {m.label: frames for m in methods if (frames := clip.output(m)) is not None}
        if gt is not None and outputs:
            columns.append(_Column(clip, gt, outputs))
    return columns


def _labels(columns: list[_Column]) -> list[str]:
    return list(dict.fromkeys(label for column in columns for label in column.outputs))


def temporal_profile(columns: list[_Column], folder: Path, name: str) -> list[Path]:
    """A row of pixels (x to the right) over time (downwards): steady motion gives smooth lines, flicker ragged ones."""
    labels = [TRUTH, *_labels(columns)]
    figure, axes = plt.subplots(
        len(labels) + 1,
        len(columns),
        figsize=(1.75 * len(columns) + 1.3, 1.6 + 0.55 * len(labels)),
        squeeze=False,
        gridspec_kw={"height_ratios": [2.6] + [1] * len(labels)},
    )
    for (top, *below), column in zip(axes.T, columns, strict=True):
        row = moving_row(column.gt)
        show_picture(top, column.gt[len(column.gt) // 2])
        top.axhline(row, color=VERMILLION, linewidth=1)
        top.set_title(f"clip {column.clip.name}")
        for axis, label in zip(below, labels, strict=True):
            shown = column.gt if label == TRUTH else column.outputs.get(label)
            show_picture(axis, None if shown is None else profile(shown, row), aspect="auto")
    _row_labels(axes[:, 0], ["the row", *labels])
    return save(figure, folder, name)


def profile(frames: Video, row: int) -> Frame:
    """One row of pixels over time, (about PROFILE_HEIGHT or N, W, 3); every frame takes the same number of rows."""
    repeat = max(1, PROFILE_HEIGHT // len(frames))
    return np.repeat(frames[:, row], repeat, axis=0)


def crops(columns: list[_Column], folder: Path, name: str) -> list[Path]:
    """The most detailed square of each clip's middle frame, pixel by pixel: input, methods, ground truth."""
    labels = _labels(columns)
    heads = ["LR input", *labels, TRUTH]
    size = (1.12 * len(heads), 1.08 * len(columns) + 0.5)
    figure, axes = plt.subplots(len(columns), len(heads), figsize=size, squeeze=False)
    for axes_row, column in zip(axes, columns, strict=True):
        middle = len(column.gt) // 2
        box = detailed_box(column.gt[middle], CROP)
        low = column.clip.low_resolution()
        ratio = 1 if low is None else column.gt.shape[1] / low.shape[1]
        top, left, height, width = (round(side / ratio) for side in box)
        shown = [column.outputs.get(label) for label in labels]
        pictures = [
            None if low is None else cut(low[middle], (top, left, height, width)),
            *(None if frames is None else cut(frames[middle], box) for frames in (*shown, column.gt)),
        ]
        for axis, picture in zip(axes_row, pictures, strict=True):
            show_picture(axis, picture)
        axes_row[0].set_ylabel(f"clip {column.clip.name}", fontsize=7)
    for axis, label in zip(axes[0], heads, strict=True):
        axis.set_title(_wrapped(label), fontsize=7)
    return save(figure, folder, name)


def ablation(book: ScoreBook, name: str, folder: Path) -> list[Path]:
    """For one clip and every variant, the most detailed crop, and below it the row of pixels over time."""
    methods = list(book.study.ablation_methods(name).values())
    columns = _columns(book, book.study.ablation_datasets(name)[0], methods, 1)
    if not columns:
        return []
    [column] = columns
    shown = {**column.outputs, TRUTH: column.gt}
    middle, row = len(column.gt) // 2, moving_row(column.gt)
    box = detailed_box(column.gt[middle], CROP)
    size = (1.3 * len(shown) + 0.3, 2.5)
    figure, axes = plt.subplots(2, len(shown), figsize=size, squeeze=False, gridspec_kw={"height_ratios": [2, 1]})
    for (above, below), (label, frames) in zip(axes.T, shown.items(), strict=True):
        show_picture(above, cut(frames[middle], box))
        left = max(0, min(box[1], frames.shape[2] - CROP))
        show_picture(below, profile(frames, row)[:, left : left + CROP], aspect="auto")
        above.set_title(_wrapped(label), fontsize=7)
    _row_labels(axes[:, 0], [f"clip {column.clip.name}", "over time"])
    return save(figure, folder, f"ablation_{name}")


def show_picture(axis: Any, picture: Frame | None, aspect: str = "equal") -> None:
    """Show pixels as they are, without smoothing, or the word 'missing'."""
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    if picture is None:
        axis.text(0.5, 0.5, "missing", ha="center", va="center", color="#777777", transform=axis.transAxes)
    else:
        axis.imshow(picture, interpolation="nearest", aspect=aspect)


def _row_labels(axes: Any, labels: list[str]) -> None:
    for axis, label in zip(axes, labels, strict=True):
        axis.set_ylabel(_wrapped(label), rotation=0, ha="right", va="center", fontsize=7)


def _wrapped(label: str, width: int = 17) -> str:
    return "\n".join(textwrap.wrap(label, width)[:3])
