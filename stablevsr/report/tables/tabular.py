"""A results table as data: cells with value, interval, rank, published value, or the reason why they are empty.

One :class:`Table` is what CSV, Markdown, LaTeX and the page are written from, so they cannot disagree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stablevsr.metrics.registry import Metric, resolve
from stablevsr.report.published import Published, PublishedRow
from stablevsr.report.scores import ScoreBook, format_value
from stablevsr.study.methods import Method, ResolvedStudy

ARROWS = {"higher": "↑", "lower": "↓", "none": ""}


@dataclass(frozen=True)
class Cell:
    """One number of a table; ``value`` None means empty, and then ``reason`` says why."""

    metric: Metric
    value: float | None = None
    low: float = math.nan
    high: float = math.nan
    rank: int = 0  #: 1 best, 2 second, 0 neither
    published: Published | None = None
    reason: str = ""

    @property
    def text(self) -> str:
        """The value as shown."""
        return format_value(self.metric.name, self.value)

    @property
    def interval(self) -> str:
        """``[low, high]`` as shown, empty where there is none."""
        low, high = (format_value(self.metric.name, bound) for bound in (self.low, self.high))
        return f"[{low}, {high}]" if low and high else ""

    @property
    def published_text(self) -> str:
        """The published value as shown."""
        return format_value(self.metric.name, self.published.value if self.published else None)

    @property
    def difference(self) -> str:
        """Reproduced minus published as shown, empty unless both are there."""
        if self.value is None or self.published is None:
            return ""
        return format_value(self.metric.name, self.value - self.published.value, sign=True)


@dataclass(frozen=True)
class Row:
    """One method: its name in files, its label for people, its cells, and what they rest on."""

    name: str
    label: str
    cells: tuple[Cell, ...]
    frames: int = 0
    clips: int = 0
    seeds: int = 0


@dataclass(frozen=True)
class Block:
    """The part of a table that belongs to one dataset."""

    dataset: str
    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()  #: rows that start from another model than the study's


@dataclass(frozen=True)
class Table:
    """A table of methods by metrics, one block a dataset; ``name`` is its file's stem."""

    name: str
    title: str
    question: str
    metrics: tuple[Metric, ...]
    blocks: tuple[Block, ...]

    def footnotes(self) -> list[str]:
        """The different reasons of empty cells, in order of appearance; a cell's mark is its index here plus one."""
        cells = (cell for block in self.blocks for row in block.rows for cell in row.cells)
        return list(dict.fromkeys(cell.reason for cell in cells if cell.reason))

    def measured_first(self) -> list[int]:
        """Columns in the order of a screen, which is narrow: those with values before those without any."""
        rows = [row for block in self.blocks for row in block.rows]
        return sorted(range(len(self.metrics)), key=lambda i: all(row.cells[i].value is None for row in rows))

    @property
    def has_published(self) -> bool:
        """Whether any cell carries a published value."""
        return any(cell.published for block in self.blocks for row in block.rows for cell in row.cells)


def build_tables(
    study: ResolvedStudy, book: ScoreBook, published: dict[str, dict[str, PublishedRow]]
) -> dict[str, Table]:
    """Table 1 and one table for each ablation, by name."""
    metrics = tuple(resolve(study.spec.metrics))
    methods = study.table1()
    blocks = [_block(study, book, name, methods, metrics, published.get(name, {})) for name in study.table1_datasets()]
    tables = {"table1": Table("table1", f"Table 1: {study.spec.title}", "", metrics, tuple(blocks))}
    for key, ablation in study.ablations.items():
        methods = list(study.ablation_methods(key).values())
        blocks = [_block(study, book, name, methods, metrics, {}) for name in study.ablation_datasets(key)]
        tables[key] = Table(key, ablation.title, ablation.question, metrics, tuple(blocks))
    return tables


