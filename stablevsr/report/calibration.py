"""Whether this machine's chain gives the published scores of methods whose weights are public.

If degradation, crop, channels or scored frames differ from the published protocol, every number of a study is off, and
these scores show it first. The expected ones are in ``results/published/calibration.csv``.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import pandas as pd

from stablevsr.metrics.registry import METRICS
from stablevsr.report.published_sets import is_published_set
from stablevsr.report.scores import ScoreBook
from stablevsr.runtime.errors import UserError
from stablevsr.study.methods import Method

COLUMNS = ("layout", "kind", "metric", "value", "tolerance", "source")


@dataclass(frozen=True)
class Calibration:
    """One published score, and what this machine measured."""

    dataset: str  #: its title
    method: str  #: its label
    metric: str  #: its label
    decimals: int  #: to show
    expected: float
    tolerance: float
    source: str
    measured: float | None  #: None where there are no scores, or not of every clip

    @property
    def verdict(self) -> str:
        """agrees, differs, or not measured."""
        if self.measured is None:
            return "not measured"
        return "agrees" if abs(self.measured - self.expected) <= self.tolerance else "differs"


def calibrate(book: ScoreBook) -> list[Calibration]:
    """The published scores of the study's baselines on its data sets, as far as the study computes these metrics.

    Raises :class:`UserError` if the file of published scores is damaged.
    """
    file = book.paths.results_root / "published" / "calibration.csv"
    if not file.exists():
        return []
    published = pd.read_csv(file)
    if list(published) != list(COLUMNS):
        raise UserError(f"{file} must have the columns {', '.join(COLUMNS)}")
    found = []
    for dataset, spec in book.study.spec.datasets.items():
        for method in book.study.table1() if is_published_set(spec) else ():
            if dataset in method.datasets:
                here = (published["layout"] == spec.layout) & (published["kind"] == method.on(dataset).kind)
                rows = published[here & published["metric"].isin(book.study.spec.metrics)]
                found += [_calibration(book, dataset, method, row) for _, row in rows.iterrows()]
    return found


def summary(rows: list[Calibration]) -> str:
    """What they say together, as a sentence; empty without rows."""
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("differs", "not measured")}
    if not rows:
        return ""
    if counts["differs"]:
        return (
            f"{counts['differs']} of {len(rows)} published scores differ from the measured ones: until the reason is "
            "known, the other numbers of this study cannot be compared with published ones."
        )
    if counts["not measured"]:
        return f"{counts['not measured']} of {len(rows)} published scores are not measured yet."
    return (
        f"All {len(rows)} published scores agree with the measured ones: degradation, crop, channels and scored frames "
        "are the published ones."
    )


def _calibration(book: ScoreBook, dataset: str, method: Method, row: pd.Series) -> Calibration:
    metric = METRICS[row["metric"]]
    runs = book.run_means(dataset, method, metric.name)
    return Calibration(
        book.title(dataset),
        method.label,
        metric.label,
        metric.decimals + 1,
        float(row["value"]),
        float(row["tolerance"]),
        row["source"],
        statistics.fmean(runs) if runs else None,
    )
