"""The scores of a study as the report shows them: read once, averaged, with a reason for every missing value.

All parts of the report ask one :class:`ScoreBook`, so that a number is the same wherever it is shown. A shown number is
the unweighted mean over scenes; the value of a scene is the mean over its frames, clips and runs, as in
:func:`stablevsr.metrics.statistics.compare`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from stablevsr.metrics.registry import resolve
from stablevsr.metrics.tables import averaged, infinite, read_scores, summarise
from stablevsr.runtime.errors import UserError
from stablevsr.study.methods import REFERENCE, Method
from stablevsr.study.paths import Paths


@dataclass(frozen=True)
class Scores:
    """What one method scored on one dataset: one row a frame and run, or the reason why there is nothing."""

    table: pd.DataFrame | None
    problem: str = ""
    skipped: dict[str, str] = field(default_factory=dict)  #: why the evaluation left a metric out, by metric

    def has(self, metric: str) -> bool:
        """Whether any frame has a value of ``metric``."""
        return self.table is not None and metric in self.table.columns and bool(self.table[metric].notna().any())

    def reason(self, metric: str) -> str:
        """Why ``metric`` has no value here, as the end of a sentence."""
        if self.table is None:
            return self.problem
        if metric in self.skipped:
            return self.skipped[metric].replace(str(Path.home()), "~")
        if metric not in self.table.columns:
            return "it was not among the metrics when these frames were scored"
        return "it is undefined on every frame"


@dataclass(frozen=True)
class Average:
    """A shown number: the mean over scenes, and the standard deviation over them (nan for a single scene)."""

    mean: float
    deviation: float


class ScoreBook:
    """Reads and remembers the scores of all methods of one study."""

    def __init__(self, paths: Paths) -> None:
        self.study, self.paths = paths.study, paths
        self.metrics = tuple(resolve(self.study.spec.metrics))
        self._scores: dict[tuple[str, str], Scores] = {}
        self._protocols: dict[str, str] = {}

    @cached_property
    def bicubic(self) -> Method | None:
        """The study's bicubic method."""
        return next((m for m in self.study.methods.values() if m.kind == "bicubic"), None)

    def methods(self) -> list[Method]:
        """All methods, each digest once under its first name; the rows of Table 1 come first."""
        return distinct([*self.study.table1(), *self.study.methods.values()])

    def title(self, dataset: str) -> str:
        """A dataset's title."""
        return self.study.spec.datasets[dataset].title

    def scores(self, dataset: str, method: Method) -> Scores:
        """The scores of ``method`` on ``dataset``; never raises: an unreadable file becomes a ``problem``."""
        key = (dataset, method.name)
        if key not in self._scores:
            self._scores[key] = self._read(dataset, method)
        return self._scores[key]

    def _read(self, dataset: str, method: Method) -> Scores:
        path = self.paths.table(dataset, method.name)
        if dataset not in method.datasets:
            return Scores(None, f"{method.label} is not run on this dataset")
        if not path.exists():
            return Scores(None, f"there are no scores yet ({path} is missing)")
        try:
            table = read_scores(path)
        except UserError as error:
            return Scores(None, str(error))
        if table.empty:
            return Scores(None, f"{path} holds no frame")
        if absent := {"scene", "run", "protocol"} - set(table.columns):
            return Scores(None, f"{path} has no column {min(absent)}: run the study again")
        if others := set(table["protocol"]) - {self.protocol(dataset)}:
            found = f"'{min(others)}', not '{self.protocol(dataset)}'"
            return Scores(None, f"{path} has scores of another protocol ({found}): run the study again")
        skipped = read_json(Path(f"{path}.json")).get("skipped")
        return Scores(table, skipped=skipped if isinstance(skipped, dict) else {})

    def protocol(self, dataset: str) -> str:
        """The protocol of the scores on ``dataset`` (:mod:`stablevsr.study.protocol`): that of the first table found.

        Tables of the study's own method come first. Scores of other protocols are not used; empty without any table.
        """
        if dataset not in self._protocols:
            names = (REFERENCE, *self.study.methods)
            files = [file for name in names if (file := self.paths.table(dataset, name)).exists()]
            self._protocols[dataset] = next((found for file in files if (found := _protocol(file)) is not None), "")
        return self._protocols[dataset]

    def scene_means(self, dataset: str, method: Method, metric: str) -> pd.Series:
        """Mean of every scene over its frames, clips and runs; indexed by scene, empty where there is no value."""
        return self._means(dataset, method, metric, "scene")

    def clip_means(self, dataset: str, method: Method, metric: str) -> pd.Series:
        """Mean of every clip over its frames and runs; indexed by clip, empty where there is no value."""
        return self._means(dataset, method, metric, "sequence")

    def _means(self, dataset: str, method: Method, metric: str, unit: str) -> pd.Series:
        scores = self.scores(dataset, method)
        if not scores.has(metric):
            return pd.Series(dtype=float)
        assert scores.table is not None
        return averaged(scores.table[metric]).groupby(scores.table[unit]).mean().dropna()

    def infinite(self, dataset: str, method: Method, metric: str) -> int:
        """How many frames, of all runs, the means of ``metric`` leave out because their values are infinite."""
        scores = self.scores(dataset, method)
        if not scores.has(metric):
            return 0
        assert scores.table is not None
        values = scores.table[metric]
        return infinite(values) if math.isfinite(averaged(values).mean()) else 0

    def average(self, dataset: str, method: Method, metric: str) -> Average | None:
        """The shown number, unrounded; None where there is no value."""
        means = self.scene_means(dataset, method, metric)
        if means.empty:
            return None
        mean = float(means.mean())
        return Average(mean, float(means.std()) if math.isfinite(mean) else math.nan)

    def run_means(self, dataset: str, method: Method, metric: str) -> tuple[float, ...]:
        """For every run the mean over frames, then over clips, as the published script averages.

        Empty where a clip has no row, or a run no finite value.
        """
        scores = self.scores(dataset, method)
        if not scores.has(metric) or self.absent_clips(dataset, method):
            return ()
        assert scores.table is not None
        means = [summarise(rows, [metric])[metric] for _, rows in scores.table.groupby("run")]
        return tuple(means) if all(map(math.isfinite, means)) else ()

    def value(self, dataset: str, method: Method, metric: str) -> float | None:
        """The mean of :meth:`average` alone."""
        found = self.average(dataset, method, metric)
        return None if found is None else found.mean

    def counts(self, dataset: str, method: Method) -> tuple[int, int, int]:
        """Numbers of frames (of one run), scenes and runs behind a row; zeros where there are no scores."""
        table = self.scores(dataset, method).table
        if table is None:
            return (0, 0, 0)
        table = table[table[[name for name in self.study.spec.metrics if name in table]].notna().any(axis=1)]
        frames = len(table[["sequence", "frame"]].drop_duplicates())
        return (frames, table["scene"].nunique(), table["run"].nunique())

    def absent_clips(self, dataset: str, method: Method) -> list[str]:
        """The clips of ``dataset`` that the method's table has no row of; none where there is no table."""
        table = self.scores(dataset, method).table
        return [] if table is None else sorted(set(sequences(self.paths, dataset) or ()) - set(table["sequence"]))

    def missing(self) -> list[str]:
        """All missing tables, clips and runs of the study's scores, a sentence each."""
        datasets, methods = self.study.spec.datasets, self.study.methods.values()
        pairs = [(dataset, method) for dataset in datasets for method in methods if dataset in method.datasets]
        return [gap for pair in pairs for gap in self._gaps(*pair)]

    def _gaps(self, dataset: str, method: Method) -> list[str]:
        scores = self.scores(dataset, method)
        where = f"{method.name} on {dataset}"
        if scores.table is None:
            return [f"{where}: {scores.problem}"]
        clips = self.absent_clips(dataset, method)
        runs = sorted({form.run for form in method.runs(dataset)} - set(scores.table["run"]))
        gaps = [f"{where}: no scores of clip {', '.join(clips)}"] if clips else []
        return gaps + ([f"{where}: no scores of run {', '.join(map(str, runs))}"] if runs else [])


def _protocol(file: Path) -> str | None:
    """The protocol of the first row of a table, None if there is none."""
    try:
        rows = pd.read_csv(file, usecols=["protocol"], nrows=1, dtype=str, keep_default_na=False)
    except (OSError, ValueError):
        return None
    return None if rows.empty else str(rows["protocol"].iloc[0])


def distinct(methods: Iterable[Method]) -> list[Method]:
    """Of methods that share a digest, and so all their numbers, the first."""
    found: dict[str, Method] = {}
    for method in methods:
        found.setdefault(method.digest, method)
    return list(found.values())


def sequences(paths: Paths, dataset: str) -> dict[str, Any] | None:
    """The clips of a dataset, from its manifest; None before the dataset is made."""
    return read_json(paths.dataset(dataset) / "manifest.json").get("sequences")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from ``path``; an empty one where the file is absent or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
