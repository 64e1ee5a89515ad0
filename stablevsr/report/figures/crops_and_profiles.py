"""Figures of frames: crops, temporal profiles (a row of pixels over time), and both for each ablation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from stablevsr.data.frames import Frame
from stablevsr.report.clip_frames import INPUT, TRUTH, Video, cut, detailed_box, find_clips, moving_row
from stablevsr.report.figures.style import VERMILLION, save
from stablevsr.report.scores import ScoreBook, distinct
from stablevsr.study.methods import Method

MAX_CLIPS = 4
CROP = 64  #: pixels a side
PROFILE_HEIGHT = 48  #: the profile of a short clip is stretched to about this many rows
Clips = dict[str, dict[str, Video]]  #: by clip, the ground truth and the other videos by label


def draw(book: ScoreBook, folder: Path) -> None:
    """``temporal_profile_<dataset>``, ``crops_<dataset>`` and ``ablation_<name>``."""
    for dataset in book.study.main_datasets():
        clips = _clips(book, dataset, distinct(book.study.table1()), MAX_CLIPS)
        if clips:
            temporal_profile(clips, folder, f"temporal_profile_{dataset}")
            crops(clips, folder, f"crops_{dataset}")
    for name in book.study.ablations:
        methods = book.study.ablation_methods(name).values()
        for clip, videos in _clips(book, book.study.ablation_datasets(name)[0], methods, 1).items():
            ablation(clip, videos, folder, f"ablation_{name}")


def _clips(book: ScoreBook, dataset: str, methods: Iterable[Method], limit: int) -> Clips:
    """The first clips that have ground truth and at least one method's frames."""
    found = {clip.name: clip.videos(methods) for clip in find_clips(book.paths, dataset, limit)}
    return {clip: videos for clip, videos in found.items() if TRUTH in videos and _labels([videos])}


def _labels(clips: Iterable[dict[str, Video]]) -> list[str]:
    """The labels of the methods."""
    return list(dict.fromkeys(label for videos in clips for label in videos if label not in (INPUT, TRUTH)))


def temporal_profile(clips: Clips, folder: Path, name: str) -> None:
    """A row of pixels (x to the right) over time (downwards): steady motion gives smooth lines, flicker ragged ones."""
    labels = [TRUTH, *_labels(clips.values())]
    size, heights = (1.75 * len(clips) + 1.3, 1.6 + 0.55 * len(labels)), {"height_ratios": [2.6] + [1] * len(labels)}
    figure, axes = plt.subplots(len(labels) + 1, len(clips), figsize=size, squeeze=False, gridspec_kw=heights)
    for (top, *below), (clip, videos) in zip(axes.T, clips.items(), strict=True):
        truth = videos[TRUTH]
        row = moving_row(truth)
        show_picture(top, truth[len(truth) // 2])
        top.axhline(row, color=VERMILLION, linewidth=1)
        top.set_title(f"clip {clip}")
        for axis, label in zip(below, labels, strict=True):
            show_picture(axis, profile(videos[label], row) if label in videos else None, aspect="auto")
    _row_labels(axes[:, 0], ["the row", *labels])
    save(figure, folder, name)


def profile(frames: Video, row: int) -> Frame:
    """One row of pixels over time, (about PROFILE_HEIGHT or N, W, 3); every frame takes the same number of rows."""
    repeat = max(1, PROFILE_HEIGHT // len(frames))
    return np.repeat(frames[:, row], repeat, axis=0)


def crops(clips: Clips, folder: Path, name: str) -> None:
    """The most detailed square of each clip's middle frame, pixel by pixel: input, methods, ground truth."""
    heads = [INPUT, *_labels(clips.values()), TRUTH]
    rows: dict[str, list[Frame | None]] = {}
    for clip, videos in clips.items():
        truth = videos[TRUTH]
        middle = len(truth) // 2
        box = detailed_box(truth[middle], CROP)
        shown = [videos.get(head) for head in heads]
        rows[clip] = [None if v is None else cut(v[middle], box, truth.shape[1] / v.shape[1]) for v in shown]
    figure, _ = picture_grid(heads, rows, (1.12 * len(heads), 1.08 * len(rows) + 0.5))
    save(figure, folder, name)


def ablation(clip: str, videos: dict[str, Video], folder: Path, name: str) -> None:
    """For every variant, the most detailed crop, and below it the row of pixels over time."""
    truth, labels = videos[TRUTH], [*_labels([videos]), TRUTH]
    middle, row = len(truth) // 2, moving_row(truth)
    box = detailed_box(truth[middle], CROP)
    left = max(0, min(box[1], truth.shape[2] - CROP))
    size = (1.3 * len(labels) + 0.3, 2.5)
    figure, axes = plt.subplots(2, len(labels), figsize=size, squeeze=False, gridspec_kw={"height_ratios": [2, 1]})
    for (above, below), label in zip(axes.T, labels, strict=True):
        show_picture(above, cut(videos[label][middle], box))
        show_picture(below, profile(videos[label], row)[:, left : left + CROP], aspect="auto")
        above.set_title(_wrapped(label), fontsize=7)
    _row_labels(axes[:, 0], [f"clip {clip}", "over time"])
    save(figure, folder, name)


def picture_grid(
    heads: Sequence[str], rows: dict[str, list[Frame | None]], size: tuple[float, float]
) -> tuple[Any, Any]:
    """A figure of pictures, and its axes: a row for each clip, a column for each of ``heads``."""
    figure, axes = plt.subplots(len(rows), len(heads), figsize=size, squeeze=False)
    for axes_row, (clip, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(axes_row, pictures, strict=True):
            show_picture(axis, picture)
        axes_row[0].set_ylabel(f"clip {clip}", fontsize=7)
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(_wrapped(head), fontsize=7)
    return figure, axes


def show_picture(axis: Any, picture: Frame | None, aspect: str = "equal") -> None:
    """Show pixels as they are, without smoothing, or the word 'missing'."""
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)
    if picture is None:
        axis.text(0.5, 0.5, "missing", ha="center", va="center", color="#777777", transform=axis.transAxes)
    else:
        axis.imshow(picture, interpolation="nearest", aspect=aspect)


def _row_labels(axes: Any, labels: list[str]) -> None:
    for axis, label in zip(axes, labels, strict=True):
        axis.set_ylabel(_wrapped(label), rotation=0, ha="right", va="center", fontsize=7)


def _wrapped(label: str, width: int = 17) -> str:
    return "\n".join(textwrap.wrap(label, width)[:3])
