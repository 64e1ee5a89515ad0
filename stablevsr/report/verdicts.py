"""The verdict on one statement, from its comparison by scene: what may be concluded, and why no more.

A statement says that one method is better than another in a metric, or that two are the same in it. Differences are
always "better minus than" in the metric's unit. docs/statistics.md has the rules and how often they err.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stablevsr.metrics.statistics import LEVEL, Comparison, equivalence, t_interval
from stablevsr.report.text import counted, format_p

Verdict = Literal[
    "holds", "does not hold", "holds for these clips", "equivalent", "equivalent for these clips", "not shown equal",
    "confounded", "undecided", "not testable here",
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
    p_adjusted: float  #: in the statement's family
    higher_is_better: bool
    rewards_blur: bool  #: whether a blurred video scores better in the metric
    between_trainings: bool  #: whether either method uses a network that was trained here
    sharpness_ratio: float | None  #: of ``better`` to ``than``; None where sharpness was not measured

    @property
    def runs_needed(self) -> int:
        """Runs without which no verdict is given."""
        if self.comparison.n_scenes < MIN_SCENES:
            return MIN_RUNS_GIVEN_CLIPS
        return MIN_RUNS if self.between_trainings else 1

    @property
    def favours_statement(self) -> bool:
        """Whether the mean difference lies on the side that the statement says."""
        return (self.comparison.mean > 0) == self.higher_is_better


def judge(evidence: Evidence) -> tuple[Verdict, str]:
    """The verdict on "better than", and its reason."""
    c = evidence.comparison
    if c.n_runs < evidence.runs_needed:
        return "not testable here", _too_few(c)
    signs = f"same sign on {c.same_sign} of {counted(scene=c.n_scenes)}"
    if evidence.rewards_blur and evidence.sharpness_ratio is None:
        signs += "; sharpness was not measured, so blur may be the cause"
    decided = _decided_for_clips(c) if c.n_scenes < MIN_SCENES else _decided(evidence)
    if not decided:
        return "undecided", signs
    if _blur_explains(evidence):
        return "confounded", f"{BLURRIER} (sharpness ratio {evidence.sharpness_ratio:.2f})"
    if c.n_scenes < MIN_SCENES:
        return ("holds for these clips", signs) if evidence.favours_statement else ("undecided", signs)
    return ("holds" if evidence.favours_statement else "does not hold"), signs


def judge_equivalence(comparison: Comparison, margin: float | None) -> tuple[Verdict, str]:
    """The verdict on "the same as": two one-sided tests with the metric's margin."""
    if margin is None:
        return "not testable here", "the metric has no margin of equivalence"
    if comparison.n_scenes < MIN_SCENES:
        return _judge_equivalence_for_clips(comparison, margin)
    p = equivalence(comparison.scenes.to_numpy(), margin)
    return ("equivalent" if p <= LEVEL else "not shown equal"), f"margin {margin:g}, {format_p(p)}"


def _judge_equivalence_for_clips(c: Comparison, margin: float) -> tuple[Verdict, str]:
    """Of fewer scenes: over runs, and every clip must lie within the margin, so that none makes up for another."""
    if c.n_runs < MIN_RUNS_GIVEN_CLIPS:
        return "not testable here", _too_few(c)
    p, outside = equivalence(c.runs.to_numpy(), margin), int((c.scenes.abs() > margin).sum())
    reason = f"margin {margin:g}, {format_p(p)}"
    if outside:
        reason += f", {outside} of {counted(scene=c.n_scenes)} beyond it"
    return ("equivalent for these clips" if p <= LEVEL and not outside else "not shown equal"), reason


def _decided(evidence: Evidence) -> bool:
    same_in_every_run = len(set(np.sign(evidence.comparison.runs))) == 1
    return evidence.p_adjusted <= LEVEL and (not evidence.between_trainings or same_in_every_run)


def _decided_for_clips(c: Comparison) -> bool:
    """Whether the t-interval over runs excludes zero and every clip agrees."""
    _, low, high = t_interval(c.runs.to_numpy())
    return c.same_sign == c.n_scenes and (low > 0 or high < 0)


def _blur_explains(evidence: Evidence) -> bool:
    """Whether the winner is blurrier, in a metric that rewards blur."""
    ratio = evidence.sharpness_ratio
    if not evidence.rewards_blur or ratio is None or not math.isfinite(ratio):
        return False
    return ratio < 1 - LIKE_SHARPNESS if evidence.favours_statement else ratio > 1 + LIKE_SHARPNESS


def _too_few(c: Comparison) -> str:
    runs = counted(run=c.n_runs)
    if c.n_scenes < MIN_SCENES:
        needed = f"{MIN_SCENES} scenes or {MIN_RUNS_GIVEN_CLIPS} runs are needed"
        return f"{counted(scene=c.n_scenes)} and {runs}: {needed}"
    return f"{runs}, and {MIN_RUNS} are needed where a network was trained here"
