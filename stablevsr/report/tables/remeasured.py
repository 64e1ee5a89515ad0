"""What other parties measured for the methods of the paper: ``results/published/measured_by_others.csv``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stablevsr.metrics.metric import Metric
from stablevsr.report.text import format_value, joined

FILE = Path("published/measured_by_others.csv")  #: below the results


@dataclass(frozen=True)
class Remeasured:
    """A score that another party measured, in the metric's unit."""

    party: str
    value: float


def read_remeasured(results: Path) -> pd.DataFrame:
    """The rows whose scores mean the same as the paper's (column ``comparable``); no rows where the file is absent."""
    file = results / FILE
    if not file.exists():
        return pd.DataFrame(columns=["dataset", "method", "party", "source"])
    rows = pd.read_csv(file)
    return rows[rows["comparable"] == "yes"]


def remeasured(rows: pd.DataFrame, dataset: str, method: str, metric: str) -> tuple[Remeasured, ...]:
    """Every score of ``method`` (its label in the paper) on ``dataset``, in the order of the file."""
    if metric not in rows:
        return ()
    found = rows[(rows["dataset"] == dataset) & (rows["method"] == method)].dropna(subset=metric)
    return tuple(Remeasured(row["party"], float(row[metric])) for _, row in found.iterrows())


def spread_note(results: Path, dataset: str, metrics: tuple[Metric, ...]) -> str:
    """The range of StableVSR's re-measured scores on ``dataset``, as a sentence; empty where there are none."""
    rows = read_remeasured(results)
    ranges = []
    for metric in metrics:
        values = [found.value for found in remeasured(rows, dataset, "StableVSR", metric.name)]
        if len(values) > 1:
            low, high = (format_value(metric.name, value) for value in (min(values), max(values)))
            ranges.append(f"{metric.label} {low} to {high} ({len(values)} parties)")
    if not ranges:
        return ""
    shown = rows[(rows["dataset"] == dataset) & (rows["method"] == "StableVSR")]
    sources = joined(list(dict.fromkeys(shown["source"])))
    return f"Others measured for StableVSR: {', '.join(ranges)}. Sources: {sources}."
