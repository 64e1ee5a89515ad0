"""What methods cost: seconds a frame by stage and peak memory, and what quality those seconds and steps buy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from stablevsr.report.figures_scores import PERCEPTION, _legend, axis_label
from stablevsr.report.provenance import manifests
from stablevsr.report.scores import ScoreBook, read_json
from stablevsr.report.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, distinct, looks, save
from stablevsr.study.methods import Method

STAGE_COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY)


@dataclass
class Cost:
    """What inference of one method on one dataset took, over all shards and seeds that were run."""

    frames: int = 0
    seconds: float = 0.0
    memory: int = 0  #: bytes, the largest shard's peak
    stages: dict[str, float] = field(default_factory=dict)  #: seconds

    @property
    def per_frame(self) -> float:
        """Seconds a frame."""
        return self.seconds / self.frames


def cost(book: ScoreBook, dataset: str, method: Method) -> Cost | None:
    """Sum up the manifests of ``method``; None if nothing was inferred."""
    total = Cost()
    for seed in book.study.seeds(method.on(dataset).digest):
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
    """``cost``, ``quality_over_seconds`` and, where methods differ in nothing but steps, ``quality_over_steps``."""
    return [*cost_bars(book, folder), *quality_over_seconds(book, folder), *quality_over_steps(book, folder)]


def cost_bars(book: ScoreBook, folder: Path) -> list[Path]:
    """Seconds a frame (one panel a dataset, by stage where it was recorded) and peak memory, a bar a method."""
    methods = distinct([*book.study.table1(), *book.study.methods.values()])
    datasets = [d for d in book.study.spec.datasets if any(cost(book, d, m) for m in methods)]
    if not datasets:
        return []
    names = [m.label for m in methods]
    figure, axes = plt.subplots(
        1, len(datasets) + 1, figsize=(2.4 * (len(datasets) + 1) + 1.2, 0.22 * len(names) + 1.2), squeeze=False,
        sharey=True,
    )  # fmt: skip
    peaks = [0.0] * len(methods)
    for axis, dataset in zip(axes[0], datasets, strict=False):
        found = [cost(book, dataset, m) for m in methods]
        _bars(axis, found, looks_of(book, methods))
        peaks = [max(peak, c.memory / 2**30 if c else 0.0) for peak, c in zip(peaks, found, strict=True)]
        axis.set(title=book.study.spec.datasets[dataset].title, xlabel="seconds a frame")
    axes[0, -1].barh(range(len(methods)), peaks, color=looks_of(book, methods))
    axes[0, -1].set(title="peak memory", xlabel="GiB", yticks=range(len(methods)), yticklabels=names)
    axes[0, 0].invert_yaxis()
    _legend(figure, axes.flat, columns=6)
    return save(figure, folder, "cost")


def looks_of(book: ScoreBook, methods: Iterable[Method]) -> list[str]:
    """The methods' colours."""
    style = looks(book.study)
    return [style[method.digest].colour for method in methods]


def _bars(axis: Any, costs: list[Cost | None], colours: list[str]) -> None:
    stages = sorted({stage for c in costs if c for stage in c.stages})
    left = [0.0] * len(costs)
    for index, stage in enumerate(stages):
        widths = [c.stages.get(stage, 0.0) / c.frames if c else 0.0 for c in costs]
        axis.barh(range(len(costs)), widths, left=left, color=STAGE_COLOURS[index % 6], label=stage)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for place, spent in enumerate(costs):
        if spent:
            axis.annotate(
                f"{spent.per_frame:.2g}", (spent.per_frame, place), (3, 0), textcoords="offset points", va="center",
                fontsize=7,
            )  # fmt: skip
    axis.margins(x=0.18)
    rest = [max(0.0, c.per_frame - done) if c else 0.0 for c, done in zip(costs, left, strict=True)]
    plain = {"color": GREY, "label": "other"} if stages else {"color": colours}
    axis.barh(range(len(costs)), rest, left=left, **plain)


def quality_over_seconds(book: ScoreBook, folder: Path) -> list[Path]:
    """PSNR and the first perceptual metric against seconds a frame, a row a dataset."""
    methods = distinct([*book.study.table1(), *book.study.methods.values()])
    panels = {d: m for d in book.study.spec.datasets if (m := _metrics(book, d, methods))}
    if not any(cost(book, d, m) for d in panels for m in methods):
        return []
    rows = len(panels)
    figure, axes = plt.subplots(
        rows, 2, figsize=(6.8, 2.3 * rows + 0.3 + 0.16 * math.ceil(len(methods) / 3)), squeeze=False
    )
    style = looks(book.study)
    for row, (dataset, metrics) in zip(axes, panels.items(), strict=True):
        for axis, metric in zip(row, metrics, strict=False):
            for method in methods:
                spent, value = cost(book, dataset, method), book.value(dataset, method, metric)
                if spent and value is not None and math.isfinite(value):
                    look = style[method.digest]
                    axis.plot(spent.per_frame, value, look.marker, color=look.colour, label=method.label)
            axis.set(title=book.study.spec.datasets[dataset].title, xlabel="seconds a frame", ylabel=axis_label(metric))
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        for axis in row[len(metrics) :]:
            axis.set_visible(False)
    _legend(figure, axes.flat)
    return save(figure, folder, "quality_over_seconds")


def _metrics(book: ScoreBook, dataset: str, methods: list[Method]) -> list[str]:
    measured = [m for m in ("psnr", *PERCEPTION) if any(book.scores(dataset, x).has(m) for x in methods)]
    return measured[:2]


def quality_over_steps(book: ScoreBook, folder: Path) -> list[Path]:
    """Metrics against sampling steps, a line for each family of methods that differ in nothing else."""
    families = [f for f in _families(book.study.methods.values()) if len(f) > 1]
    members = [method for family in families for method in family]
    panels = [(d, metric) for d in book.study.spec.datasets for metric in _metrics(book, d, members)]
    if not families or not panels:
        return []
    figure, axes = plt.subplots(1, len(panels), figsize=(2.6 * len(panels) + 0.6, 2.9), squeeze=False)
    style = looks(book.study)
    for axis, (dataset, metric) in zip(axes[0], panels, strict=True):
        for family in families:
            points = [(_steps(m), book.value(dataset, m, metric)) for m in family]
            there = sorted((steps, value) for steps, value in points if value is not None)
            look = style[family[0].digest]
            if there:
                axis.plot(*zip(*there, strict=True), marker=look.marker, color=look.colour, label=family[0].label)
        axis.set(title=book.study.spec.datasets[dataset].title, xlabel="sampling steps", ylabel=axis_label(metric))
    _legend(figure, axes[0])
    return save(figure, folder, "quality_over_steps")


def _steps(method: Method) -> int:
    return method.sampling.steps if method.sampling else 0


def _families(methods: Iterable[Method]) -> list[list[Method]]:
    """Methods grouped by everything that decides them but the number of sampling steps."""
    groups: dict[str, list[Method]] = {}
    for method in distinct([m for m in methods if m.sampling]):
        identity = method.identity()
        identity["sampling"] = {k: v for k, v in identity["sampling"].items() if k != "steps"}
        groups.setdefault(repr(identity), []).append(method)
    return list(groups.values())
