"""Training curves: the loss, and by noise level what validation on held-out windows found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from stablevsr.report.figures.style import COLOURS, GREY, SHAPES, VERMILLION, legend, save
from stablevsr.report.history import LEVELS, History, histories
from stablevsr.report.scores import ScoreBook

PALETTE = (VERMILLION, *COLOURS)


def draw(book: ScoreBook, folder: Path) -> list[Path]:
    """Curves of the TCMs (``training``), the UNets (``finetuning``) and the small decoders (``distillation``)."""
    found = [history for history in histories(book.study, book.paths) if history.table is not None]
    tcms = [history for history in found if history.kind == "tcm"]
    unets = [history for history in found if history.kind == "unet"]
    files = _curves(tcms, "ratio", "loss with TCM / loss without", folder, "training_curves") if tcms else []
    files += _curves(unets, "loss", "loss", folder, "finetuning_curves") if unets else []
    decoders = [history for history in found if history.kind == "decoder"]
    return files + (_curves(decoders, "psnr", "PSNR to the VAE, dB", folder, "distillation_curves") if decoders else [])


def _curves(found: list[History], figure_of: str, label: str, folder: Path, name: str) -> list[Path]:
    """The training loss on the left, then a panel for each noise level that was validated."""
    levels = [level for level in LEVELS if any(level in history.last(figure_of) for history in found)]
    figure, axes = plt.subplots(1, 1 + len(levels), figsize=(2.1 * (1 + len(levels)) + 0.6, 2.6), squeeze=False)
    for index, history in enumerate(found):
        _loss(axes[0, 0], history, index)
        for axis, level in zip(axes[0, 1:], levels, strict=True):
            _validation(axis, history, f"val_{figure_of}_{level}", index)
    axes[0, 0].ticklabel_format(useOffset=False)
    axes[0, 0].set(title="training loss", xlabel="step", ylabel="loss (smoothed)")
    for axis, level in zip(axes[0, 1:], levels, strict=True):
        axis.set(title=f"held out, {LEVELS[level]}", xlabel="step")
    if figure_of != "loss":  # the loss of a UNet differs by orders of magnitude between noise levels
        _one_scale(axes[0, 1:])
    if figure_of == "ratio":
        _about_one(axes[0, 1:])
    if levels:
        axes[0, 1].set_ylabel(label)
    legend(figure, axes.flat)
    return save(figure, folder, name)


def _one_scale(axes: Any) -> None:
    """The same range of values in every panel."""
    lowest = min((axis.get_ylim()[0] for axis in axes), default=0.0)
    highest = max((axis.get_ylim()[1] for axis in axes), default=1.0)
    for axis in axes:
        axis.set_ylim(lowest, highest)


def _about_one(axes: Any) -> None:
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
