"""What the trainings of a study did: their history, whether all steps were run, whether the TCM learned anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stablevsr.study.methods import ResolvedStudy, TrainingRun
from stablevsr.study.paths import Paths

LEVELS = {"low": "low noise", "mid": "middle", "high": "high noise"}
#: Loss with the TCM over loss without it: above this at every noise level, the TCM has learned nothing.
LEARNED_NOTHING = 0.99


@dataclass(frozen=True)
class History:
    """One training: the methods that use it, and its ``history.csv`` (None if it is not there or damaged)."""

    digest: str
    run: TrainingRun
    names: list[str]
    table: pd.DataFrame | None

    @property
    def title(self) -> str:
        """How people know this training: by what the TCM sees of the neighbour."""
        guidance, neighbour = self.run.guidance, self.run.settings.neighbour
        if guidance.source == "none":
            return "blank image"
        seen = {"past": "past frame only", "both": "past or future frame"}[neighbour]
        extra = [] if guidance.source == "x0" else [f"guidance on {guidance.source}"]
        extra += [] if guidance.motion_compensation == "pixel" else [f"compensation: {guidance.motion_compensation}"]
        return ", ".join([seen, *extra])

    @property
    def steps(self) -> int:
        """Steps that were run."""
        return 0 if self.table is None or self.table.empty else int(self.table["step"].max())

    @property
    def ratios(self) -> dict[str, float]:
        """The last loss ratio by noise level, of the levels that were validated."""
        if self.table is None:
            return {}
        columns = {level: f"val_ratio_{level}" for level in LEVELS}
        series = {level: self.table[c].dropna() for level, c in columns.items() if c in self.table}
        return {level: float(values.iloc[-1]) for level, values in series.items() if not values.empty}

    def warnings(self) -> list[str]:
        """What a reader must know about this training, as sentences."""
        wanted = self.run.settings.steps
        who = f"The TCM of {', '.join(self.names)} ({self.title})"
        if self.table is None:
            return [f"{who} has no training history, so nothing can be said about what it learned."]
        found = []
        if self.steps < wanted:
            found.append(f"{who} was trained for {self.steps:,} of its {wanted:,} steps.")
        ratios = self.ratios
        if ratios and min(ratios.values()) > LEARNED_NOTHING:
            shown = ", ".join(f"{LEVELS[level]} {value:.3f}" for level, value in ratios.items())
            found.append(f"{who} learned nothing: its loss is that of no TCM at all (ratio {shown}).")
        return found


def histories(study: ResolvedStudy, paths: Paths) -> list[History]:
    """All trainings of a study, in the order in which methods name them."""
    return [
        History(key, run, study.trained_for(key), _read(paths.checkpoint(key) / "history.csv"))
        for key, run in study.trainings().items()
    ]


def _read(file: Path) -> pd.DataFrame | None:
    try:
        table = pd.read_csv(file)
    except (OSError, ValueError):
        return None
    return table if {"step", "loss"} <= set(table.columns) else None
