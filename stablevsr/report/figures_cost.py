"""What methods cost: seconds a frame by stage, and peak memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from stablevsr.report.provenance import manifests
from stablevsr.report.scores import ScoreBook, read_json
from stablevsr.report.style import GREY, distinct, legend, save
from stablevsr.study.methods import Method

#: One hue from dark to light: a colour of the palette would stand for a method.
STAGE_COLOURS = {
    "UNet down": "#141E33",
    "UNet up": "#2C3D61",
    "TCM": "#4C6291",
    "VAE decoder": "#7189B8",
    "small decoder": "#879CC5",
    "flow": "#9DB0D3",
    "warp": "#C3CFE4",
    "scheduler": "#DDE4F0",
}
REST_COLOUR = "#E3E3E3"


@dataclass
class Cost:
    """What inference of one method on one dataset took, over all shards and seeds that were run."""

    frames: int = 0
    seconds: float = 0.0
    memory: int = 0  #: bytes, the largest shard's peak
    stages: dict[str, float] = field(default_factory=dict)  #: seconds by stage, empty where none were recorded

    @property
    def per_frame(self) -> float:
        """Seconds a frame."""
        return self.seconds / self.frames


def cost(book: ScoreBook, dataset: str, method: Method) -> Cost | None:
    """Sum up the manifests of ``method``; None if nothing was inferred."""
    total = Cost()
    for seed in book.study.seeds(method.on(dataset).digest, dataset):
        for file in manifests(book.paths, dataset, method, seed):
            _add(total, read_json(file))
    return total if total.frames and total.seconds > 0 else None


def _add(total: Cost, manifest: dict[str, Any]) -> None:
    total.frames += sum(int(entry.get("frames", 0)) for entry in manifest.get("sequences", {}).values())
    total.seconds += float(manifest.get("seconds") or 0.0)
    total.memory = max(total.memory, int(manifest.get("peak_memory_bytes") or 0))
    for stage, seconds in (manifest.get("stages") or {}).items():
        total.stages[stage] = total.stages.get(stage, 0.0) + float(seconds)


def draw(book: ScoreBook, folder: Path) -> list[Path]:
    """``cost``: seconds a frame by stage (one panel a dataset) and peak memory, a bar a method."""
    methods = distinct([*book.study.table1(), *book.study.methods.values()])
    costs = {d: [cost(book, d, m) for m in methods] for d in book.study.main_datasets()}
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
    axes[0, -1].set(
        title="peak memory", xlabel="GiB", yticks=range(len(methods)), yticklabels=[m.label for m in methods]
    )
    for axis in axes[0]:
        axis.grid(axis="y", visible=False)
    axes[0, 0].invert_yaxis()
    legend(figure, axes.flat)
    return save(figure, folder, "cost")


def _bars(axis: Any, costs: list[Cost | None]) -> None:
    """Stacked bars: the stages that were recorded, and the rest of the time."""
    left = [0.0] * len(costs)
    for stage, colour in STAGE_COLOURS.items():
        widths = [c.stages.get(stage, 0.0) / c.frames if c else 0.0 for c in costs]
        if any(widths):
            axis.barh(range(len(costs)), widths, left=left, color=colour, label=stage)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    rest = [max(0.0, c.per_frame - done) if c else 0.0 for c, done in zip(costs, left, strict=True)]
    axis.barh(range(len(costs)), rest, left=left, color=REST_COLOUR, edgecolor="#9A9A9A", linewidth=0.5,
              label="rest, or not divided")  # fmt: skip
    for place, spent in enumerate(costs):
        if spent:
            axis.annotate(f"{spent.per_frame:.2g}", (spent.per_frame, place), (3, 0), textcoords="offset points",
                          va="center", fontsize=7)  # fmt: skip
    axis.margins(x=0.18)
