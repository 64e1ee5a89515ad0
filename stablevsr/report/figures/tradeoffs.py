"""Figures of quality against cost: against seconds a frame, and against the number of sampling steps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from stablevsr.report.figures.quality import axis_label, finite_value, measured
from stablevsr.report.figures.style import GREY, SHAPES, Look, legend, look, looks, save
from stablevsr.report.inference_cost import cost
from stablevsr.report.scores import ScoreBook, distinct
from stablevsr.study.methods import Method

#: How a method that is not in Table 1 is drawn.
VARIANT = {**look(GREY, "o", "none"), "markerfacecolor": "white", "markersize": 4, "label": "variants of the ablations"}
SCHEDULERS = {"ddpm": "DDPM", "ddim": "DDIM", "dpmsolver++": "DPM-Solver++", "unipc": "UniPC"}


def draw(book: ScoreBook, folder: Path) -> None:
    """``quality_over_seconds`` and, where methods differ only in steps and solver, ``quality_over_steps``."""
    quality_over_seconds(book, folder)
    quality_over_steps(book, folder)


def _metrics(book: ScoreBook, dataset: str, methods: list[Method]) -> list[str]:
    """The first measured metric of each kind, a panel each."""
    return [names[0] for names in measured(book, dataset, methods) if names]


def quality_over_seconds(book: ScoreBook, folder: Path) -> None:
    """A metric of each kind against seconds a frame, a row a dataset; only the rows of Table 1 have legend entries."""
    methods = book.methods()
    panels = {d: metrics for d in book.study.main_datasets() if (metrics := _metrics(book, d, methods))}
    if not any(cost(book, dataset, method) for dataset in panels for method in methods):
        return
    figure, axes = _grid(list(panels.values()))
    style: dict[str, dict[str, Any]] = {
        m.digest: looks(book)[m.digest] | {"linestyle": "none", "zorder": 3, "label": m.label}
        for m in distinct(book.study.table1())
    }
    for row, (dataset, metrics) in zip(axes, panels.items(), strict=True):
        for axis, metric in zip(row, metrics, strict=False):
            for method in methods:
                spent, value = cost(book, dataset, method), finite_value(book, dataset, method, metric)
                if spent and value is not None:
                    axis.plot(spent.per_frame, value, **style.get(method.digest, VARIANT))
            axis.set(title=book.title(dataset), xlabel="seconds a frame", ylabel=axis_label(metric))
            _plain_log(axis)
    legend(figure, axes.flat)
    save(figure, folder, "quality_over_seconds")


def _grid(rows: list[list[str]]) -> tuple[Any, Any]:
    """A figure with a row of panels for each list of metrics, one panel a metric; shorter rows end in empty space."""
    columns = max(map(len, rows))
    size = (2.3 * columns + 0.4, 1.8 * len(rows) + 0.2)
    figure, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False)
    for row, metrics in zip(axes, rows, strict=True):
        for axis in row[len(metrics) :]:
            axis.set_visible(False)
    return figure, axes


class _FewTicks(LogLocator):
    """Ticks at the powers of ten, with more of them in between the shorter the axis is."""

    def __call__(self) -> Any:
        assert self.axis is not None
        low, high = self.axis.get_view_interval()
        self.set_params(subs=(1, 1.5, 2, 3, 5, 7) if high < 5 * low else (1, 2, 5) if high < 40 * low else (1,))
        return super().__call__()


def _plain_log(axis: Any) -> None:
    """A logarithmic axis whose ticks read 0.5 or 20, not powers of ten."""
    axis.set_xscale("log")
    axis.margins(0.08)
    axis.xaxis.set_major_locator(_FewTicks())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())


@dataclass(frozen=True)
class Line:
    """Methods that differ only in their sampling steps, fewest first."""

    label: str
    style: Look
    methods: tuple[Method, ...]


def quality_over_steps(book: ScoreBook, folder: Path) -> None:
    """Metrics against sampling steps, and below each panel against the seconds a frame of the same runs."""
    found = lines(book)
    members = [method for line in found for method in line.methods]
    rows = {
        dataset: metrics
        for dataset in book.study.spec.datasets
        if any(sum(book.scores(dataset, m).table is not None for m in line.methods) > 1 for line in found)
        and (metrics := _metrics(book, dataset, members))
    }
    if not rows:
        return
    figure, axes = _grid([metrics for metrics in rows.values() for _ in range(2)])
    for number, (dataset, metrics) in enumerate(rows.items()):
        steps = sorted({_steps(m) for m in members if dataset in m.datasets})
        for place, metric in enumerate(metrics):
            above, below = axes[2 * number, place], axes[2 * number + 1, place]
            for line in found:
                _over_steps(above, below, book, dataset, metric, line)
            above.set(title=book.title(dataset), xlabel="sampling steps")
            below.set(xlabel="seconds a frame")
            for axis in (above, below):
                axis.set(ylabel=axis_label(metric))
                _plain_log(axis)
            above.set_xticks(steps, map(str, steps))
    legend(figure, axes.flat)
    save(figure, folder, "quality_over_steps")


def _over_steps(above: Any, below: Any, book: ScoreBook, dataset: str, metric: str, line: Line) -> None:
    points = [(m, value) for m in line.methods if (value := finite_value(book, dataset, m, metric)) is not None]
    if points:
        above.plot([_steps(m) for m, _ in points], [value for _, value in points], **line.style, label=line.label)
    timed = [(spent.per_frame, value) for m, value in points if (spent := cost(book, dataset, m))]
    if timed:
        below.plot(*zip(*timed, strict=True), **line.style, label=line.label)


def lines(book: ScoreBook) -> list[Line]:
    """The lines of ``quality_over_steps``: methods that differ only in steps and solver, one line for each solver.

    Methods that all take the same number of steps give no line.
    """
    groups: dict[str, dict[str, list[Method]]] = {}  # by all other settings, then by solver
    for method in distinct(m for m in book.study.methods.values() if m.sampling):
        identity = method.identity()
        solver, _ = (identity["sampling"].pop(key) for key in ("scheduler", "steps"))
        groups.setdefault(repr((identity, method.base)), {}).setdefault(solver, []).append(method)
    colours = looks(book)
    found = []
    for by_solver in groups.values():
        if len({_steps(method) for members in by_solver.values() for method in members}) == 1:
            continue
        [first, *_], *_ = by_solver.values()
        for shape, (solver, members) in zip(cycle(SHAPES), by_solver.items(), strict=False):
            label = first.label + (f", {SCHEDULERS[solver]}" if len(by_solver) > 1 else "")
            style = look(colours[members[0].digest]["color"], *shape)
            found.append(Line(label, style, tuple(sorted(members, key=_steps))))
    return found


def _steps(method: Method) -> int:
    assert method.sampling is not None
    return method.sampling.steps
