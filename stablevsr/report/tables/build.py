"""The results tables as data: cells with mean, deviation, rank, published value, or why they are empty.

CSV, Markdown, LaTeX and the page are all written from one :class:`Table`, so they show the same values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stablevsr.metrics.metric import Metric
from stablevsr.report.scores import ScoreBook
from stablevsr.report.tables.published import PublishedRow, published_rows
from stablevsr.report.tables.remeasured import spread_note
from stablevsr.report.text import Parts, counted, format_value, joined, merged
from stablevsr.study.methods import Method, ResolvedStudy


@dataclass(frozen=True)
class Cell:
    """One number of a table; ``value`` None means empty, and then ``reason`` says why."""

    metric: Metric
    value: float | None = None
    deviation: float = math.nan  #: standard deviation over scenes
    rank: int = 0  #: 1 best, 2 second, 0 neither
    published: float | None = None  #: in the metric's unit
    source: str = ""  #: of the published value
    reason: str = ""

    def shown(self, value: float | None, sign: bool = False) -> str:
        """``value`` with the metric's decimals."""
        return format_value(self.metric.name, value, sign)

    @property
    def is_empty(self) -> bool:
        """Whether there is neither a value nor a published one."""
        return self.value is None and self.published is None

    @property
    def text(self) -> str:
        """The value as shown."""
        return self.shown(self.value)

    @property
    def deviation_text(self) -> str:
        """``± deviation`` as shown, empty where there is none."""
        shown = self.shown(self.deviation)
        return f"± {shown}" if shown else ""

    @property
    def published_text(self) -> str:
        """The published value as shown."""
        return self.shown(self.published)

    @property
    def difference(self) -> str:
        """Reproduced minus published as shown, empty unless there are both."""
        ours, theirs = self.value, self.published
        return "" if ours is None or theirs is None else self.shown(ours - theirs, sign=True)

    @property
    def paper(self) -> str:
        """The published value and the difference in words, empty where nothing is published."""
        difference = f" ({self.difference})" if self.difference else ""
        return f"paper {self.published_text}{difference}" if self.published_text else ""


@dataclass(frozen=True)
class TableRow:
    """One method: its name in files, its label for people, its cells, and how many scores they average."""

    name: str
    label: str
    cells: tuple[Cell, ...]
    frames: int = 0
    scenes: int = 0
    runs: int = 0

    @property
    def counts_text(self) -> str:
        """The numbers of frames, scenes and runs in words."""
        return counted(frame=self.frames, scene=self.scenes, run=self.runs) if self.frames else ""


@dataclass(frozen=True)
class Block:
    """The part of a table for one dataset."""

    dataset: str
    title: str
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()  #: on the protocol, on rows with another base model, and on infinite values
    protocol: str = ""  #: of all its scores

    def scored(self) -> tuple[TableRow, ...]:
        """The rows whose reasons for an empty column are those of its metric; all where no row has a value.

        A row without any value has another reason, for example that the weights of a baseline are missing.
        """
        return tuple(row for row in self.rows if any(cell.value is not None for cell in row.cells)) or self.rows

    def measured(self) -> list[int]:
        """Places of the metrics that have something to show here: a value of any row, or a published one."""
        columns = zip(*(row.cells for row in self.rows), strict=True)
        return [i for i, cells in enumerate(columns) if any(not cell.is_empty for cell in cells)]


@dataclass(frozen=True)
class Table:
    """A table of methods by metrics, one block a dataset; ``name`` is its file's stem."""

    name: str
    title: str
    question: str
    metrics: tuple[Metric, ...]
    blocks: tuple[Block, ...]

    def measured(self) -> list[int]:
        """Places of the metrics that have something to show in any block."""
        return sorted({i for block in self.blocks for i in block.measured()})

    def footnotes(self) -> list[str]:
        """The reasons of empty cells, each once, in order of appearance; cells refer to them by number, from 1."""
        shown = [row.cells[i] for block in self.blocks for row in block.rows for i in block.measured()]
        return list(dict.fromkeys(cell.reason for cell in shown if cell.reason))

    def unmeasured(self) -> list[str]:
        """The metrics that have no column in a block, with the reasons why, as sentences."""
        entries: list[Parts] = []
        for block in self.blocks:
            for i in sorted(set(range(len(self.metrics))) - set(block.measured())):
                reasons = dict.fromkeys(row.cells[i].reason for row in block.scored())
                entries.append((tuple(reasons), (self.metrics[i].label,), (block.title,)))
        return [
            f"No {joined(metrics, 'or')} on {joined(titles, 'or')}: {'; '.join(reasons)}."
            for reasons, metrics, titles in merged(entries)
        ]

    @property
    def has_published(self) -> bool:
        """Whether any cell carries a published value."""
        return any(cell.published is not None for block in self.blocks for row in block.rows for cell in row.cells)


