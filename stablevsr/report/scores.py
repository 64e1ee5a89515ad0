"""The scores of a study as the report shows them: read once, averaged, with a reason for every missing value.

All parts of the report ask one :class:`ScoreBook`, so that a number is the same wherever it is shown. A shown number is
the mean over the frames of each clip and seed, then over seeds, then over clips with equal weight (as StableVSR's
eval.py averages).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from stablevsr.metrics.registry import resolve
from stablevsr.metrics.tables import read_scores
from stablevsr.report.bootstrap import Interval, interval
from stablevsr.runtime.errors import UserError
from stablevsr.study.methods import Method
from stablevsr.study.paths import Paths

#: Resamples for the intervals in tables, which have hundreds of cells. Claims use the full 10,000; with 2,000 the
#: bounds already agree to the two digits shown.
RESAMPLES = 2000
#: A clip is in focus if bicubic's PSNR on it is below this, in dB.
IN_FOCUS_BELOW = 34.0


@dataclass(frozen=True)
class Scores:
    """What one method scored on one dataset: one row a frame and seed, or the reason why there is nothing."""

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
class Focus:
    """The clips of a dataset that are in focus (None: unknown), and a sentence where it is unknown or clips are not."""

    clips: list[str] | None
    note: str


class ScoreBook:
    """Reads and remembers the scores of all methods of one study; with ``seeds``, of those seeds alone."""

    def __init__(self, paths: Paths, seeds: frozenset[int] | None = None) -> None:
        self.study, self.paths, self.seeds = paths.study, paths, seeds
        self.metrics = tuple(resolve(self.study.spec.metrics))
        self._restricted: dict[frozenset[int], ScoreBook] = {}
        self._scores: dict[tuple[str, str], Scores] = {}
        self._intervals: dict[tuple[str, str, str], Interval | None] = {}

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
        if "seed" not in table.columns:
            table["seed"] = 0
        if self.seeds is not None and method.kind == "stablevsr":
            table = table[table["seed"].isin(self.seeds)]
        skipped = read_json(Path(f"{path}.json")).get("skipped")
        return Scores(table, skipped=skipped if isinstance(skipped, dict) else {})

    def with_common_seeds(self, dataset: str, methods: Iterable[Method]) -> ScoreBook:
        """The scores of the seeds that all these methods have, so that no row is compared on seeds others lack.

        Methods that draw no noise, or have no scores, do not restrict the seeds. Without a common seed it is this book.
        """
        tables = [t for m in methods if m.kind == "stablevsr" and (t := self.scores(dataset, m).table) is not None]
        common = frozenset.intersection(*(frozenset(int(s) for s in t["seed"]) for t in tables)) if tables else None
        if not common:
            return self
        return self._restricted.setdefault(common, ScoreBook(self.paths, common))

    def clip_means(self, dataset: str, method: Method, metric: str) -> pd.Series:
        """Mean of every clip over its frames, then seeds; indexed by clip, empty where there is no value."""
        scores = self.scores(dataset, method)
        if not scores.has(metric):
            return pd.Series(dtype=float)
        assert scores.table is not None
        by_seed = scores.table.groupby(["sequence", "seed"])[metric].mean()
        return by_seed.groupby("sequence").mean().dropna()

    def value(self, dataset: str, method: Method, metric: str) -> float | None:
        """The shown number, unrounded; None where there is no value."""
        means = self.clip_means(dataset, method, metric)
        return None if means.empty else float(means.mean())

    def interval(self, dataset: str, method: Method, metric: str) -> Interval | None:
        """The shown number's 95 % bootstrap interval; None where there is no value. Methods of one digest share it."""
        key = (dataset, method.digest, metric)
        if key not in self._intervals:
            scores = self.scores(dataset, method)
            usable = scores.table if scores.has(metric) else None
            self._intervals[key] = None if usable is None else interval(usable, metric, resamples=RESAMPLES)
        return self._intervals[key]

    def counts(self, dataset: str, method: Method) -> tuple[int, int, int]:
        """Numbers of frames (of one seed), clips and seeds behind a row; zeros where there is no table."""
        table = self.scores(dataset, method).table
        if table is None:
            return (0, 0, 0)
        frames = len(table[["sequence", "frame"]].drop_duplicates())
        return (frames, table["sequence"].nunique(), table["seed"].nunique())

    def focus(self, dataset: str) -> Focus:
        """Which clips of ``dataset`` are in focus, by the PSNR of the study's bicubic method."""
        if self.bicubic is None:
            return Focus(None, "All clips are used: the study has no bicubic method to tell which clips are in focus.")
        psnr = self.clip_means(dataset, self.bicubic, "psnr")
        if psnr.empty:
            why = self.scores(dataset, self.bicubic).reason("psnr")
            note = f"All clips are used: bicubic has no PSNR to tell which clips are in focus ({why})."
            return Focus(None, note)
        left_out = ", ".join(f"{clip} ({value:.1f} dB)" for clip, value in psnr.items() if value >= IN_FOCUS_BELOW)
        clips = [str(clip) for clip in psnr.index[psnr < IN_FOCUS_BELOW]]
        return Focus(clips, f"Left out as out of focus, by bicubic's PSNR: {left_out}." if left_out else "")

    def missing(self) -> list[str]:
        """All missing tables, clips and seeds of the study's scores, a sentence each."""
        datasets, methods = self.study.spec.datasets, self.study.methods.values()
        pairs = [(dataset, method) for dataset in datasets for method in methods if dataset in method.datasets]
        return [gap for pair in pairs for gap in self._gaps(*pair)]

    def _gaps(self, dataset: str, method: Method) -> list[str]:
        scores = self.scores(dataset, method)
        where = f"{method.name} on {dataset}"
        if scores.table is None:
            return [f"{where}: {scores.problem}"]
        clips = sorted(set(sequences(self.paths, dataset) or ()) - set(scores.table["sequence"]))
        seeds = sorted(set(method.seeds) - {int(s) for s in scores.table["seed"]})
        gaps = [f"{where}: no scores of clip {', '.join(clips)}"] if clips else []
        return gaps + ([f"{where}: no scores of seed {', '.join(map(str, seeds))}"] if seeds else [])


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
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
