"""Comparisons by scene: against scipy and by hand (test_report_verdicts.py simulates verdicts)."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stablevsr.metrics.statistics import Comparison, compare, equivalence, families, sign_flip, t_interval
from stablevsr.runtime.errors import UserError


def table(values, metric="lpips", runs=(0,), **columns):
    """Rows from {(scene, sequence): [value of frame 0, 1, ...]}."""
    rows = [
        {"scene": scene, "sequence": sequence, "frame": frame, "run": run, metric: value, **columns}
        for run in runs
        for (scene, sequence), frames in values.items()
        for frame, value in enumerate(frames)
    ]
    return pd.DataFrame(rows)


def by_scene(*means):
    return table({(f"s{i}", f"c{i}"): [mean, mean] for i, mean in enumerate(means)})


ZERO = by_scene(*[0.0] * 6)


def comparison(scenes, runs=(0.0,)):
    scenes = pd.Series(scenes)
    return Comparison(scenes.mean(), 0, 0, 1, len(scenes), len(runs), 0, 0, scenes, pd.Series(runs))


def test_the_interval_is_scipys_and_the_p_value_counts_all_flips():
    differences = np.array([0.3, -0.1, 0.5, 0.2, 0.4, 0.1])
    found = compare(by_scene(*differences), ZERO, "lpips")
    low, high = stats.t.interval(0.95, 5, differences.mean(), stats.sem(differences))
    assert (found.mean, found.low, found.high) == pytest.approx((differences.mean(), low, high))
    flips = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=6)]
    assert found.p == pytest.approx(np.mean([value >= flips[0] - 1e-12 for value in flips]))
    assert (found.n_scenes, found.same_sign, found.dropped) == (6, 5, 0)


def test_scenes_weigh_the_same_whatever_the_length_of_their_clips():
    a = table({("s0", "c0"): [1.0] * 100, ("s1", "c1"): [4.0] * 2})
    b = table({("s0", "c0"): [0.0] * 100, ("s1", "c1"): [0.0] * 2})
    assert compare(a, b, "lpips").mean == 2.5


def test_two_clips_of_a_scene_are_one_unit():
    a = table({("s0", "c0"): [1.0], ("s0", "c1"): [3.0], ("s1", "c2"): [4.0]})
    b = table({("s0", "c0"): [0.0], ("s0", "c1"): [0.0], ("s1", "c2"): [0.0]})
    found = compare(a, b, "lpips")
    assert (found.mean, found.n_scenes) == (3.0, 2)


def test_a_constant_shift_is_as_sure_as_its_scenes_allow():
    found = compare(by_scene(*[2.0] * 6), ZERO, "lpips")
    assert (found.mean, found.low, found.high) == (2.0, 2.0, 2.0)
    assert found.p == 2 / 2**6


@pytest.mark.parametrize("scatter", [1e-1, 1e-3, 1e-4, 1e-6, 1e-9])
def test_nearly_equal_differences_have_the_smallest_p_that_their_scenes_allow(scatter):
    random = np.random.default_rng(0)
    for scenes in range(2, 17):
        assert sign_flip(1 + scatter * random.normal(size=scenes)) >= 2 / 2**scenes
        assert sign_flip(1 + scatter * random.uniform(size=scenes)) == 2 / 2**scenes


def test_differences_that_cancel_are_no_evidence():
    assert sign_flip(np.array([0.1, 0.2, -0.3, 0.1, -0.1])) == 1.0  # their sum is a rounding error


def test_no_difference_is_no_evidence():
    found = compare(ZERO, ZERO, "lpips")
    assert (found.mean, found.p) == (0.0, 1.0)


def test_one_scene_gives_a_mean_and_no_interval():
    found = compare(by_scene(1.0), by_scene(0.0), "lpips")
    assert found.mean == 1.0
    assert math.isnan(found.low) and math.isnan(found.high)
    assert (found.p, found.n_scenes) == (1.0, 1)


def test_infinite_undefined_and_missing_values_are_dropped_in_pairs_and_counted():
    a = table({("s0", "c0"): [math.inf, 1.0, math.nan, 1.0], ("s1", "c1"): [1.0, 1.0]}, "psnr")
    b = table({("s0", "c0"): [0.0, 0.0, 0.0, 0.0, 0.0], ("s1", "c1"): [math.inf, 0.0]}, "psnr")
    found = compare(a, b, "psnr")
    assert (found.mean, found.dropped, found.n_scenes) == (1.0, 4, 2)


def test_runs_are_paired_and_a_single_run_meets_all_of_the_other():
    values = {(f"s{i}", "c"): [float(i)] for i in range(3)}
    a = pd.concat([table(values, runs=[run]).assign(lpips=lambda t, r=run: t["lpips"] + r) for run in (0, 1, 2)])
    found = compare(a, table(values), "lpips")
    assert (found.n_runs, found.mean, found.dropped) == (3, 1.0, 0)
    assert list(found.runs) == [0.0, 1.0, 2.0]
    shared = compare(a, a[a["run"] > 0], "lpips")
    assert (shared.n_runs, shared.dropped) == (2, 3)


def test_two_single_runs_are_compared_whatever_their_numbers():
    values = {(f"s{i}", "c"): [float(i)] for i in range(3)}
    found = compare(table(values, runs=[3]), table(values, runs=[0]), "lpips")
    assert (found.n_runs, found.n_scenes, found.dropped) == (1, 3, 0)


def test_rows_of_different_protocols_are_not_paired():
    values = {("s0", "c0"): [1.0], ("s1", "c1"): [1.0]}
    with pytest.raises(UserError, match="no frame has a finite lpips in both"):
        compare(table(values, protocol="published"), table(values, protocol="inference"), "lpips")


def test_what_cannot_be_compared_is_a_sentence():
    with pytest.raises(UserError, match="no column 'scene'"):
        compare(ZERO.drop(columns="scene"), ZERO, "lpips")
    with pytest.raises(UserError, match="occurs twice in the table of scores: scene s0"):
        compare(pd.concat([ZERO, ZERO]), ZERO, "lpips")
    with pytest.raises(UserError, match="nothing can be compared"):
        compare(ZERO.assign(lpips=math.nan), ZERO, "lpips")


def test_many_scenes_are_drawn_and_agree_with_the_t_test():
    random = np.random.default_rng(0)
    differences = random.normal(0.4, 1, 30)
    assert sign_flip(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.01)


def test_the_family_keeps_the_smallest_p_of_identical_statements_and_raises_others():
    random = np.random.default_rng(1)
    strong = pd.Series(random.normal(1.5, 0.5, 9))
    alone = sign_flip(strong.to_numpy())
    same = families([comparison(strong)] * 5, [False] * 5)
    assert same == [pytest.approx(alone)] * 5  # joint flips keep the correlation: nothing is paid for repetition
    noise = [comparison(random.normal(0, 1, 9)) for _ in range(20)]
    mixed = families([comparison(strong), *noise], [False] * 21)
    assert alone <= mixed[0] <= 0.05
    assert all(p >= sign_flip(c.scenes.to_numpy()) - 1e-12 for p, c in zip(mixed[1:], noise, strict=True))


def test_a_difference_between_trainings_is_less_sure_the_more_its_runs_disagree():
    scenes = [0.9, 1.2, 0.8, 1.1, 1.0, 1.3, 0.7]
    agreeing, disagreeing = (comparison(scenes, runs) for runs in ((1.0, 1.0, 1.0), (0.1, 0.4, 2.5)))
    assert families([agreeing], [True]) == families([disagreeing], [False])
    assert families([disagreeing], [True]) > families([agreeing], [True])


def test_statements_of_a_family_may_lack_scenes():
    full, part = comparison(pd.Series([1.0, 1.1, 0.9, 1.2, 1.0, 0.8], list("abcdef"))), None
    part = comparison(pd.Series([1.0, 1.1, 0.9, 1.2], list("abcd")))
    assert families([full, part], [False, False])[0] == pytest.approx(2 / 2**6)


def test_equivalence_is_two_one_sided_tests():
    differences = np.array([0.001, -0.002, 0.003, 0.0, 0.001, -0.001])
    lower = stats.ttest_1samp(differences, -0.01, alternative="greater").pvalue
    upper = stats.ttest_1samp(differences, 0.01, alternative="less").pvalue
    assert equivalence(differences, 0.01) == pytest.approx(max(lower, upper))
    assert equivalence(differences + 0.02, 0.01) > 0.5
    assert equivalence(np.zeros(6), 0.01) == 0.0
    assert equivalence(np.zeros(1), 0.01) == 1.0


def test_the_interval_of_half_the_level_is_narrower():
    values = np.arange(6.0)
    assert t_interval(values, 0.1)[1] > t_interval(values)[1]
