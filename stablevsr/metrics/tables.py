"""Reading per-frame scores, and averaging them as the published script does: over frames, then over sequences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stablevsr.runtime.errors import UserError

KEYS = ("sequence", "frame")
TEXT = (*KEYS, "scene", "protocol")  #: columns that hold no numbers, where a table has them


def read_scores(path: Path) -> pd.DataFrame:
    """The CSV file that ``stablevsr evaluate`` or a study wrote; names are text ('000' is not 0), empty cells nan.

    Raises :class:`UserError` if the file is missing or is not such a table.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if not set(KEYS) <= set(table.columns):
            raise UserError(f"{path} is not a table of scores: it has no columns sequence and frame")
        for column in [c for c in table.columns if c not in TEXT]:
            table[column] = pd.to_numeric(table[column].where(table[column] != ""))
    except (OSError, ValueError) as error:
        raise UserError(f"the scores {path} cannot be read ({error}): evaluate the method again") from error
    return table


def summarise(table: pd.DataFrame, metrics: Sequence[str]) -> dict[str, float]:
    """Mean over the defined frames of a sequence, then over sequences; nan where no frame has a value."""
    means = table.groupby("sequence", sort=False)[list(metrics)].mean()
    return {metric: float(means[metric].mean()) for metric in metrics}
