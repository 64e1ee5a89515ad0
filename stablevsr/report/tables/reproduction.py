"""A verdict on every cell of the paper's Table 1, where a study's scores may be compared with it.

A cell holds the published value, the values of other parties, and what this study measured, averaged as the published
script does: over frames, then over clips. Reproduced: |measured - published| is at most the largest of the published
value's rounding, two standard deviations over runs, and the range of other parties' values.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from stablevsr.metrics.metric import Metric
from stablevsr.metrics.registry import METRICS
from stablevsr.report.scores import ScoreBook
from stablevsr.report.tables.published import PublishedRow, PublishedValue, published_rows
from stablevsr.report.tables.remeasured import Remeasured, read_remeasured, remeasured
from stablevsr.report.text import csv_text, format_value
from stablevsr.study.methods import Method

CellVerdict = Literal["reproduced", "close", "not reproduced", "not measured", "published value unknown"]
VERDICTS: tuple[CellVerdict, ...] = ("reproduced", "close", "not reproduced", "not measured", "published value unknown")
#: Below the verdicts, in every format.
REPRODUCTION_NOTE = (
    "Measured here is the mean over frames, then over clips, as in the published script, ± the standard deviation over "
    "runs; Table 1 weighs scenes equally. Reproduced: |measured - published| is at most the largest of the published "
    "value's rounding, two standard deviations over runs, and the range of other parties' values. "
    "Close: within the metric's margin. Cells of which nobody has a value are not listed."
)
ROUNDING_ERROR = 1e-9  #: of differences in floating point


@dataclass(frozen=True)
class Reproduction:
    """One cell of the paper's Table 1; values are in the metric's unit, as in CSV files."""

    dataset: str
    title: str  #: of the dataset
    method: str  #: its name in studies
    label: str
    metric: Metric
    published: PublishedValue
    others: tuple[Remeasured, ...]
    runs: tuple[float, ...]  #: what this study measured, run by run
    reason: str = ""  #: why it measured nothing
    model: str = ""  #: of the measured values, where it is not the published one

    @property
    def measured(self) -> float | None:
        """The mean over this study's runs, None where there are none."""
        return statistics.fmean(self.runs) if self.runs else None

    @property
    def run_deviation(self) -> float:
        """The standard deviation over runs; nan for a single one."""
        return statistics.stdev(self.runs) if len(self.runs) > 1 else math.nan

    @property
    def spread(self) -> float:
        """Largest minus smallest value of the other parties; nan for fewer than two."""
        values = [other.value for other in self.others]
        return max(values) - min(values) if len(values) > 1 else math.nan

    @property
    def tolerance(self) -> tuple[float, str]:
        """The largest |measured - published| of a reproduced value, and where that comes from."""
        allowed = {
            "rounding of the published value": self.published.rounding,
            f"two standard deviations over {len(self.runs)} runs": 2 * self.run_deviation,
            f"range of {len(self.others)} other values": self.spread,
        }
        source = max((name for name in allowed if not math.isnan(allowed[name])), key=allowed.__getitem__)
        return allowed[source], source

    @property
    def difference(self) -> float | None:
        """Measured minus published, None unless there are both."""
        if self.measured is None or self.published.value is None:
            return None
        return self.measured - self.published.value

    @property
    def verdict(self) -> CellVerdict:
        """Close is outside the tolerance but within the metric's margin (``docs/metrics.md``), if it has one."""
        if self.published.value is None:
            return "published value unknown"
        if self.difference is None:
            return "not measured"
        if abs(self.difference) <= self.tolerance[0] + ROUNDING_ERROR:
            return "reproduced"
        margin = self.metric.margin
        return "close" if margin and abs(self.difference) <= margin + ROUNDING_ERROR else "not reproduced"

    @property
    def is_empty(self) -> bool:
        """Whether nobody has a value."""
        return self.published.value is None and not self.others and not self.runs

    def shown(self, value: float | None, sign: bool = False) -> str:
        """``value`` with the metric's decimals."""
        return format_value(self.metric.name, value, sign)

    @property
    def others_range(self) -> str:
        """The other parties' values: '27.93 to 28.15', or the only one; empty without any."""
        values = sorted(other.value for other in self.others)
        return " to ".join(dict.fromkeys(map(self.shown, (*values[:1], *values[-1:]))))

    @property
    def parties(self) -> str:
        """The other parties' names."""
        return ", ".join(other.party for other in self.others)

    @property
    def measured_text(self) -> str:
        """The measured value with its standard deviation over runs."""
        deviation = self.shown(self.run_deviation)
        return f"{self.shown(self.measured)} ± {deviation}" if deviation else self.shown(self.measured)

    @property
    def because(self) -> str:
        """What the verdict rests on, as a phrase."""
        if self.verdict == "not measured":
            return self.reason
        if self.verdict == "published value unknown":
            return ""
        allowed, source = self.tolerance
        parts = [f"{self.shown(self.difference, sign=True)}, allowed {allowed:.2g} ({source})"]
        if self.metric.margin and self.verdict != "reproduced":
            parts.append(f"margin {self.metric.margin:g}")
        return ", ".join([*parts, *([f"with the model {self.model}"] if self.model else [])])


