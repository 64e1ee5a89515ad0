"""Reading per-frame scores, and averaging them as the published script does: over frames, then over sequences."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stablevsr.runtime.errors import DamagedError, UserError
from stablevsr.runtime.hashing import file_hash
from stablevsr.runtime.io import write_text
from stablevsr.runtime.records import read_record, write_record

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


def averaged(values: pd.Series) -> pd.Series:
    """Per-frame ``values`` as they enter means: infinite ones are left out (nan), unless there are no others.

    One black frame that a method repeats has an infinite PSNR, and so would every mean that takes it in.
    """
    values = values.astype(float)  # of a table without rows the type is unknown
    finite = values.where(~np.isinf(values))
    return finite if finite.notna().any() else values


def infinite(values: pd.Series) -> int:
    """How many per-frame ``values`` are infinite."""
    return int(np.isinf(values.astype(float)).sum())


def summarise(table: pd.DataFrame, metrics: Sequence[str]) -> dict[str, float]:
    """Mean over the frames of a sequence that are defined and finite, then over sequences.

    nan where no frame has a value, infinite where all values are.
    """
    means = table[list(metrics)].apply(averaged).groupby(table["sequence"], sort=False).mean()
    return {metric: float(means[metric].mean()) for metric in metrics}


def notes_path(path: Path) -> Path:
    """The file with the notes of a table of scores."""
    return Path(f"{path}.json")


def write_table(path: Path, table: pd.DataFrame, notes: Mapping[str, Any]) -> None:
    """Write a table of scores as CSV, then ``FILE.csv.json``: ``notes``, which promise it, and the table's sha256."""
    text = table.to_csv(index=False, lineterminator="\n")
    write_text(path, text)
    sha256 = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    write_record(notes_path(path), {**notes, "sha256": sha256})


def read_notes(path: Path) -> dict[str, Any]:
    """The notes of a table that :func:`write_table` wrote. Raises :class:`DamagedError` if either file is damaged."""
    notes = read_record(notes_path(path))
    if not path.is_file() or file_hash(path) != notes.get("sha256"):
        raise DamagedError(path)
    return notes
