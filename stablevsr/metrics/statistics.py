"""Is one method better than another on these scenes? Paired comparisons with the scene as the unit.

Frames of one clip and clips of one scene are alike, so only scenes count as independent samples. A comparison gives the
t-interval over the scenes' mean differences (Ibragimov and Mueller, JBES 2010) and the sign-flip test. The
statements of one question are a family, adjusted by the step-down maximum of |t| over joint sign flips (Westfall and
Young 1993; Nichols and Holmes, HBM 2002): one sign for each scene, the same for all statements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from stablevsr.runtime.errors import UserError

Floats = NDArray[np.float64]
LEVEL = 0.05  #: of tests; intervals cover 1 - LEVEL
EXACT_SCENES = 16  #: up to so many scenes all sign flips are enumerated
DRAWS = 20_000  #: sign flips drawn above that
SEED = 0  #: of the drawn flips
TIE = 1e-9  #: difference of t^2 / (1 + t^2) below which two count as equal


@dataclass(frozen=True)
class Comparison:
    """The difference a - b of a metric between two methods: the unweighted mean over scenes, in the metric's unit."""

    mean: float
    low: float  #: of the 95 % t-interval over scenes; NaN for a single scene
    high: float
    p: float  #: two-sided sign-flip test over scenes; at least 2 / 2^n_scenes
    n_scenes: int
    n_runs: int
    same_sign: int  #: scenes whose difference has the sign of the mean
    dropped: int  #: rows left out: without a partner, or undefined or infinite on either side
    scenes: pd.Series  #: mean difference by scene
    runs: pd.Series  #: mean difference (over scenes) by run


def compare(a: pd.DataFrame, b: pd.DataFrame, metric: str) -> Comparison:
    """How much larger ``metric`` is for method ``a`` than for method ``b``.

    The difference of a scene is the mean over all its frames, clips and runs. Rows are paired by scene, sequence,
    frame, run and, where both tables have it, protocol. A method with a single run is compared with every run of the
    other: it draws nothing (bicubic), or only noise that differs from scene to scene (frames made of those of run 0).

    Args:
        a: one row a frame with the columns ``scene, sequence, frame, run`` and ``metric``.
        b: the same for the other method.
        metric: name of the column to compare.

    Raises:
        UserError: a column is missing, a frame occurs twice, or no frame has a finite value in both tables.
    """
    left, right = _column(a, b, metric), _column(b, a, metric)
    left = _for_runs(left, right)
    right = _for_runs(right, left)
    paired = pd.concat([left, right], axis=1, join="outer", keys=["a", "b"])
    finite = np.isfinite(paired["a"]) & np.isfinite(paired["b"])
    difference = (paired["a"] - paired["b"])[finite]
    if difference.empty:
        raise UserError(f"no frame has a finite {metric} in both tables: nothing can be compared")
    scenes = difference.groupby(level="scene").mean()
    by_run = difference.groupby(level=["run", "scene"]).mean().groupby(level="run").mean()
    mean, low, high = t_interval(scenes.to_numpy())
    return Comparison(
        mean=mean,
        low=low,
        high=high,
        p=sign_flip(scenes.to_numpy()),
        n_scenes=len(scenes),
        n_runs=len(by_run),
        same_sign=int((np.sign(scenes) == np.sign(mean)).sum()),
        dropped=int((~finite).sum()),
        scenes=scenes,
        runs=by_run,
    )