def build_tables(book: ScoreBook) -> dict[str, Table]:
    """Table 1, with the paper's numbers where they are comparable, and one table for each ablation, by name."""
    study = book.study
    published = {
        dataset: {name: _published_row(row, book.metrics) for name, row in rows.items()}
        for dataset, rows in published_rows(book.paths).items()
    }
    blocks = [_block(book, name, study.table1(), published.get(name, {})) for name in study.table1_datasets()]
    tables = {"table1": Table("table1", f"Table 1: {study.spec.title}", "", book.metrics, tuple(blocks))}
    for key, ablation in study.ablations.items():
        methods = list(study.ablation_methods(key).values())
        blocks = [_block(book, name, methods, {}) for name in study.ablation_datasets(key)]
        tables[key] = Table(key, ablation.title, ablation.question, book.metrics, tuple(blocks))
    return tables


def _block(book: ScoreBook, dataset: str, methods: list[Method], published: dict[str, TableRow]) -> Block:
    """The methods with their published values, then the methods that only the paper measured, which get no rank."""
    empty = TableRow("", "", tuple(Cell(metric) for metric in book.metrics))
    rows = [_row(book, dataset, method, published.get(method.name, empty)) for method in methods]
    others = [row for name, row in published.items() if name not in {m.name for m in methods}]
    rows += [row for row in others if any(cell.published is not None for cell in row.cells)]
    notes = (*_model_notes(book.study, dataset, methods), *_infinite_notes(book, dataset, methods))
    if published and (note := spread_note(book.paths.results_root, dataset, book.metrics)):
        notes = (*notes, note)
    protocol = book.protocol(dataset)
    notes = (*notes, f"Protocol: {protocol}.") if protocol else notes
    return Block(dataset, book.title(dataset), tuple(_ranked(rows, book.metrics)), notes, protocol)


def _model_notes(study: ResolvedStudy, dataset: str, methods: list[Method]) -> tuple[str, ...]:
    """Which rows use another base model than the study's on ``dataset``, and where that model comes from."""
    labels: dict[str, list[str]] = {}
    for method in methods:
        form = method.on(dataset)
        if form.base is not None and form.base.name != study.spec.model:
            made = form.base.training
            origin = (
                f" (made by this study: {made.base.name}, its UNet fine-tuned on {made.dataset.title})" if made else ""
            )
            tcm = f" and a TCM trained on {form.training.dataset.title}" if form.training else ""
            labels.setdefault(f"{form.base.name}{origin}{tcm}", []).append(method.label)
    return tuple(
        f"{', '.join(names)}: with the model {text}, not {study.spec.model}." for text, names in labels.items()
    )


def _infinite_notes(book: ScoreBook, dataset: str, methods: list[Method]) -> tuple[str, ...]:
    """How many frames the means leave out because a value is infinite: PSNR of frames equal to the ground truth."""
    found = [(m, metric, book.infinite(dataset, m, metric.name)) for m in methods for metric in book.metrics]
    return tuple(
        f"{metric.label} of {method.label}: {counted(frame=count)} with an infinite value left out of the mean."
        for method, metric, count in found
        if count
    )


def _row(book: ScoreBook, dataset: str, method: Method, published: TableRow) -> TableRow:
    """The published cells with the study's values, or with the reasons why there are none."""
    cells = []
    for cell in published.cells:
        found = book.average(dataset, method, cell.metric.name)
        if found is None:
            cells.append(replace(cell, reason=book.scores(dataset, method).reason(cell.metric.name)))
        else:
            cells.append(replace(cell, value=found.mean, deviation=found.deviation, reason=""))
    return TableRow(method.name, method.label, tuple(cells), *book.counts(dataset, method))


def _ranked(rows: list[TableRow], metrics: tuple[Metric, ...]) -> list[TableRow]:
    """The rows with ranks for the best and the second value of every metric."""
    ranks = [_ranks(metric, [row.cells[i].text for row in rows]) for i, metric in enumerate(metrics)]
    return [
        replace(row, cells=tuple(replace(c, rank=r.get(c.text, 0)) for c, r in zip(row.cells, ranks, strict=True)))
        for row in rows
    ]


def _ranks(metric: Metric, texts: list[str]) -> dict[str, int]:
    """Rank 1 or 2 by the rounded value, so equal ones share a rank; none without a direction or with a single value."""
    values = [text for text in texts if text]
    if metric.direction == "none" or len(values) < 2:
        return {}
    best = sorted(set(values), key=float, reverse=metric.direction == "higher")
    return {text: rank for rank, text in enumerate(best[:2], 1)}


def _published_row(row: PublishedRow, metrics: tuple[Metric, ...]) -> TableRow:
    cells = []
    for metric in metrics:
        cell = Cell(metric, reason="published only: this study does not run the method")
        if (found := row.cells.get(metric.name)) and found.value is not None:
            cell = replace(cell, published=found.value, source=found.source)
        cells.append(cell)
    return TableRow(f"published:{row.name}", f"{row.label} (published)", tuple(cells))
