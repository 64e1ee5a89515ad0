"""Training curves: the training loss, and the validation on held-out windows by noise level."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

from stablevsr.report.figures.style import COLOURS, GREY, SHAPES, VERMILLION, legend, look, save
from stablevsr.report.scores import ScoreBook
from stablevsr.report.training_history import CURVES, LEVELS, Curve, History, histories

PALETTE = (VERMILLION, *COLOURS)


def draw(book: ScoreBook, folder: Path) -> None:
    """A figure for each kind of training: TCMs, UNets, small decoders."""
    for kind in CURVES.values():
        found = [history for history in histories(book.paths) if history.kind == kind and history.table is not None]
        if found:
            _curves(found, kind, folder)


def _curves(found: list[History], kind: Curve, folder: Path) -> None:
    """The training loss on the left, then a panel for each noise level that was validated."""
    levels = [level for level in LEVELS if any(level in history.last_validation() for history in found)]
    size = (2.1 * (1 + len(levels)) + 0.6, 2.6)
    figure, [[losses, *panels]] = plt.subplots(1, 1 + len(levels), figsize=size, squeeze=False)
    for axis in panels[1:] if kind.measure != "loss" else []:  # a loss differs by orders of magnitude between levels
        axis.sharey(panels[0])
    for index, history in enumerate(found):
        assert history.table is not None
        style = look(PALETTE[index % len(PALETTE)], *SHAPES[index // len(PALETTE) % len(SHAPES)])
        loss = history.table["loss"].rolling(max(1, len(history.table) // 20), min_periods=1).mean()
        unmarked = style if len(loss) == 1 else style | {"marker": ""}
        losses.plot(history.table["step"], loss, label=history.title, linewidth=1.2, **unmarked)
        for axis, level in zip(panels, levels, strict=True):
            validated = history.validation(level)
            axis.plot(validated.index, validated, markersize=3, **style)
    losses.ticklabel_format(useOffset=False)
    losses.set(title="training loss", xlabel="step", ylabel="loss (smoothed)")
    for axis, level in zip(panels, levels, strict=True):
        axis.set(title=f"held out, {LEVELS[level]}", xlabel="step")
        if kind.measure == "ratio":
            axis.axhline(1.0, color=GREY, linewidth=1)  # here the TCM changes nothing
    if panels:
        panels[0].set_ylabel(kind.label)
    legend(figure, [losses, *panels])
    save(figure, folder, kind.curves)
