"""What inference cost, by method and hardware, as a table for programs."""

from __future__ import annotations

import pandas as pd

from stablevsr.report.inference_cost import InferenceCost, by_hardware
from stablevsr.report.scores import ScoreBook
from stablevsr.report.text import csv_text

COLUMNS = (
    "dataset", "name", "label", "hardware", "frames", "steps", "seconds_per_frame", "peak_memory_bytes", "stage",
    "stage_seconds_per_frame",
)  # fmt: skip
WHOLE = "all"  #: the stage of a row that is about all of them


def hardware_csv(book: ScoreBook) -> str:
    """Seconds of a frame, and peak memory, of every method on every data set and machine.

    A row for the whole (stage ``all``), then one for each stage that was timed.
    """
    rows = [
        [dataset, method.name, method.label, hardware, spent.frames, method.sampling and method.sampling.steps,
         spent.per_frame, spent.memory, stage, seconds / spent.frames]
        for dataset in book.study.spec.datasets
        for method in book.study.methods.values()
        if dataset in method.datasets
        for hardware, spent in by_hardware(book, dataset, method).items()
        for stage, seconds in _stages(spent).items()
    ]  # fmt: skip
    return csv_text(pd.DataFrame(rows, columns=list(COLUMNS)).astype({"steps": "Int64"}))


def _stages(spent: InferenceCost) -> dict[str, float]:
    return {WHOLE: spent.seconds} | dict(sorted(spent.stages.items()))
