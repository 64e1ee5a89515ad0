"""What other parties measured for StableVSR with its released weights, as a bound on what "reproduced" can mean."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from stablevsr.metrics.metric import Metric
from stablevsr.report.text import format_value, joined

FILE = Path("published/measured_by_others.csv")  #: below the results


def spread_note(results: Path, dataset: str, metrics: tuple[Metric, ...]) -> str:
    """The range of StableVSR's re-measured scores on ``dataset``, as a sentence; empty where there are none.

    Parties with another protocol than the paper's are left out (column ``comparable``).
    """
    file = results / FILE
    if not file.exists():
        return ""
    rows = pd.read_csv(file)
    rows = rows[(rows["dataset"] == dataset) & (rows["method"] == "StableVSR") & (rows["comparable"] == "yes")]
    ranges = []
    for metric in metrics:
        values = rows[metric.name].dropna() if metric.name in rows else rows["dataset"].iloc[:0]
        if len(values) > 1:
            low, high = (format_value(metric.name, float(value)) for value in (values.min(), values.max()))
            ranges.append(f"{metric.label} {low} to {high} ({len(values)} parties)")
    if not ranges:
        return ""
    sources = joined(list(dict.fromkeys(rows["source"])))
    return f"Others measured for StableVSR: {', '.join(ranges)}. Sources: {sources}."