def _block(
    study: ResolvedStudy,
    book: ScoreBook,
    dataset: str,
    methods: list[Method],
    metrics: tuple[Metric, ...],
    published: dict[str, PublishedRow],
) -> Block:
    fair = book.sharing(dataset, methods)
    rows = [_row(fair, dataset, method, metrics, published.get(method.name)) for method in methods]
    own = {method.name for method in methods}
    rows += [_published_row(row, metrics) for name, row in published.items() if name not in own and row.values]
    notes = (*_model_notes(study, dataset, methods), *_seed_notes(book, fair, dataset, methods))
    return Block(dataset, study.spec.datasets[dataset].title, tuple(_ranked(rows, metrics)), notes)


def _seed_notes(book: ScoreBook, fair: ScoreBook, dataset: str, methods: list[Method]) -> tuple[str, ...]:
    """Which rows have more seeds than are shown."""
    more = [m.label for m in methods if book.counts(dataset, m)[2] > fair.counts(dataset, m)[2]]
    if not more or fair.seeds is None:
        return ()
    shown = f"seed{'s' if len(fair.seeds) > 1 else ''} {', '.join(map(str, sorted(fair.seeds)))}"
    return (f"Rows are compared on what all share, {shown}; claims also use the others of {', '.join(more)}.",)


def _model_notes(study: ResolvedStudy, dataset: str, methods: list[Method]) -> tuple[str, ...]:
    """Which rows start from another model than the study's on ``dataset``, and where that model comes from."""
    labels: dict[str, list[str]] = {}
    for method in methods:
        form = method.on(dataset)
        if form.base is not None and form.base.name != study.spec.model:
            labels.setdefault(_model_text(form), []).append(method.label)
    return tuple(f"{', '.join(names)}: {text}, not {study.spec.model}." for text, names in labels.items())


def _model_text(form: Method) -> str:
    """A method's base model and TCM in words."""
    assert form.base is not None
    made = form.base.training
    origin = f" (made by this study: {made.base.name}, its UNet fine-tuned on {made.dataset.title})" if made else ""
    tcm = f" and a TCM trained on {form.training.dataset.title}" if form.training else ""
    return f"with the model {form.base.name}{origin}{tcm}"


def _row(
    book: ScoreBook, dataset: str, method: Method, metrics: tuple[Metric, ...], published: PublishedRow | None
) -> Row:
    values = published.values if published else {}
    cells = tuple(_cell(book, dataset, method, metric, values.get(metric.name)) for metric in metrics)
    return Row(method.name, method.label, cells, *book.counts(dataset, method))


def _cell(book: ScoreBook, dataset: str, method: Method, metric: Metric, published: Published | None) -> Cell:
    value = book.value(dataset, method, metric.name)
    if value is None:
        reason = book.scores(dataset, method).reason(metric.name)
        return Cell(metric, published=published, reason=reason)
    found = book.interval(dataset, method, metric.name)
    assert found is not None
    return Cell(metric, value, found.low, found.high, published=published)


def _published_row(row: PublishedRow, metrics: tuple[Metric, ...]) -> Row:
    """A method that only the paper measured: shown for orientation, never ranked among the reproduced."""
    cells = tuple(
        Cell(m, published=row.values.get(m.name), reason="published only: this study does not run the method")
        for m in metrics
    )
    return Row(f"published:{row.name}", f"{row.label} (published)", cells)


def _ranked(rows: list[Row], metrics: tuple[Metric, ...]) -> list[Row]:
    """Mark the best and second value of every metric, as shown: values equal after rounding share their rank.

    Metrics without a direction are not ranked, and a value without a rival is no best.
    """
    ranks: list[dict[float, int]] = []
    for column, metric in enumerate(metrics):
        shown = [_shown(row.cells[column]) for row in rows]
        distinct = sorted({v for v in shown if v is not None}, reverse=metric.direction == "higher")
        rivals = metric.direction != "none" and sum(v is not None for v in shown) > 1
        ranks.append({value: place for place, value in enumerate(distinct[:2], 1)} if rivals else {})
    return [
        replace(
            row,
            cells=tuple(replace(c, rank=ranks[i].get(_shown_or_nan(c), 0)) for i, c in enumerate(row.cells)),
        )
        for row in rows
    ]


def _shown(cell: Cell) -> float | None:
    return float(cell.text) if cell.text else None


def _shown_or_nan(cell: Cell) -> float:
    shown = _shown(cell)
    return math.nan if shown is None else shown
