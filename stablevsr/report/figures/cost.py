"""What methods cost: seconds a frame by stage, and peak memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from stablevsr.report.costs import Cost, amount_text, cost
from stablevsr.report.figures.style import GREY, distinct, legend, save
from stablevsr.report.scores import ScoreBook

#: One hue from dark to light: a colour of the palette would stand for a method. Hatched: in place of the one before.
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


def draw(book: ScoreBook, folder: Path) -> list[Path]:
    """``cost``: seconds a frame by stage (one panel a dataset) and peak memory, a bar a method."""
    every, sets = distinct([*book.study.table1(), *book.study.methods.values()]), book.study.main_datasets()
    methods = [method for method in every if any(cost(book, dataset, method) for dataset in sets)]
    costs = {dataset: [cost(book, dataset, method) for method in methods] for dataset in sets}
    costs = {dataset: found for dataset, found in costs.items() if any(found)}
    if not costs:
        return []
    figure, axes = plt.subplots(
        1, len(costs) + 1, figsize=(2.4 * (len(costs) + 1) + 1.2, 0.22 * len(methods) + 1.2), squeeze=False, sharey=True
    )
    for axis, (dataset, found) in zip(axes[0], costs.items(), strict=False):
        _bars(axis, found)
        axis.set(title=book.study.spec.datasets[dataset].title, xlabel="seconds a frame")
    peaks = [max((c.memory for c in column if c), default=0) / 2**30 for column in zip(*costs.values(), strict=True)]
    axes[0, -1].barh(range(len(methods)), peaks, color=GREY)
    _numbers(axes[0, -1], [peak or None for peak in peaks])
    axes[0, -1].set(
        title="peak memory", xlabel="GiB", yticks=range(len(methods)), yticklabels=[m.label for m in methods]
    )
    for axis in axes[0]:
        axis.grid(axis="y", visible=False)
        axis.margins(y=0.01)
    axes[0, 0].invert_yaxis()
    legend(figure, axes.flat)
    return save(figure, folder, "cost")


def _bars(axis: Any, costs: list[Cost | None]) -> None:
    """Stacked bars: the stages that were recorded, and the rest of the time."""
    left = [0.0] * len(costs)
    for stage, colour in STAGE_COLOURS.items():
        widths = [c.stages.get(stage, 0.0) / c.frames if c else 0.0 for c in costs]
        if any(widths):
            hatch = "/////" if stage == HATCHED else None
            axis.barh(range(len(costs)), widths, left=left, color=colour, label=stage, hatch=hatch, edgecolor="white",
                      linewidth=0)  # fmt: skip
        left = [a + b for a, b in zip(left, widths, strict=True)]
    rest = [max(0.0, c.per_frame - done) if c else 0.0 for c, done in zip(costs, left, strict=True)]
    axis.barh(range(len(costs)), rest, left=left, color=REST_COLOUR, edgecolor="#9A9A9A", linewidth=0.5,
              label="rest, or not divided")  # fmt: skip
    _numbers(axis, [c.per_frame if c else None for c in costs])


def _numbers(axis: Any, lengths: list[float | None]) -> None:
    """The number at the end of each bar."""
    for place, length in enumerate(lengths):
        if length is not None:
            place_text = {"textcoords": "offset points", "va": "center", "fontsize": 7}
            axis.annotate(amount_text(length), (length, place), (3, 0), **place_text)
    axis.margins(x=0.18)
