"""Whether this machine's chain gives the published scores of methods whose weights are public.

Degradation, crop, channels, frames that are scored: where one of them is another, every number of a study is off, and
these scores show it first. The expected ones are in ``results/published/calibration.csv``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from stablevsr.metrics.registry import METRICS
from stablevsr.metrics.tables import summarise
from stablevsr.report.scores import ScoreBook
from stablevsr.runtime.errors import UserError
from stablevsr.study.files import Dataset
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
    measured: float | None  #: None where there are no scores

    @property
    def verdict(self) -> str:
        """reproduced, different, or not measured."""
        if self.measured is None:
            return "not measured"
        return "reproduced" if abs(self.measured - self.expected) <= self.tolerance else "different"


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
        for method in book.study.table1() if _is_published_set(spec) else ():
            if dataset in method.datasets:
                here = (published["layout"] == spec.layout) & (published["kind"] == method.on(dataset).kind)
                rows = published[here & published["metric"].isin(book.study.spec.metrics)]
                found += [_calibration(book, dataset, method, row) for _, row in rows.iterrows()]
    return found


def summary(rows: list[Calibration]) -> str:
    """What they say together, as a sentence; empty without rows."""
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("different", "not measured")}
    if not rows:
        return ""
    if counts["different"]:
        return (
            f"{counts['different']} of {len(rows)} published scores are not reproduced: until the reason is known, the "
            "other numbers of this study cannot be compared with published ones."
        )
    if counts["not measured"]:
        return f"{counts['not measured']} of {len(rows)} published scores are not measured yet."
    return (
        f"All {len(rows)} published scores are reproduced: degradation, crop, channels and scored frames are the "
        "published ones."
    )


def _is_published_set(spec: Dataset) -> bool:
    """Whether a data set is all of the published one, in the folders of its layout."""
    return spec.make is None and spec.split == "test" and spec.every == 1 and not (spec.frames or spec.sequences)


def _calibration(book: ScoreBook, dataset: str, method: Method, row: pd.Series) -> Calibration:
    metric = METRICS[row["metric"]]
    return Calibration(
        book.title(dataset),
        method.label,
        metric.label,
        metric.decimals + 1,
        float(row["value"]),
        float(row["tolerance"]),
        row["source"],
        _measured(book, dataset, method, metric.name),
    )


def _measured(book: ScoreBook, dataset: str, method: Method, metric: str) -> float | None:
    """The mean over clips of the mean over their frames."""
    scores = book.scores(dataset, method)
    if not scores.has(metric):
        return None
    assert scores.table is not None
    mean = summarise(scores.table, [metric])[metric]
    return mean if math.isfinite(mean) else None
