"""The verdict on one statement, from its comparison by scene: what may be concluded, and why no more.

A statement says that one method is better than another in a metric, or that two are the same in it. Differences are
always "better minus than" in the metric's unit. docs/statistics.md has the rules and how often they err.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stablevsr.metrics.statistics import LEVEL, Comparison, equivalence, families, holm, t_interval, t_test
from stablevsr.report.text import counted, format_p

Verdict = Literal[
    "holds", "does not hold", "holds for these clips", "does not hold for these clips", "equivalent",
    "equivalent for these clips", "not shown equal", "confounded", "undecided", "not testable here",
]  # fmt: skip
MIN_SCENES = 6  #: for a verdict about scenes in general
MIN_RUNS = 3  #: where a network was trained here, for a verdict about scenes in general
MIN_RUNS_GIVEN_CLIPS = 5  #: for a verdict about fewer scenes
BLURRIER = "the winner is the blurrier"  #: the reason of "confounded"
LIKE_SHARPNESS = 0.05  #: relative difference of sharpness up to which two methods are alike


@dataclass(frozen=True)
class Evidence:
    """What a verdict is formed from."""

    comparison: Comparison
    p_adjusted: float  #: in the statement's family (:func:`adjusted_p`)
    higher_is_better: bool
    rewards_blur: bool  #: whether a blurred video scores better in the metric
    between_trainings: bool  #: whether either method uses a network that was trained here
    sharpness_ratio: float | None  #: of ``better`` to ``than``; None where sharpness was not measured

    @property
    def runs_needed(self) -> int:
        """Runs without which no verdict is given."""
        if is_about_clips(self.comparison):
            return MIN_RUNS_GIVEN_CLIPS
        return MIN_RUNS if self.between_trainings else 1

    @property
    def favours_statement(self) -> bool:
        """Whether the mean difference lies on the side that the statement says."""
        return (self.comparison.mean > 0) == self.higher_is_better


def is_about_clips(c: Comparison) -> bool:
    """Whether there are too few scenes for a verdict about scenes in general: runs then decide about these clips."""
    return c.n_scenes < MIN_SCENES


def rests_on_runs(c: Comparison) -> bool:
    """Whether runs, of which there are enough, decide about few clips."""
    return is_about_clips(c) and c.n_runs >= MIN_RUNS_GIVEN_CLIPS


def interval(c: Comparison) -> tuple[float, float]:
    """The 95 % t-interval over what the verdict rests on, scenes or runs."""
    return t_interval(c.runs.to_numpy())[1:] if rests_on_runs(c) else (c.low, c.high)


def plain_p(c: Comparison) -> float:
    """The p-value of a statement alone, over what the verdict rests on."""
    return t_test(c.runs.to_numpy()) if rests_on_runs(c) else c.p


def adjusted_p(comparisons: Sequence[Comparison], between_trainings: Sequence[bool]) -> list[float]:
    """The p-values of a family's statements, adjusted for their number, in their order.

    Statements about scenes in general are adjusted together over scenes (:func:`.statistics.families`), those about few
    clips over runs (Holm). NaN for statements with too few of both, which count in neither.
    """
    found = [math.nan] * len(comparisons)
    general = [i for i, c in enumerate(comparisons) if not is_about_clips(c)]
    clips = [i for i, c in enumerate(comparisons) if rests_on_runs(c)]
    if general:
        over_scenes = families([comparisons[i] for i in general], [between_trainings[i] for i in general])
        for place, p in zip(general, over_scenes, strict=True):
            found[place] = p
    for place, p in zip(clips, holm([plain_p(comparisons[i]) for i in clips]), strict=True):
        found[place] = p
    return found


def judge(evidence: Evidence) -> tuple[Verdict, str]:
    """The verdict on "better than", and its reason."""
    c = evidence.comparison
    if c.n_runs < evidence.runs_needed:
        return "not testable here", _too_few(c)
    signs = f"same sign on {c.same_sign} of {counted(scene=c.n_scenes)}"
    if evidence.rewards_blur and evidence.sharpness_ratio is None:
        signs += "; sharpness was not measured, so blur may be the cause"
    if not evidence.p_adjusted <= LEVEL or (is_about_clips(c) and c.same_sign < c.n_scenes):
        return "undecided", signs
    if evidence.between_trainings and not is_about_clips(c) and len(set(np.sign(c.runs))) > 1:
        return "undecided", f"{signs}; the {counted(run=c.n_runs)} differ in sign"
    if _blur_explains(evidence):
        return "confounded", f"{BLURRIER} (sharpness ratio {evidence.sharpness_ratio:.2f})"
    if is_about_clips(c):
        return ("holds for these clips" if evidence.favours_statement else "does not hold for these clips"), signs
    return ("holds" if evidence.favours_statement else "does not hold"), signs


def judge_equivalence(comparison: Comparison, margin: float | None) -> tuple[Verdict, str]:
    """The verdict on "the same as": two one-sided tests with the metric's margin."""
    if margin is None:
        return "not testable here", "the metric has no margin of equivalence"
    if is_about_clips(comparison):
        return _judge_equivalence_for_clips(comparison, margin)
    p = equivalence(comparison.scenes.to_numpy(), margin)
    return ("equivalent" if p <= LEVEL else "not shown equal"), f"margin {margin:g}, {format_p(p)}"


def _judge_equivalence_for_clips(c: Comparison, margin: float) -> tuple[Verdict, str]:
    """Of fewer scenes: over runs, and every clip must lie within the margin, so that none makes up for another."""
    if not rests_on_runs(c):
        return "not testable here", _too_few(c)
    p, outside = equivalence(c.runs.to_numpy(), margin), int((c.scenes.abs() > margin).sum())
    reason = f"margin {margin:g}, {format_p(p)}"
    if outside:
        reason += f", {outside} of {counted(scene=c.n_scenes)} beyond it"
    return ("equivalent for these clips" if p <= LEVEL and not outside else "not shown equal"), reason


def _blur_explains(evidence: Evidence) -> bool:
    """Whether the winner is blurrier, in a metric that rewards blur."""
    ratio = evidence.sharpness_ratio
    if not evidence.rewards_blur or ratio is None or not math.isfinite(ratio):
        return False
    return ratio < 1 - LIKE_SHARPNESS if evidence.favours_statement else ratio > 1 + LIKE_SHARPNESS


def _too_few(c: Comparison) -> str:
    runs = counted(run=c.n_runs)
    if is_about_clips(c):
        needed = f"{MIN_SCENES} scenes or {MIN_RUNS_GIVEN_CLIPS} runs are needed"
        return f"{counted(scene=c.n_scenes)} and {runs}: {needed}"
    return f"{runs}, and {MIN_RUNS} are needed where a network was trained here"
