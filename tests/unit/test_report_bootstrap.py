"""Bootstrap intervals: known means, pairing, coverage, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from stablevsr.report.bootstrap import Interval, PairedDifference, interval, paired_bootstrap
from stablevsr.runtime.errors import UserError


def scores(values: dict[tuple[str, int, int], float], metric: str = "psnr") -> pd.DataFrame:
    return pd.DataFrame([(*key, value) for key, value in values.items()], columns=["sequence", "frame", "seed", metric])


def noisy(
    clips: int, frames: int, seeds: int, mean: float, random: np.random.Generator, clip_spread: float = 0.0
) -> pd.DataFrame:
    offsets = mean + clip_spread * random.standard_normal(clips)
    return scores(
        {
            (f"{c:03d}", f, s): offsets[c] + random.standard_normal()
            for c in range(clips)
            for f in range(frames)
            for s in range(seeds)
        }
    )


def test_mean_is_over_frames_first_then_over_clips() -> None:
    table = scores({("a", 0, 0): 1.0, ("a", 1, 0): 3.0, ("b", 0, 0): 10.0})
    assert interval(table, "psnr").mean == pytest.approx(6.0)  # not 14 / 3


def test_a_constant_difference_has_a_degenerate_interval() -> None:
    a = noisy(3, 10, 2, 30.0, np.random.default_rng(0))
    result = paired_bootstrap(a.assign(psnr=a["psnr"] + 0.5), a, "psnr", resamples=200)
    assert (result.mean, result.low, result.high) == pytest.approx((0.5, 0.5, 0.5))
    assert isinstance(result, PairedDifference)
    assert (result.n_frames, result.n_windows, result.n_clips, result.n_seeds) == (30, 9, 3, 2)


def test_rows_are_paired_by_name_and_not_by_place() -> None:
    a = noisy(2, 6, 1, 0.0, np.random.default_rng(0))
    shuffled = a.sample(frac=1, random_state=1).assign(psnr=lambda t: t["psnr"] - 2)
    assert paired_bootstrap(a, shuffled, "psnr", resamples=50).low == pytest.approx(2.0)


def test_only_frames_and_seeds_of_both_sides_count() -> None:
    a = scores({("x", f, s): 5.0 + s for f in range(4) for s in range(3)})
    b = scores({("x", f, 0): 1.0 for f in range(3)}).drop(columns="seed")  # one seed, unnamed: seed 0
    result = paired_bootstrap(a, b, "psnr", resamples=10)
    assert (result.mean, result.n_frames, result.n_seeds) == (4.0, 3, 1)


def test_undefined_frames_are_left_out_but_keep_their_place_in_a_window() -> None:
    table = scores({("x", f, 0): math.nan if f == 0 else float(f) for f in range(9)})
    result = interval(table, "psnr", window=4, resamples=10)
    assert result.mean == pytest.approx(4.5)
    assert (result.n_frames, result.n_windows) == (8, 3)  # frames 1-3, 4-7, 8


def test_windows_follow_the_natural_order_of_frames() -> None:
    values = {("x", f"im{f}", 0): 0.0 if f < 10 else 1.0 for f in range(20)}
    table = pd.DataFrame([(*k, v) for k, v in sorted(values.items())], columns=["sequence", "frame", "seed", "psnr"])
    means = {interval(table, "psnr", window=10, resamples=1, seed=seed).low for seed in range(12)}
    assert means == {0.0, 0.5, 1.0}  # two pure windows; im1, im10, im11, ... would mix them


def test_windows_widen_the_interval_where_neighbours_are_alike() -> None:
    random = np.random.default_rng(0)
    slow = np.repeat(random.standard_normal(25), 4)
    table = scores({("x", f, 0): value for f, value in enumerate(slow)})
    single, windowed = (interval(table, "psnr", window=w, resamples=2000) for w in (1, 4))
    assert windowed.high - windowed.low > 1.6 * (single.high - single.low)


@pytest.mark.parametrize("clips", [1, 8])
def test_intervals_cover_the_truth_about_as_often_as_they_say(clips: int) -> None:
    random = np.random.default_rng(7)
    spread = 1.0 if clips > 1 else 0.0
    hits = 0
    for trial in range(200):
        result = interval(noisy(clips, 40, 1, 3.0, random, spread), "psnr", resamples=300, seed=trial)
        hits += result.low <= 3.0 <= result.high
    assert 0.82 <= hits / 200 <= 0.99  # small samples: the percentile bootstrap covers a little less than 95 %


def test_a_seed_shared_by_all_clips_is_resampled_for_all_of_them() -> None:
    effect = {0: -1.0, 1: 1.0}
    table = scores({(f"c{c}", f, s): effect[s] for c in range(50) for f in range(4) for s in effect})
    result = interval(table, "psnr", resamples=2000)
    assert (result.low, result.high) == (-1.0, 1.0)  # 50 clips must not average a bad training away


def test_a_clip_without_the_drawn_seed_does_not_spoil_the_mean() -> None:
    table = scores({("a", 0, 0): 1.0, ("a", 0, 1): 1.0, ("b", 0, 0): 1.0})
    result = interval(table, "psnr", resamples=200)
    assert (result.mean, result.low, result.high) == (1.0, 1.0, 1.0)


def test_nothing_to_resample_gives_no_interval() -> None:
    result = interval(scores({("a", 0, 0): 2.0, ("a", 1, 0): 4.0}), "psnr")
    assert result.mean == 3.0
    assert math.isnan(result.low) and math.isnan(result.high)


def test_infinite_scores_give_infinite_bounds_and_no_nan() -> None:
    table = scores({("a", f, 0): math.inf for f in range(8)})
    assert interval(table, "psnr", resamples=20) == Interval(math.inf, math.inf, math.inf, 8, 2, 1, 1)
    with pytest.raises(UserError, match="nothing can be compared"):
        paired_bootstrap(table, table, "psnr")


def test_the_same_seed_gives_the_same_interval() -> None:
    table = noisy(3, 12, 1, 0.0, np.random.default_rng(0))
    one, again, other = (interval(table, "psnr", resamples=100, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_numbers_and_text_are_the_same_frame() -> None:
    a = scores({("7", 3, 0): 2.0})
    b = a.assign(sequence=7, frame="3", psnr=1.0)
    assert paired_bootstrap(a, b, "psnr").mean == 1.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="psnr"), "no column 'psnr'"),
        (lambda t: pd.concat([t, t]), "frame 0 of sequence a, seed 0, occurs twice"),
        (lambda t: t.assign(sequence="elsewhere"), "nothing can be compared"),
    ],
)
def test_tables_that_cannot_be_compared_are_refused(change, said: str) -> None:  # type: ignore[no-untyped-def]
    table = scores({("a", 0, 0): 2.0, ("a", 1, 0): 4.0})
    with pytest.raises(UserError, match=said):
        paired_bootstrap(table, change(table), "psnr")
