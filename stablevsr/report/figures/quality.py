"""Figures of quality: perception against distortion, and every metric frame by frame."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from stablevsr.data.frames import natural_key
from stablevsr.metrics.registry import METRICS
from stablevsr.report.figures.style import Look, legend, looks, save
from stablevsr.report.scores import ScoreBook, distinct
from stablevsr.report.text import ARROWS
from stablevsr.study.methods import REFERENCE, Method

MAX_CURVES, MAX_CLIPS = 4, 4


def draw(book: ScoreBook, folder: Path) -> None:
    """``perception_distortion`` and ``per_frame_curves_<dataset>``."""
    perception_distortion(book, folder)
    for dataset in book.study.main_datasets():
        per_frame_curves(book, dataset, folder)


def measured(book: ScoreBook, dataset: str, methods: Iterable[Method]) -> list[list[str]]:
    """Fidelity, perceptual and temporal metrics that any of ``methods`` has, except those that have no direction."""
    scores = [book.scores(dataset, method) for method in methods]
    found = [m for m in book.metrics if m.direction != "none" and any(s.has(m.name) for s in scores)]
    return [[m.name for m in found if m.kind == kind] for kind in ("fidelity", "perceptual", "temporal")]


def axis_label(metric: str) -> str:
    """Label, unit, factor and arrow of a metric, for an axis."""
    found = METRICS[metric]
    unit = f"{found.unit}{f' ×{found.scale:g}' if found.scale != 1 else ''}".strip()
    return f"{found.label}{f' ({unit})' if unit else ''} {ARROWS[found.direction]}".strip()


def finite_value(book: ScoreBook, dataset: str, method: Method, metric: str) -> float | None:
    """The shown number, unrounded; None where there is none or it is infinite."""
    value = book.value(dataset, method, metric)
    return value if value is not None and math.isfinite(value) else None


def perception_distortion(book: ScoreBook, folder: Path) -> None:
    """One point a method: PSNR against the first perceptual metric that was measured, a panel for each dataset."""
    methods = book.methods()
    panels = [(d, y) for d in book.study.main_datasets() if (y := _perception_axis(book, d, methods))]
    if not panels:
        return
    figure, [axes] = plt.subplots(1, len(panels), figsize=(3.4 * len(panels) + 0.4, 2.9), squeeze=False)
    style, table1 = looks(book), {m.digest for m in book.study.table1()}
    for axis, (dataset, y) in zip(axes, panels, strict=True):
        for method in methods:
            point = [finite_value(book, dataset, method, metric) for metric in ("psnr", y)]
            if None not in point:
                _point(axis, point, style[method.digest], method, filled=method.digest in table1)
        axis.set(title=book.title(dataset), xlabel=axis_label("psnr"), ylabel=axis_label(y))
        axis.margins(0.12)
    legend(figure, axes)
    save(figure, folder, "perception_distortion")


def _perception_axis(book: ScoreBook, dataset: str, methods: list[Method]) -> str | None:
    """The first perceptual metric, else the first temporal one, that at least two methods have besides PSNR."""
    with_psnr = [method for method in methods if book.value(dataset, method, "psnr") is not None]
    _, perceptual, temporal = measured(book, dataset, with_psnr)
    metrics = [*perceptual, *temporal]
    return next((m for m in metrics if sum(book.scores(dataset, x).has(m) for x in with_psnr) > 1), None)


def _point(axis: Any, point: list[float | None], look: Look, method: Method, filled: bool) -> None:
    reference = method.name == REFERENCE
    axis.plot(
        *([value] for value in point),
        **look | {"linestyle": "none"},
        markerfacecolor=look["color"] if filled else "white",
        markersize=7 if reference else 5.5,
        markeredgewidth=1.3,
        zorder=4 if reference else 3 if filled else 2,
        label=method.label,
    )


def per_frame_curves(book: ScoreBook, dataset: str, folder: Path) -> None:
    """Metrics (rows) over the frames of each clip (columns) for the methods of Table 1, averaged over runs."""
    tables = [(m, table) for m in distinct(book.study.table1()) if (table := book.scores(dataset, m).table) is not None]
    fidelity, perceptual, temporal = measured(book, dataset, [method for method, _ in tables])
    metrics = [*fidelity[:1], *perceptual[:1], *temporal][:MAX_CURVES]
    if not metrics:
        return
    clips = sorted({clip for _, table in tables for clip in table["sequence"]})[:MAX_CLIPS]
    size = (1.75 * len(clips) + 0.8, 1.35 * len(metrics) + 0.3)
    figure, axes = plt.subplots(len(metrics), len(clips), figsize=size, squeeze=False, sharex="col")
    style = looks(book)
    for row, metric in zip(axes, metrics, strict=True):
        for axis, clip in zip(row, clips, strict=True):
            for method, table in tables:
                _curve(axis, table[table["sequence"] == clip], metric, style[method.digest], method)
        row[0].set_ylabel(axis_label(metric), fontsize=7)
    for axis, clip in zip(axes[0], clips, strict=True):
        axis.set_title(f"clip {clip}")
    for axis in axes[-1]:
        axis.set_xlabel("frame")
    legend(figure, axes.flat)
    save(figure, folder, f"per_frame_curves_{dataset}")


def _curve(axis: Any, rows: pd.DataFrame, metric: str, look: Look, method: Method) -> None:
    if metric not in rows or rows.empty:
        return
    means = rows.groupby("frame")[metric].mean()
    means = means.loc[sorted(means.index, key=lambda frame: natural_key(Path(frame)))]
    values = means.to_numpy(np.float64)
    axis.plot(
        np.arange(1, len(values) + 1),
        np.where(np.isfinite(values), values, np.nan),
        **look | ({} if len(values) <= 16 else {"marker": ""}),
        markersize=3,
        linewidth=1.8 if method.name == REFERENCE else 1.0,
        label=method.label,
    )
    axis.xaxis.get_major_locator().set_params(integer=True)
