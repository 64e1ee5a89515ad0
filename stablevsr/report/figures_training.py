"""Training curves: the loss, and by noise level how much of the loss without a TCM remains with it."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

from stablevsr.report.history import LEVELS, History, histories
from stablevsr.report.scores import ScoreBook
from stablevsr.report.style import BLUE, GREEN, GREY, SHAPES, VERMILLION, save

COLOURS = (VERMILLION, BLUE, GREEN)


def draw(book: ScoreBook, folder: Path) -> list[Path]:
    """``training_curves``: the loss on the left, one panel for each noise level that was validated."""
    found = [history for history in histories(book.study, book.paths) if history.table is not None]
    if not found:
        return []
    levels = [level for level in LEVELS if any(level in history.ratios for history in found)]
    figure, axes = plt.subplots(
        1, 1 + len(levels), figsize=(2.1 * (1 + len(levels)) + 0.6, 2.4 + 0.16 * len(found)), squeeze=False
    )
    for index, history in enumerate(found):
        _loss(axes[0, 0], history, index)
        for axis, level in zip(axes[0, 1:], levels, strict=True):
            _ratio(axis, history, level, index)
    axes[0, 0].ticklabel_format(useOffset=False)
    axes[0, 0].set(title="training loss", xlabel="step", ylabel="v-prediction loss (smoothed)")
    lowest = min((axis.get_ylim()[0] for axis in axes[0, 1:]), default=0.0)
    highest = max((axis.get_ylim()[1] for axis in axes[0, 1:]), default=1.0)
    for axis, level in zip(axes[0, 1:], levels, strict=True):
        axis.axhline(1.0, color=GREY, linewidth=1)
        axis.set(title=f"held out, {LEVELS[level]}", xlabel="step", ylim=(lowest, max(1.01, highest)))
    if levels:
        axes[0, 1].set_ylabel("loss with TCM / loss without")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(found)), fontsize=7)
    return save(figure, folder, "training_curves")


def _look(index: int) -> dict[str, str]:
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": SHAPES[index // len(COLOURS) % len(SHAPES)][1]}


def _loss(axis: plt.Axes, history: History, index: int) -> None:
    assert history.table is not None
    window = max(1, len(history.table) // 20)
    smooth = history.table["loss"].rolling(window, min_periods=1).mean()
    marker = "o" if len(smooth) == 1 else None
    label = f"TCM trained on: {history.title}"
    axis.plot(history.table["step"], smooth, marker=marker, label=label, linewidth=1.2, **_look(index))


def _ratio(axis: plt.Axes, history: History, level: str, index: int) -> None:
    assert history.table is not None
    column = f"val_ratio_{level}"
    if column in history.table:
        rows = history.table.dropna(subset=[column])
        axis.plot(rows["step"], rows[column], marker=SHAPES[index % len(SHAPES)][0], markersize=3, **_look(index))
