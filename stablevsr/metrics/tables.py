"""Per-frame scores as files and tables: reading them back, and the published way of averaging them.

The published script averages the frames of a sequence first and then the sequences with equal weight; so does
:func:`summarise`, for every table, claim and plot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from stablevsr.runtime.errors import UserError

NAMES = ("sequence", "frame")
Row = tuple[str, str, Sequence[float]]  #: sequence, frame, values


def format_scores(metrics: Sequence[str], rows: Iterable[Row]) -> str:
    """Scores as CSV text: unrounded, ``inf`` where infinite, an empty cell where undefined (nan)."""
    lines = [",".join(("sequence", "frame", *metrics))]
    lines += [",".join((_quoted(sequence), _quoted(frame), *map(_cell, values))) for sequence, frame, values in rows]
    return "\n".join(lines) + "\n"


def _cell(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\n') else name


def read_scores(path: Path) -> pd.DataFrame:
    """A CSV file of :func:`format_scores` as a table; sequence and frame stay text ('000' is not 0).

    Raises :class:`UserError` if the file is missing or is no such table.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if not set(NAMES) <= set(table.columns):
            raise UserError(f"{path} is no table of scores: its columns must begin with sequence,frame")
        for column in [c for c in table.columns if c not in NAMES]:
            table[column] = pd.to_numeric(table[column].where(table[column] != ""))
    except (OSError, ValueError) as error:
        raise UserError(f"the scores {path} cannot be read ({error}): evaluate the method again") from error
    return table


def summarise(table: pd.DataFrame, metrics: Sequence[str]) -> dict[str, float]:
    """Mean over the defined frames of each sequence, then over sequences; nan where no frame has a value."""
    means = table.groupby("sequence", sort=False)[list(metrics)].mean()
    return {metric: float(means[metric].mean()) for metric in metrics}
