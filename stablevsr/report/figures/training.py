"""Training curves: the training loss, and the validation on held-out windows by noise level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from stablevsr.report.figures.style import COLOURS, GREY, SHAPES, VERMILLION, legend, save
from stablevsr.report.scores import ScoreBook
from stablevsr.report.training_history import KINDS, LEVELS, History, Kind, histories

PALETTE = (VERMILLION, *COLOURS)


def draw(book: ScoreBook, folder: Path) -> list[Path]:
    """A figure for each kind of training: TCMs, UNets, small decoders."""
    there = [history for history in histories(book.paths) if history.table is not None]
    files: list[Path] = []
    for kind in KINDS.values():
        of_kind = [history for history in there if history.kind == kind]
        files += _curves(of_kind, kind, folder) if of_kind else []
    return files


def _curves(found: list[History], kind: Kind, folder: Path) -> list[Path]:
    """The training loss on the left, then a panel for each noise level that was validated."""
    levels = [level for level in LEVELS if any(level in history.last_validation() for history in found)]
    size = (2.1 * (1 + len(levels)) + 0.6, 2.6)
    figure, [[losses, *panels]] = plt.subplots(1, 1 + len(levels), figsize=size, squeeze=False)
    for index, history in enumerate(found):
        _loss(losses, history, index)
        for axis, level in zip(panels, levels, strict=True):
            _validation(axis, history, f"val_{kind.measure}_{level}", index)
    losses.ticklabel_format(useOffset=False)
    losses.set(title="training loss", xlabel="step", ylabel="loss (smoothed)")
    for axis, level in zip(panels, levels, strict=True):
        axis.set(title=f"held out, {LEVELS[level]}", xlabel="step")
    if kind.measure != "loss":  # the loss of a UNet differs by orders of magnitude between noise levels
        _one_scale(panels)
    if kind.measure == "ratio":
        _about_one(panels)
    if panels:
        panels[0].set_ylabel(kind.label)
    legend(figure, [losses, *panels])
    return save(figure, folder, kind.curves)


def _one_scale(axes: list[Any]) -> None:
    """The same range of values in every panel."""
    lowest = min((axis.get_ylim()[0] for axis in axes), default=0.0)
    highest = max((axis.get_ylim()[1] for axis in axes), default=1.0)
    for axis in axes:
        axis.set_ylim(lowest, highest)


def _about_one(axes: list[Any]) -> None:
    """A line at 1, where the TCM changes nothing, inside the panels."""
    for axis in axes:
        axis.axhline(1.0, color=GREY, linewidth=1)
        axis.set_ylim(top=max(1.01, axis.get_ylim()[1]))


def _look(index: int) -> dict[str, str]:
    marker, line = SHAPES[index // len(PALETTE) % len(SHAPES)]
    return {"color": PALETTE[index % len(PALETTE)], "linestyle": line, "marker": marker}


def _loss(axis: plt.Axes, history: History, index: int) -> None:
    assert history.table is not None
    window = max(1, len(history.table) // 20)
    smooth = history.table["loss"].rolling(window, min_periods=1).mean()
    look = _look(index) | ({} if len(smooth) == 1 else {"marker": ""})
    axis.plot(history.table["step"], smooth, label=history.title, linewidth=1.2, **look)


def _validation(axis: plt.Axes, history: History, column: str, index: int) -> None:
    assert history.table is not None
    if column in history.table:
        rows = history.table.dropna(subset=[column])
        axis.plot(rows["step"], rows[column], markersize=3, **_look(index))