def t_interval(values: Floats, level: float = LEVEL) -> tuple[float, float, float]:
    """Mean, low and high end of the two-sided t-interval that covers 1 - ``level``; NaN ends for a single value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(1 - level / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return mean, mean - half, mean + half


def sign_flip(differences: Floats) -> float:
    """Two-sided p-value of the sign-flip test that the differences are symmetric about zero."""
    table = np.asarray(differences, np.float64)[:, None]
    return _step_down(table, np.zeros(1))[0]


def families(comparisons: Sequence[Comparison], between_trainings: Sequence[bool]) -> list[float]:
    """Adjusted p-values of the statements of one family, in their order.

    Another training of a network moves all scenes of a run together, which flips over scenes cannot see: there the
    squared standard error over runs is added to that over scenes, so that the observed |t| gets smaller. (Simulated
    under a null, 9 scenes, 3 runs, run effects of 0.3 standard deviations: 3 % of families are decided with it, 8 %
    without.)

    Args:
        comparisons: one for each statement. They may rest on different scenes.
        between_trainings: for each statement, whether either method uses a network of which every run trained its own.
    """
    table = pd.concat([c.scenes for c in comparisons], axis=1).to_numpy(np.float64)  # (scenes, statements)
    run_variance = [
        float(c.runs.var(ddof=1)) / c.n_runs if between and c.n_runs > 1 else 0.0
        for c, between in zip(comparisons, between_trainings, strict=True)
    ]
    return _step_down(table, np.array(run_variance))


def _step_down(table: Floats, run_variance: Floats) -> list[float]:
    """Adjusted p-values from scene differences (scenes, statements) and the squared standard errors over runs."""
    observed = _bounded_t(np.ones((1, len(table))), table, run_variance)[0]
    flipped = _bounded_t(_signs(len(table)), table, np.zeros_like(run_variance))
    adjusted = np.ones(len(observed))
    order = np.argsort(-observed, kind="stable")
    at_least = 0.0
    for place, statement in enumerate(order):
        largest = flipped[:, order[place:]].max(axis=1)
        reached = largest >= observed[statement] - TIE
        at_least = max(at_least, float(reached.mean()))  # a statement is never surer than one with a larger |t|
        adjusted[statement] = at_least
    return [float(p) for p in adjusted]


def t_test(differences: Floats) -> float:
    """Two-sided p-value of the t-test that the mean of independent ``differences`` is zero; 1 for a single one."""
    if len(differences) < 2:
        return 1.0
    mean, error = float(differences.mean()), differences.std(ddof=1) / math.sqrt(len(differences))
    if error == 0:
        return 0.0 if mean else 1.0
    return float(2 * stats.t.sf(abs(mean) / error, len(differences) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in their order."""
    adjusted, at_least = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        at_least = max(at_least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = at_least
    return adjusted


def equivalence(differences: Floats, margin: float) -> float:
    """The p-value of two one-sided t-tests that the mean lies within ``margin`` of zero (1 for one scene)."""
    if len(differences) < 2:
        return 1.0
    mean, error = differences.mean(), differences.std(ddof=1) / math.sqrt(len(differences))
    distance = margin - abs(mean)
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stats.t.sf(distance / error, len(differences) - 1))


def _signs(scenes: int) -> Floats:
    """Sign flips (flips, scenes), the unflipped one first; all of them where there are few scenes.

    Flipping every sign changes no |t|, so the first scene keeps its sign and the enumeration is half as long.
    """
    if scenes <= EXACT_SCENES:
        numbers = np.arange(2 ** (scenes - 1))
        bits = (numbers[:, None] >> np.arange(scenes)) & 1
        return (1.0 - 2.0 * bits).astype(np.float64)
    drawn = np.random.default_rng(SEED).integers(0, 2, (DRAWS, scenes))
    return np.concatenate([np.ones((1, scenes)), 1.0 - 2.0 * drawn]).astype(np.float64)


def _bounded_t(signs: Floats, table: Floats, run_variance: Floats) -> Floats:
    """t^2 / (1 + t^2) of every statement under every flip: (flips, statements).

    It orders as |t| does. Where all differences are nearly equal, rounding moves |t| without bound, but this by no more
    than rounding itself, so that ties are still recognised.
    """
    present = np.isfinite(table)
    values = np.where(present, table, 0.0)
    count, squares = present.sum(axis=0), (values**2).sum(axis=0)
    mean = signs @ values / count
    variance = np.maximum(squares - count * mean**2, 0.0) / np.maximum(count - 1, 1)
    total = mean**2 + variance / count + run_variance
    return np.divide(mean**2, total, out=np.zeros_like(mean), where=total > 0).astype(np.float64)


def _column(table: pd.DataFrame, other: pd.DataFrame, metric: str) -> pd.Series:
    """One metric, indexed by what identifies a row in both tables."""
    keys = ["scene", "sequence", "frame", "run"]
    if "protocol" in table and "protocol" in other:
        keys.append("protocol")
    for name in (*keys, metric):
        if name not in table:
            raise UserError(f"the table of scores has no column '{name}': it has {', '.join(map(str, table.columns))}")
    values = table.assign(frame=table["frame"].astype(str)).set_index(keys)[metric].astype(np.float64)
    twice = values.index[values.index.duplicated()]
    if len(twice):
        where = ", ".join(f"{key} {value}" for key, value in zip(keys, twice[0], strict=True))
        raise UserError(f"a frame occurs twice in the table of scores: {where}")
    return values


def _for_runs(values: pd.Series, other: pd.Series) -> pd.Series:
    """``values``, repeated for every run of ``other`` if they are of a single run."""
    runs = other.index.get_level_values("run").unique()
    if values.index.get_level_values("run").nunique() > 1:
        return values
    keys = values.index.names
    single = values.rename("value").reset_index()
    return pd.concat([single.assign(run=run) for run in runs]).set_index(keys)["value"]
