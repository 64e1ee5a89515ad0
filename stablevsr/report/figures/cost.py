"""The figure of what methods cost: seconds a frame by stage, and peak memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from stablevsr.report.figures.style import GREY, legend, save
from stablevsr.report.inference_cost import InferenceCost, cost
from stablevsr.report.scores import ScoreBook
from stablevsr.report.text import format_cost

#: Shades of one hue, because the palette's colours mean methods; of two stages with one shade, one is hatched.
STAGE_COLOURS = {
    "UNet down": "#141E33",
    "UNet up": "#33476F",
    "TCM": "#5F78AA",
    "VAE decoder": "#9DB0D3",
    "small decoder": "#9DB0D3",
    "flow": "#BECBE2",
    "warp": "#D2DBEB",
    "scheduler": "#E4EAF4",
}
HATCHED = "small decoder"
REST_COLOUR = "#E3E3E3"


def draw(book: ScoreBook, folder: Path) -> None:
    """``cost``: seconds a frame by stage, a panel for each dataset, and peak memory; a bar for each method."""
    sets = [d for d in book.study.main_datasets() if any(cost(book, d, method) for method in book.methods())]
    methods = [method for method in book.methods() if any(cost(book, dataset, method) for dataset in sets)]
    costs = {dataset: [cost(book, dataset, method) for method in methods] for dataset in sets}
    if not costs:
        return
    columns = len(costs) + 1
    size = (2.4 * columns + 1.2, 0.22 * len(methods) + 1.2)
    figure, axes = plt.subplots(1, columns, figsize=size, sharey=True)
    for axis, (dataset, found) in zip(axes, costs.items(), strict=False):
        _bars(axis, found)
        axis.set(title=book.title(dataset), xlabel="seconds a frame")
    peaks = [max((c.memory for c in column if c), default=0) / 2**30 for column in zip(*costs.values(), strict=True)]
    _number(axes[-1], axes[-1].barh(range(len(methods)), peaks, color=GREY), peaks)
    axes[-1].set(title="peak memory", xlabel="GiB", yticks=range(len(methods)), yticklabels=[m.label for m in methods])
    for axis in axes:
        axis.grid(axis="y", visible=False)
        axis.margins(y=0.01)
    axes[0].invert_yaxis()
    legend(figure, axes)
    save(figure, folder, "cost")


def _bars(axis: Any, costs: list[InferenceCost | None]) -> None:
    """Stacked bars: the stages that were recorded, and the rest of the time."""
    left = [0.0] * len(costs)
    for stage, colour in STAGE_COLOURS.items():
        widths = [c.stages[stage] / c.frames if c else 0.0 for c in costs]
        if any(widths):
            hatch = "/////" if stage == HATCHED else None
            edge = {"edgecolor": "white", "linewidth": 0}
            axis.barh(range(len(costs)), widths, left=left, color=colour, label=stage, hatch=hatch, **edge)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    rest = [max(0.0, c.per_frame - done) if c else 0.0 for c, done in zip(costs, left, strict=True)]
    edge = {"edgecolor": "#9A9A9A", "linewidth": 0.5}
    bars = axis.barh(range(len(costs)), rest, left=left, color=REST_COLOUR, label="rest, or not divided", **edge)
    _number(axis, bars, [c.per_frame if c else 0.0 for c in costs])


def _number(axis: Any, bars: Any, lengths: list[float]) -> None:
    """The number at the end of each bar; none where nothing was measured."""
    axis.bar_label(bars, [format_cost(length) if length else "" for length in lengths], padding=3, fontsize=7)
    axis.margins(x=0.18)
