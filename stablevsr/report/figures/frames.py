"""Figures of frames: a row of pixels over time, crops beside the ground truth, and both for each ablation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from stablevsr.data.frames import Frame
from stablevsr.report.clips import (
    Clip,
    Video,
    cut,
    detailed_box,
    find_clips,
    lr_video,
    method_video,
    moving_row,
    video,
)
from stablevsr.report.figures.style import VERMILLION, distinct, save
from stablevsr.report.scores import ScoreBook
from stablevsr.study.methods import Method

MAX_CLIPS = 4
CROP = 64  #: pixels a side
SLICE_HEIGHT = 48  #: a short clip's slice is stretched to about this many rows


@dataclass(frozen=True)
class _Column:
    """One clip: its ground truth and the versions that are there, by label."""

    clip: Clip
    gt: Video
    versions: dict[str, Video]


def draw(book: ScoreBook, folder: Path) -> list[Path]:
    """``temporal_profile_<dataset>``, ``crops_<dataset>`` and ``ablation_<name>``."""
    files: list[Path] = []
    for dataset in book.study.main_datasets():
        columns = _columns(book, dataset, distinct(book.study.table1()), MAX_CLIPS)
        if columns:
            files += temporal_profile(columns, folder, f"temporal_profile_{dataset}")
            files += crops(book, columns, folder, f"crops_{dataset}")
    for name in book.study.ablations:
        files += ablation(book, name, folder)
    return files


def _columns(book: ScoreBook, dataset: str, methods: list[Method], limit: int) -> list[_Column]:
    """Clips that have ground truth and at least one method's frames."""
    columns = []
    for clip in _chosen_clips(book, dataset, limit):
        gt = video(clip.gt)
        if gt is None:
            continue
        found = {m.label: method_video(book.paths, clip, m) for m in methods}
        versions = {label: frames for label, frames in found.items() if frames is not None}
        if versions:
            columns.append(_Column(clip, gt, versions))
    return columns


def _chosen_clips(book: ScoreBook, dataset: str, limit: int) -> list[Clip]:
    """The first clips of a dataset, those in focus before those out of it."""
    focus = book.focus(dataset).clips
    clips = find_clips(book.paths, dataset, 100)
    return sorted(clips, key=lambda clip: focus is not None and clip.name not in focus)[:limit]


def _labels(columns: list[_Column]) -> list[str]:
    return list(dict.fromkeys(label for column in columns for label in column.versions))


def temporal_profile(columns: list[_Column], folder: Path, name: str) -> list[Path]:
    """A row of pixels (x to the right) over time (downwards): even motion gives smooth lines, flicker ragged ones."""
    labels = ["Ground truth", *_labels(columns)]
    figure, axes = plt.subplots(
        len(labels) + 1,
        len(columns),
        figsize=(1.75 * len(columns) + 1.3, 1.6 + 0.55 * len(labels)),
        squeeze=False,
        gridspec_kw={"height_ratios": [2.6] + [1] * len(labels)},
    )
    for index, column in enumerate(columns):
        row = moving_row(column.gt)
        _picture(axes[0, index], column.gt[len(column.gt) // 2])
        axes[0, index].axhline(row, color=VERMILLION, linewidth=1)
        axes[0, index].set_title(f"clip {column.clip.name}")
        for axis, label in zip(axes[1:, index], labels, strict=True):
            shown = column.gt if label == "Ground truth" else column.versions.get(label)
            _picture(axis, None if shown is None else time_slice(shown, row), aspect="auto")
    _row_labels(axes[:, 0], ["the row", *labels])
    return save(figure, folder, name)


def time_slice(frames: Video, row: int) -> Frame:
    """One row of pixels over time, (about SLICE_HEIGHT or N, W, 3): every frame gives the same number of rows."""
    repeat = max(1, SLICE_HEIGHT // len(frames))
    return np.repeat(frames[:, row], repeat, axis=0)


def crops(book: ScoreBook, columns: list[_Column], folder: Path, name: str) -> list[Path]:
    """The most detailed square of each clip's middle frame, every pixel a square: input, methods, ground truth."""
    labels = _labels(columns)
    heads = ["LR input", *labels, "Ground truth"]
    figure, axes = plt.subplots(
        len(columns), len(heads), figsize=(1.12 * len(heads), 1.08 * len(columns) + 0.5), squeeze=False
    )
    for axes_row, column in zip(axes, columns, strict=True):
        middle = len(column.gt) // 2
        box = detailed_box(column.gt[middle], CROP)
        low = lr_video(book.paths, column.clip)
        small = None if low is None else _low_crop(low[middle], column.gt[middle], box)
        versions = [column.versions.get(label) for label in labels]
        pictures = [small, *(None if v is None else cut(v[middle], box) for v in versions), cut(column.gt[middle], box)]
        for axis, picture in zip(axes_row, pictures, strict=True):
            _picture(axis, picture)
        axes_row[0].set_ylabel(f"clip {column.clip.name}", fontsize=7)
    for axis, label in zip(axes[0], heads, strict=True):
        axis.set_title(_wrapped(label), fontsize=7)
    return save(figure, folder, name)


def _low_crop(low: Frame, gt: Frame, box: tuple[int, int, int, int]) -> Frame:
    """The same place in the low-resolution frame."""
    scale = gt.shape[0] / low.shape[0]
    top, left, height, width = (round(side / scale) for side in box)
    return cut(low, (top, left, height, width))


def ablation(book: ScoreBook, name: str, folder: Path) -> list[Path]:
    """For one clip, what the variants make of it: the detailed crop, and below it the row of pixels over time."""
    methods = list(book.study.ablation_methods(name).values())
    datasets = book.study.ablation_datasets(name)
    columns = _columns(book, datasets[0], methods, 1)
    if not columns:
        return []
    column = columns[0]
    shown = {**column.versions, "Ground truth": column.gt}
    middle, row = len(column.gt) // 2, moving_row(column.gt)
    box = detailed_box(column.gt[middle], CROP)
    figure, axes = plt.subplots(
        2, len(shown), figsize=(1.3 * len(shown) + 0.3, 2.5), squeeze=False, gridspec_kw={"height_ratios": [2, 1]}
    )
    for index, (label, frames) in enumerate(shown.items()):
        _picture(axes[0, index], cut(frames[middle], box))
        left = min(box[1], frames.shape[2] - CROP)
        _picture(axes[1, index], time_slice(frames, row)[:, max(left, 0) : left + CROP], aspect="auto")
        axes[0, index].set_title(_wrapped(label), fontsize=7)
    _row_labels(axes[:, 0], [f"clip {column.clip.name}", "over time"])
    return save(figure, folder, f"ablation_{name}")


def _picture(axis: Any, picture: Frame | None, aspect: str = "equal") -> None:
    """Show pixels as they are, without smoothing; a missing picture is said to be missing."""
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
    import textwrap

    return "\n".join(textwrap.wrap(label, width)[:3])
