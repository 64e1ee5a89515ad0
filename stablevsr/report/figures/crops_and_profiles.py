"""Figures of frames: crops, temporal profiles (a row of pixels over time), and both for each ablation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from stablevsr.data.frames import Frame
from stablevsr.report.clip_frames import INPUT, TRUTH, ClipFrames, Video, cut, detailed_box, find_clips, moving_row
from stablevsr.report.figures.style import VERMILLION, save
from stablevsr.report.scores import ScoreBook, distinct
from stablevsr.study.methods import Method

MAX_CLIPS = 4
CROP = 64  #: pixels a side
PROFILE_HEIGHT = 48  #: the profile of a short clip is stretched to about this many rows


@dataclass(frozen=True)
class Cuts:
    """What the figures show of one clip, by label."""

    clip: str
    middle: Frame  #: of the ground truth
    row: int  #: that the profiles show
    left: int  #: first column of the crops
    crops: dict[str, Frame]  #: of the middle frame: the input, the methods, the ground truth
    profiles: dict[str, Frame]  #: of the methods and the ground truth

    @property
    def methods(self) -> list[str]:
        """The labels of the methods."""
        return [label for label in self.profiles if label != TRUTH]


def draw(book: ScoreBook, folder: Path) -> None:
    """``temporal_profile_<dataset>``, ``crops_<dataset>`` and ``ablation_<name>``."""
    for dataset in book.study.main_datasets():
        clips = _cuts(book, dataset, distinct(book.study.table1()), MAX_CLIPS)
        if clips:
            temporal_profile(clips, folder, f"temporal_profile_{dataset}")
            crops(clips, folder, f"crops_{dataset}")
    for name in book.study.ablations:
        methods = book.study.ablation_methods(name).values()
        for clip in _cuts(book, book.study.ablation_datasets(name)[0], methods, 1):
            ablation(clip, folder, f"ablation_{name}")


def _cuts(book: ScoreBook, dataset: str, methods: Iterable[Method], limit: int) -> list[Cuts]:
    """Of the first clips, those that have ground truth and at least one method's frames."""
    methods = list(methods)
    found = (cuts(clip, methods) for clip in find_clips(book.paths, dataset, limit))
    return [clip for clip in found if clip and clip.methods]


def cuts(clip: ClipFrames, methods: Iterable[Method]) -> Cuts | None:
    """Cut what is shown out of a clip; one method after the other, for the frames of all can be gigabytes."""
    truth = clip.truth()
    if truth is None:
        return None
    middle, row = len(truth) // 2, moving_row(truth)
    box = detailed_box(truth[middle], CROP)
    made = Cuts(clip.name, truth[middle].copy(), row, box[1], {}, {})
    for label, frames in chain(clip.inputs_and_outputs(methods), [(TRUTH, truth)]):
        # copies, because a view would keep the whole clip
        made.crops[label] = cut(frames[middle], box, truth.shape[1] / frames.shape[1]).copy()
        if label != INPUT:
            made.profiles[label] = profile(frames, row)
    return made


def _labels(clips: Iterable[Cuts]) -> list[str]:
    return list(dict.fromkeys(label for clip in clips for label in clip.methods))


def temporal_profile(clips: Sequence[Cuts], folder: Path, name: str) -> None:
    """A row of pixels (x to the right) over time (downwards): steady motion gives smooth lines, flicker ragged ones."""
    labels = [TRUTH, *_labels(clips)]
    size, heights = (1.75 * len(clips) + 1.3, 1.6 + 0.55 * len(labels)), {"height_ratios": [2.6] + [1] * len(labels)}
    figure, axes = plt.subplots(len(labels) + 1, len(clips), figsize=size, squeeze=False, gridspec_kw=heights)
    for (top, *below), clip in zip(axes.T, clips, strict=True):
        show_picture(top, clip.middle)
        top.axhline(clip.row, color=VERMILLION, linewidth=1)
        top.set_title(f"clip {clip.clip}")
        for axis, label in zip(below, labels, strict=True):
            show_picture(axis, clip.profiles.get(label), aspect="auto")
    _row_labels(axes[:, 0], ["the row", *labels])
    save(figure, folder, name)


def profile(frames: Video, row: int) -> Frame:
    """One row of pixels over time, (about PROFILE_HEIGHT or N, W, 3); every frame takes the same number of rows."""
    repeat = max(1, PROFILE_HEIGHT // len(frames))
    return np.repeat(frames[:, row], repeat, axis=0)


def crops(clips: Sequence[Cuts], folder: Path, name: str) -> None:
    """The most detailed square of each clip's middle frame, pixel by pixel: input, methods, ground truth."""
    heads = [INPUT, *_labels(clips), TRUTH]
    rows = {clip.clip: [clip.crops.get(head) for head in heads] for clip in clips}
    figure, _ = picture_grid(heads, rows, (1.12 * len(heads), 1.08 * len(rows) + 0.5))
    save(figure, folder, name)


def ablation(clip: Cuts, folder: Path, name: str) -> None:
    """For every variant, the most detailed crop, and below it the row of pixels over time."""
    labels = list(clip.profiles)
    size = (1.3 * len(labels) + 0.3, 2.5)
    figure, axes = plt.subplots(2, len(labels), figsize=size, squeeze=False, gridspec_kw={"height_ratios": [2, 1]})
    for (above, below), label in zip(axes.T, labels, strict=True):
        show_picture(above, clip.crops[label])
        show_picture(below, clip.profiles[label][:, clip.left : clip.left + CROP], aspect="auto")
        above.set_title(_wrapped(label), fontsize=7)
    _row_labels(axes[:, 0], [f"clip {clip.clip}", "over time"])
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
