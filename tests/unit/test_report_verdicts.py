"""Every verdict, and the boundary on either side of it."""

import math

import pandas as pd
import pytest

from benchmarks.verdicts import simulate
from stablevsr.metrics.statistics import Comparison, families
from stablevsr.report.verdicts import Evidence, adjusted_p, judge, judge_equivalence


def evidence(scenes, runs=(1.0,), between=False, higher=True, blur=False, ratio=1.0):
    scenes, runs = pd.Series(scenes), pd.Series(runs)
    same = int(((scenes > 0) == (scenes.mean() > 0)).sum())
    comparison = Comparison(scenes.mean(), 0, 0, 1, len(scenes), len(runs), same, 0, scenes, runs)
    p = adjusted_p([comparison], [between])[0]
    return Evidence(comparison, p, higher, blur, between, ratio)


SURE = [1.0, 1.2, 0.9, 1.1, 1.0, 0.8]
THREE = (1.0, 1.1, 0.9)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (evidence(SURE), "holds"),
        (evidence(SURE, higher=False), "does not hold"),
        (evidence([1.0, -1.2, 0.9, 1.1, -1.0, 0.8]), "undecided"),
        (evidence(SURE[:5]), "not testable here"),  # five scenes, one run
        (evidence(SURE, between=True), "not testable here"),  # one training
        (evidence(SURE, THREE, between=True), "holds"),
        (evidence(SURE, (1.0, 3.1, -0.9), between=True), "undecided"),  # runs disagree in sign
        (evidence(SURE[:4], THREE), "not testable here"),
        (evidence(SURE[:4], (*THREE, 1.0, 1.05)), "holds for these clips"),
        (evidence(SURE[:4], (*THREE, 1.0, 1.05), higher=False), "does not hold for these clips"),
        (evidence([*SURE[:3], -0.1], (*THREE, 1.0, 1.05)), "undecided"),  # a clip disagrees
        (evidence(SURE[:4], (5.0, -1.0, 4.0, -2.0, 0.5)), "undecided"),  # runs scatter
        (evidence([-x for x in SURE], higher=False, blur=True, ratio=0.9), "confounded"),
        (evidence([-x for x in SURE], higher=False, blur=True, ratio=0.96), "holds"),
        (evidence([-x for x in SURE], higher=False, blur=True, ratio=1.3), "holds"),  # sharper, and better all the same
        (evidence(SURE, higher=False, blur=True, ratio=1.3), "confounded"),  # the other one won by its blur
        (evidence([-x for x in SURE], higher=False, blur=False, ratio=0.5), "holds"),
    ],
)
def test_verdicts(given, verdict):
    assert judge(given)[0] == verdict


def test_few_clips_are_adjusted_over_runs_and_scenes_over_scenes():
    clips = [evidence(SURE[:4], (*THREE, 1.0, 1.05 + spread)).comparison for spread in (0.0, 0.5, 1.0)]
    scenes, alone = evidence(SURE, THREE).comparison, [adjusted_p([c], [False])[0] for c in clips]
    found = adjusted_p([*clips, scenes, evidence(SURE[:4]).comparison], [False] * 5)
    assert found[:3] == pytest.approx(
        [3 * alone[0], 2 * alone[1], 2 * alone[1] if alone[2] < 2 * alone[1] else alone[2]]
    )
    assert found[3] == families([scenes], [False])[0] and math.isnan(found[4])  # one run: it counts for nobody


def test_a_scene_too_few_takes_nothing_from_the_others_of_its_family():
    whole, single = evidence(SURE).comparison, evidence(SURE[:1]).comparison
    assert adjusted_p([whole, single], [False, False])[0] == adjusted_p([whole], [False])[0] < 0.05


def test_the_reason_counts_scenes_or_says_what_is_missing():
    assert judge(evidence([1.0, 1.2, 0.9, 1.1, 1.0, -0.8]))[1] == "same sign on 5 of 6 scenes"
    assert "1 run, and 3 are needed" in judge(evidence(SURE, between=True))[1]
    assert "3 runs differ in sign" in judge(evidence([5 * x for x in SURE], (1.0, 3.1, -0.9), between=True))[1]
    assert "sharpness ratio 0.90" in judge(evidence([-x for x in SURE], higher=False, blur=True, ratio=0.9))[1]


def test_equivalence_needs_a_margin_and_six_scenes():
    small = evidence([0.001, -0.002, 0.003, 0.0, 0.001, -0.001]).comparison
    assert judge_equivalence(small, 0.01)[0] == "equivalent"
    assert judge_equivalence(small, 0.001)[0] == "not shown equal"
    assert judge_equivalence(small, None)[0] == "not testable here"
    assert judge_equivalence(evidence([0.0] * 5).comparison, 0.01)[0] == "not testable here"


@pytest.mark.parametrize(
    ("scenes", "runs", "verdict"),
    [
        ([0.001, -0.002, 0.003, 0.0], [0.001, 0.0, 0.002, -0.001, 0.001], "equivalent for these clips"),
        ([0.001, -0.002, 0.003, 0.0], [0.001, 0.0, 0.002, -0.001], "not testable here"),  # four runs
        ([0.011, -0.01, 0.003, 0.0], [0.001, 0.0, 0.002, -0.001, 0.001], "not shown equal"),  # a clip that is hidden
        ([0.001, -0.002, 0.003, 0.0], [0.02, -0.02, 0.03, -0.01, 0.0], "not shown equal"),  # runs scatter
    ],
)
def test_equivalence_on_few_clips_is_over_runs_and_needs_every_clip(scenes, runs, verdict):
    assert judge_equivalence(evidence(scenes, runs).comparison, 0.01)[0] == verdict


def at_most(share, trials):
    """``share`` and two and a half standard errors of its estimate."""
    return share + 2.5 * math.sqrt(share * (1 - share) / trials)


@pytest.mark.parametrize("scenes", [3, 6, 9])
@pytest.mark.parametrize("runs", [1, 3, 5])
def test_a_true_null_is_decided_in_at_most_six_percent(scenes, runs):
    assert max(simulate(scenes, runs, effect=0.0, trials=600)) <= at_most(0.06, 600)


def test_given_clips_without_a_difference_are_decided_as_rarely():
    assert max(simulate(4, 5, effect=0.0, trials=600, spread=0.0)) <= at_most(0.06, 600)


def test_an_effect_is_found():
    assert simulate(9, 3, effect=1.5, trials=200)[1] > 0.7
    assert simulate(4, 5, effect=0.5, trials=200, spread=0.0)[0] > 0.5