def reproductions(book: ScoreBook) -> list[Reproduction]:
    """All cells of the paper's Table 1 on the data sets of the study's; none where they are not comparable."""
    rows, others = published_rows(book.paths), read_remeasured(book.paths.results_root)
    return [
        _reproduction(book, dataset, row, METRICS[metric], others)
        for dataset in book.study.table1_datasets()
        for row in rows.get(dataset, {}).values()
        for metric in row.cells
    ]


def _reproduction(
    book: ScoreBook, dataset: str, row: PublishedRow, metric: Metric, others: pd.DataFrame
) -> Reproduction:
    method = next((method for method in book.study.table1() if method.name == row.name), None)
    runs, reason = _measured(book, dataset, method, metric.name)
    base = method.on(dataset).base if method else None
    return Reproduction(
        dataset,
        book.title(dataset),
        row.name,
        row.label,
        metric,
        row.cells[metric.name],
        remeasured(others, dataset, row.label, metric.name),
        runs,
        reason,
        base.name if base and base.name != book.study.spec.model else "",
    )


def _measured(book: ScoreBook, dataset: str, method: Method | None, metric: str) -> tuple[tuple[float, ...], str]:
    """What the study measured, run by run, or nothing and the reason why."""
    if method is None:
        return (), "this study does not run the method"
    if runs := book.run_means(dataset, method, metric):
        return runs, ""
    scores = book.scores(dataset, method)
    if not scores.has(metric):
        return (), scores.reason(metric)
    if absent := book.absent_clips(dataset, method):
        return (), f"there are no scores of clip {', '.join(absent)}"
    return (), "it is undefined or infinite in a run"


def summary(cells: Sequence[Reproduction]) -> str:
    """How many cells came to which verdict, as a sentence; empty without cells."""
    if not cells:
        return ""
    counts = {verdict: sum(cell.verdict == verdict for cell in cells) for verdict in VERDICTS}
    parts = [f"{verdict} {number}" for verdict, number in counts.items() if number]
    return f"The {len(cells)} cells of the paper's Table 1 by verdict: {', '.join(parts)}."


def by_dataset(cells: Sequence[Reproduction]) -> dict[str, list[Reproduction]]:
    """The cells of which anybody has a value, by the title of their dataset."""
    found: dict[str, list[Reproduction]] = {}
    for cell in cells:
        if not cell.is_empty:
            found.setdefault(cell.title, []).append(cell)
    return found


def reproduction_csv(cells: Sequence[Reproduction]) -> str:
    """One line a cell of the paper's table, unrounded; empty where there is no value."""
    return csv_text(pd.DataFrame([_csv_row(cell) for cell in cells]))


def _csv_row(cell: Reproduction) -> dict[str, object]:
    values = [other.value for other in cell.others]
    return {
        "dataset": cell.dataset,
        "name": cell.method,
        "label": cell.label,
        "metric": cell.metric.name,
        "verdict": cell.verdict,
        "published": cell.published.value,
        "published_by": cell.published.source,
        "remeasured_low": min(values, default=None),
        "remeasured_high": max(values, default=None),
        "remeasured_by": "; ".join(other.party for other in cell.others),
        "measured": cell.measured,
        "runs": len(cell.runs),
        "difference": cell.difference,
        "rounding": cell.published.rounding,
        "two_run_deviations": 2 * cell.run_deviation,
        "spread": cell.spread,
        "tolerance": cell.tolerance[0],
        "margin": cell.metric.margin,
        "model": cell.model,
        "reason": cell.reason,
    }
