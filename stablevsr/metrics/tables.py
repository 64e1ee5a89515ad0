"""Per-frame scores as files and tables: reading them back, and the published way of averaging them.

The published script averages the frames of a sequence first and then the sequences with equal weight; so does
:func:`summarise`, for every table, claim and plot.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stablevsr.runtime.errors import UserError

KEYS = ("sequence", "frame")


def format_scores(table: pd.DataFrame) -> str:
    """Scores as CSV text: unrounded, ``inf`` where infinite, an empty cell where undefined (nan)."""
    return table.to_csv(index=False, lineterminator="\n")


def read_scores(path: Path) -> pd.DataFrame:
    """A CSV file of :func:`format_scores` as a table; sequence and frame stay text ('000' is not 0).

    Raises :class:`UserError` if the file is missing or is no such table.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if not set(KEYS) <= set(table.columns):
            raise UserError(f"{path} is no table of scores: its columns must begin with sequence,frame")
        for column in [c for c in table.columns if c not in KEYS]:
            table[column] = pd.to_numeric(table[column].where(table[column] != ""))
    except (OSError, ValueError) as error:
        raise UserError(f"the scores {path} cannot be read ({error}): evaluate the method again") from error
    return table


def summarise(table: pd.DataFrame, metrics: Sequence[str]) -> dict[str, float]:
    """Mean over the defined frames of each sequence, then over sequences; nan where no frame has a value."""
    means = table.groupby("sequence", sort=False)[list(metrics)].mean()
    return {metric: float(means[metric].mean()) for metric in metrics}
