"""What the trainings of a study did: their history, whether all steps were run, whether the TCM learned anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from stablevsr.report.scores import read_json
from stablevsr.report.tables.markup import counted
from stablevsr.study.methods import ResolvedStudy, TrainingRun
from stablevsr.study.paths import Paths
from stablevsr.training.tasks import KINDS

LEVELS = {"low": "low noise", "mid": "middle", "high": "high noise"}
#: By kind of training: the validated figure, what it is in words, decimal places.
VALIDATIONS = {
    "tcm": ("ratio", "loss with TCM / without", 3),
    "unet": ("loss", "loss", 3),
    "decoder": ("psnr", "PSNR to the VAE's decoder", 1),
}
#: Loss with the TCM over loss without it: above this at every noise level, the TCM has learned nothing.
LEARNED_NOTHING = 0.99


@dataclass(frozen=True)
class History:
    """One training: what was trained, the methods that use it, and what it left in ``folder``."""

    digest: str
    kind: str  #: of :data:`stablevsr.training.tasks.KINDS`
    title: str  #: how people tell it from the study's other trainings
    names: list[str]
    wanted: int  #: steps by its settings
    folder: Path

    @property
    def network(self) -> str:
        """What was trained, as people call it."""
        return KINDS[self.kind]

    @cached_property
    def table(self) -> pd.DataFrame | None:
        """``history.csv``; None if it is not there or damaged."""
        try:
            table = pd.read_csv(self.folder / "history.csv")
        except (OSError, ValueError):
            return None
        return table if {"step", "loss"} <= set(table.columns) else None

    @property
    def steps(self) -> int:
        """Steps that were run."""
        return 0 if self.table is None or self.table.empty else int(self.table["step"].max())

    def last(self, figure: str) -> dict[str, float]:
        """The last validation's ``val_<figure>_<level>`` by noise level, of the levels that were validated."""
        if self.table is None:
            return {}
        columns = {level: f"val_{figure}_{level}" for level in LEVELS}
        series = {level: self.table[c].dropna() for level, c in columns.items() if c in self.table}
        return {level: float(values.iloc[-1]) for level, values in series.items() if not values.empty}

    @property
    def validated(self) -> str:
        """What the last validation found, in words."""
        figure, words, digits = VALIDATIONS[self.kind]
        values = ", ".join(f"{LEVELS[level]} {value:.{digits}f}" for level, value in self.last(figure).items())
        return f"{words}: {values}" if values else "not validated"

    @property
    def cost(self) -> str:
        """Time and memory in words, as far as they were recorded."""
        made: dict[str, Any] = read_json(self.folder / "provenance.json")
        seconds, memory = made.get("seconds_per_step"), made.get("peak_memory_bytes")
        parts = [f"{seconds * self.steps / 60:,.1f} min"] if seconds else []
        parts += [f"{memory / 2**30:.1f} GiB"] if memory else []
        return ", ".join(parts)

    @property
    def strip(self) -> Path | None:
        """The picture of the last validation."""
        return max((self.folder / "validation").glob("step*.png"), default=None)

    def warnings(self) -> list[str]:
        """What a reader must know about this training, as sentences."""
        who = f"The {self.network} of {', '.join(self.names)} ({self.title})"
        if self.table is None:
            return [f"{who} has no training history, so nothing can be said about what it learned."]
        found = []
        if self.steps < self.wanted:
            found.append(f"{who} was trained for {self.steps:,} of its {counted(step=self.wanted)}.")
        ratios = self.last("ratio")
        if ratios and min(ratios.values()) > LEARNED_NOTHING:
            shown = ", ".join(f"{LEVELS[level]} {value:.3f}" for level, value in ratios.items())
            found.append(f"{who} learned nothing: its loss is that of no TCM at all (ratio {shown}).")
        return found


def histories(study: ResolvedStudy, paths: Paths) -> list[History]:
    """All trainings of a study: UNets, then TCMs in the order in which methods name them, then small decoders."""
    runs = study.trainings()
    titles = _titles({key: run for key, run in runs.items() if run.kind == "tcm"})
    names = {m.base.training.digest: m.base.name for m in study.forms() if m.base and m.base.training}
    for key, run in runs.items():
        if run.kind == "unet":
            titles[key] = f"{names[key]}: {run.base.name} on {run.dataset.title}"
        elif run.kind == "decoder":
            titles[key] = f"distilled from {run.base.name}"
    return [
        History(key, run.kind, titles[key], study.trained_for(key), run.settings.steps, paths.training(run))
        for key, run in runs.items()
    ]


def _titles(runs: dict[str, TrainingRun]) -> dict[str, str]:
    """What each TCM saw of the neighbour, and where it differs from most of the others; never two alike."""
    traits = {key: _traits(run) for key, run in runs.items()}
    usual = [Counter(column).most_common(1)[0][0] for column in zip(*traits.values(), strict=True)]
    titles = {
        key: ", ".join([_seen(runs[key]), *(t for t, common in zip(own, usual, strict=True) if t not in ("", common))])
        for key, own in traits.items()
    }
    shared = {title for title, number in Counter(titles.values()).items() if number > 1}
    return {key: f"{title} ({key[:6]})" if title in shared else title for key, title in titles.items()}


def _traits(run: TrainingRun) -> list[str]:
    """Settings that tell TCMs apart beside what they saw."""
    assert run.guidance is not None
    grid = "" if run.guidance.source == "none" else f"{run.guidance.warp} grid"
    return [f"from {run.base.name}", f"on {run.dataset.title}", grid, f"seed {run.settings.seed}"]


def _seen(run: TrainingRun) -> str:
    """What the TCM sees of the neighbour."""
    guidance, neighbour = run.guidance, run.settings.model_dump()["neighbour"]
    assert guidance is not None
    if guidance.source == "none":
        return "blank image"
    seen = {"past": "past frame only", "both": "past or future frame"}[neighbour]
    extra = [] if guidance.source == "x0" else [f"guidance on {guidance.source}"]
    extra += [] if guidance.motion_compensation == "pixel" else [f"compensation: {guidance.motion_compensation}"]
    return ", ".join([seen, *extra])
