"""Training curves: the training loss, and the validation on held-out windows by noise level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from stablevsr.report.figures.style import COLOURS, GREY, SHAPES, VERMILLION, Look, legend, look, save
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
        style = look(PALETTE[index % len(PALETTE)], *SHAPES[index // len(PALETTE) % len(SHAPES)])
        _loss(losses, history, style)
        for axis, level in zip(panels, levels, strict=True):
            validated = history.validation(level)
            axis.plot(validated.index, validated, markersize=3, **style)
    losses.ticklabel_format(useOffset=False)
    losses.set(title="training loss", xlabel="step", ylabel="loss (smoothed)")
    for axis, level in zip(panels, levels, strict=True):
        axis.set(title=f"held out, {LEVELS[level]}", xlabel="step")
    if panels:
        panels[0].set_ylabel(kind.label)
    if panels and kind.measure != "loss":  # the loss of a UNet differs by orders of magnitude between noise levels
        _same_scale(panels, with_one=kind.measure == "ratio")
    legend(figure, [losses, *panels])
    return save(figure, folder, kind.curves)


def _loss(axis: Any, history: History, style: Look) -> None:
    """The running mean of the loss."""
    assert history.table is not None
    smooth = history.table["loss"].rolling(max(1, len(history.table) // 20), min_periods=1).mean()
    style = style if len(smooth) == 1 else style | {"marker": ""}
    axis.plot(history.table["step"], smooth, label=history.title, linewidth=1.2, **style)


def _same_scale(axes: list[Any], with_one: bool) -> None:
    """The same range of values in every panel, and with ``with_one`` a line at 1, where the TCM changes nothing."""
    low, high = (limit(axis.get_ylim()[end] for axis in axes) for end, limit in ((0, min), (1, max)))
    for axis in axes:
        axis.set_ylim(low, high)
        if with_one:
            axis.axhline(1.0, color=GREY, linewidth=1)
            axis.set_ylim(top=max(1.01, axis.get_ylim()[1]))
