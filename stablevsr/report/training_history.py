"""The trainings of a study: their histories, whether all steps were run, and whether the TCM learned anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from stablevsr.method.settings import Training
from stablevsr.report.scores import read_json
from stablevsr.report.text import counted
from stablevsr.study.methods import ResolvedStudy, TrainingRun
from stablevsr.study.paths import Paths

LEVELS = {"low": "low noise", "mid": "middle", "high": "high noise"}
#: Loss with the TCM divided by loss without it: above this at every noise level, the TCM has learned nothing.
LEARNED_NOTHING = 0.99


@dataclass(frozen=True)
class Curve:
    """A kind of training: what it is called, and how its validation is shown."""

    noun: str
    measure: str  #: columns of ``history.csv``: ``val_<measure>_<level>``
    label: str  #: what ``measure`` is
    decimals: int
    curves: str  #: the figure of its curves
    weights: str = "*.safetensors"  #: the trained weights in its folder


CURVES = {
    "unet": Curve("UNet", "loss", "loss", 3, "finetuning_curves", "unet/*.safetensors"),
    "tcm": Curve("TCM", "ratio", "loss with TCM / loss without", 3, "training_curves"),
    "decoder": Curve("small decoder", "psnr", "PSNR to the VAE, dB", 1, "distillation_curves"),
}


@dataclass(frozen=True)
class History:
    """One training: what was trained, the methods that use it, and the files in ``folder``."""

    digest: str
    kind: Curve
    title: str  #: distinguishes it from the study's other trainings
    users: list[str]  #: names of the methods that use it
    settings: dict[str, Any]  #: as in the study, defaults filled in
    folder: Path

    @cached_property
    def table(self) -> pd.DataFrame | None:
        """``history.csv``; None if it is not there or damaged."""
        try:
            table = pd.read_csv(self.folder / "history.csv")
        except (OSError, ValueError):
            return None
        return table if {"step", "loss"} <= set(table.columns) else None

    @property
    def wanted(self) -> int:
        """Steps by its settings."""
        return int(self.settings["steps"])

    @property
    def steps(self) -> int:
        """Steps that were run."""
        return 0 if self.table is None or self.table.empty else int(self.table["step"].max())

    def validation(self, level: str) -> pd.Series:
        """The validated values at a noise level, indexed by step; empty where it was not validated."""
        column = f"val_{self.kind.measure}_{level}"
        if self.table is None or column not in self.table:
            return pd.Series(dtype=float)
        return self.table.set_index("step")[column].dropna()

    def last_validation(self) -> dict[str, float]:
        """The last validated values by noise level, of the levels that were validated."""
        series = {level: self.validation(level) for level in LEVELS}
        return {level: float(values.iloc[-1]) for level, values in series.items() if not values.empty}

    @property
    def validated(self) -> str:
        """The last validation in words."""
        return f"{self.kind.label}: {self._by_level}" if self._by_level else "not validated"

    @property
    def _by_level(self) -> str:
        values = self.last_validation()
        return ", ".join(f"{LEVELS[level]} {value:.{self.kind.decimals}f}" for level, value in values.items())

    @property
    def cost(self) -> str:
        """Time and memory in words, as far as they were recorded."""
        made = read_json(self.folder / "provenance.json")
        seconds, memory = made.get("seconds_per_step"), made.get("peak_memory_bytes")
        parts = [f"{seconds * self.steps / 60:,.1f} min of steps"] if seconds else []
        parts += [f"{memory / 2**30:.1f} GiB"] if memory else []
        return ", ".join(parts)

    @property
    def picture(self) -> Path | None:
        """The picture of the last validation."""
        return max((self.folder / "validation").glob("step*.png"), default=None)

    def warnings(self) -> list[str]:
        """What a reader must know about this training, as sentences."""
        who = f"The {self.kind.noun} of {', '.join(self.users)} ({self.title})"
        if self.table is None:
            return [f"{who} has no training history, so it is unknown what it learned."]
        found = []
        if self.steps < self.wanted:
            found.append(f"{who} was trained for {self.steps:,} of its {counted(step=self.wanted)}.")
        ratios = self.last_validation() if self.kind.measure == "ratio" else {}
        moved = self.settings.get("temporal_weight")  # then the loss is not the validation's error
        if ratios and not moved and min(ratios.values()) > LEARNED_NOTHING:
            how = "equals" if max(ratios.values()) < 2 - LEARNED_NOTHING else "is not below"
            found.append(f"{who} learned nothing: its loss {how} the loss without a TCM (ratio {self._by_level}).")
        return found


def histories(paths: Paths) -> list[History]:
    """All trainings of a study: UNets, then TCMs in the order in which methods name them, then small decoders."""
    study = paths.study
    runs = study.trainings()
    titles = _tcm_titles([run for run in runs.values() if run.kind == "tcm"])
    return [
        History(
            key,
            CURVES[run.kind],
            titles.get(key) or _title(run, study),
            study.names(key),
            run.settings.model_dump(mode="json"),
            paths.training(run),
        )
        for key, run in runs.items()
    ]


def _title(run: TrainingRun, study: ResolvedStudy) -> str:
    """The title of a UNet or a small decoder."""
    seed = f", seed {run.settings.seed}" if run.settings.seed else ""
    if run.kind == "decoder":
        return f"distilled from {run.base.name}{seed}"
    made = next(m.base.name for m in study.forms() if m.base and m.base.training == run)
    return f"{made}: {run.base.name} on {run.dataset.title}{seed}"


def _tcm_titles(runs: list[TrainingRun]) -> dict[str, str]:
    """A different title for each TCM: which neighbours it was trained with, and where it differs from most others."""
    traits = {run.digest: _traits(run) for run in runs}
    usual = [Counter(column).most_common(1)[0][0] for column in zip(*traits.values(), strict=True)]
    titles = {
        key: ", ".join([seen, *(t for t, common in zip(others, usual[1:], strict=True) if t not in ("", common))])
        for key, (seen, *others) in traits.items()
    }
    shared = {title for title, number in Counter(titles.values()).items() if number > 1}
    return {key: f"{title} ({key[:6]})" if title in shared else title for key, title in titles.items()}


def _traits(run: TrainingRun) -> list[str]:
    """Which neighbours a TCM was trained with, then the settings that most TCMs of a study share."""
    assert isinstance(run.settings, Training) and run.guidance is not None
    guidance, seen = run.guidance, {"past": "past frame only", "both": "past or future frame"}[run.settings.neighbour]
    how = [f"guidance on {guidance.source}", f"compensation: {guidance.motion_compensation}", f"{guidance.warp} grid"]
    if guidance.source == "none":
        seen, how = "blank image", [""] * len(how)
    how.append(f"temporal weight {run.settings.temporal_weight:g}")
    return [seen, *how, f"from {run.base.name}", f"on {run.dataset.title}", f"seed {run.settings.seed}"]
