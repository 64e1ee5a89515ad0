"""Statements from hand-made tables of scores to their verdicts, and the sentences made of them."""

from __future__ import annotations

import copy
import csv
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import report_study as made

from stablevsr.metrics.statistics import t_interval, t_test
from stablevsr.report import tables
from stablevsr.report.answers import answer, counts, summary
from stablevsr.report.claims import ClaimResult, check
from stablevsr.report.scores import ScoreBook
from stablevsr.study.paths import Paths
from stablevsr.study.result_tables import KEYS

SINGLE, OWN = "sampling.single_frame", "stablevsr"
SPREAD = (0.0, 0.05, -0.05, 0.1, -0.1, 0.02, 0.03, -0.02)  #: added to a level, scene by scene
Value = Callable[[int, int], float]  #: of a frame, by scene and run


def study(tmp_path: Path, *claims: dict[str, Any], runs: int = 1, **changes: Any) -> Paths:
    """The made-up study with these claims alone; it has no scores yet."""
    spec = copy.deepcopy(made.SPEC) | {"claims": list(claims), "runs": runs} | changes
    return made.make_paths(tmp_path, made.make(tmp_path, spec, copy.deepcopy(made.SAMPLING) | {"claims": []}))


def write(
    paths: Paths, method: str, frames: Sequence[int] = (2,) * 6, runs: Sequence[int] = (0,), **metrics: Value
) -> None:
    """A table of one clip a scene with so many frames; sharpness is 1 unless it is given."""
    columns: dict[str, Value] = {"sharpness": lambda scene, run: 1.0} | metrics
    rows = [
        [f"s{scene}", f"c{scene}", str(frame), str(run), "all frames", *(f(scene, run) for f in columns.values())]
        for scene, length in enumerate(frames)
        for frame, run in itertools.product(range(length), runs)
    ]
    table = paths.table("reds4", method)
    table.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=[*KEYS, *columns]).to_csv(table, index=False)


def level(base: float, spread: float = 1.0) -> Value:
    return lambda scene, run: base + spread * SPREAD[scene]


def verdicts(paths: Paths) -> list[str]:
    return [r.verdict for r in check(ScoreBook(paths))]


BASELINES = {"bicubic": {"label": "Bicubic", "kind": "bicubic"}, "rival": {"label": "Rival", "frames": "rival"}}
RIVAL = {"metric": "psnr", "better": "rival", "than": "bicubic"}


def baselines(tmp_path: Path, claim: dict[str, Any] = RIVAL) -> Paths:
    """A study whose claim is about two methods without training and noise."""
    return study(tmp_path, claim, methods=BASELINES)


def test_a_constant_shift_over_six_scenes_holds_and_its_opposite_does_not(tmp_path: Path) -> None:
    paths = study(tmp_path, RIVAL, RIVAL | {"better": "bicubic", "than": "rival"}, methods=BASELINES)
    write(paths, "rival", psnr=level(31.0))
    write(paths, "bicubic", psnr=level(30.0))
    first, second = check(ScoreBook(paths))
    assert (first.verdict, second.verdict) == ("holds", "does not hold")
    assert first.comparison is not None
    assert (first.comparison.mean, first.comparison.n_scenes, first.comparison.n_runs) == (pytest.approx(1.0), 6, 1)
    assert first.p == 2 / 2**6 and first.reason == "same sign on 6 of 6 scenes"
    assert first.bar is not None and first.bar[1] == pytest.approx(1.0)
    assert second.bar is not None and second.bar[1] == pytest.approx(-1.0)
    assert second.sentence == "Bicubic has higher PSNR than Rival on REDS4 (made up)"
    assert second.difference_text == "-1.00 [-1.00, -1.00]"


def test_one_scene_more_or_less_makes_the_verdict(tmp_path: Path) -> None:
    paths = baselines(tmp_path)
    for frames, verdict in (((2,) * 6, "holds"), ((2,) * 5, "not testable here")):
        write(paths, "rival", frames, psnr=level(31.0))
        write(paths, "bicubic", frames, psnr=level(30.0))
        assert verdicts(paths) == [verdict]
    [found] = check(ScoreBook(paths))
    assert found.reason == "5 scenes and 1 run: 6 scenes or 5 runs are needed"
    assert found.counts_text == "5 scenes, 1 run"


def test_one_scene_has_a_difference_without_an_interval(tmp_path: Path) -> None:
    paths = baselines(tmp_path)
    write(paths, "rival", (4,), psnr=level(31.0))
    write(paths, "bicubic", (4,), psnr=level(30.0))
    [found] = check(ScoreBook(paths))
    assert (found.verdict, found.difference_text, found.bar) == ("not testable here", "+1.00", None)


def test_scenes_weigh_the_same_and_missing_frames_are_left_out_in_pairs(tmp_path: Path) -> None:
    paths = baselines(tmp_path)
    write(paths, "rival", (100, 1, 1, 1, 1, 1), psnr=lambda scene, run: 31.0 if scene else 36.0)
    write(paths, "bicubic", (50, 1, 1, 1, 1, 1), psnr=lambda scene, run: 30.0)
    [found] = check(ScoreBook(paths))
    assert found.comparison is not None
    assert (found.comparison.mean, found.comparison.dropped) == (pytest.approx((6 + 5 * 1) / 6), 50)


def test_infinite_psnr_leaves_its_frames_out(tmp_path: Path) -> None:
    paths = baselines(tmp_path)
    write(paths, "rival", psnr=lambda scene, run: math.inf if scene == 5 else 31.0 + SPREAD[scene])
    write(paths, "bicubic", psnr=level(30.0))
    [found] = check(ScoreBook(paths))
    assert found.comparison is not None
    assert (found.comparison.n_scenes, found.verdict) == (5, "not testable here")  # a scene without a finite frame
    write(paths, "rival", psnr=lambda scene, run: math.inf)
    [found] = check(ScoreBook(paths))
    assert found.verdict == "not testable here" and "no frame has a finite psnr" in found.reason


def test_a_method_that_is_trained_here_needs_three_runs_that_agree(tmp_path: Path) -> None:
    claim = {"metric": "psnr", "better": OWN, "than": "bicubic"}
    for number, (effects, verdict) in enumerate(
        [((1.0, 1.0), "not testable here"), ((1.0, 1.1, 0.9), "holds"), ((1.5, 1.5, -0.1), "undecided")]
    ):
        runs = range(len(effects))
        paths = study(tmp_path / str(number), claim, runs=len(effects))
        write(paths, OWN, runs=runs, psnr=lambda scene, run, e=effects: 30.0 + e[run] + SPREAD[scene])
        write(paths, "bicubic", psnr=level(30.0, 0.5))
        [found] = check(ScoreBook(paths))
        assert found.verdict == verdict, effects
        assert found.comparison is not None and found.comparison.n_runs == len(effects)  # bicubic's one meets them all
        if verdict == "not testable here":
            assert found.reason == "2 runs, and 3 are needed where a network was trained here"


def test_noise_alone_needs_no_runs(tmp_path: Path) -> None:
    paths = study(tmp_path, {"metric": "psnr", "better": SINGLE, "than": "bicubic"})
    write(paths, SINGLE, psnr=level(31.0))
    write(paths, "bicubic", psnr=level(30.0))
    assert verdicts(paths) == ["holds"]


def test_five_runs_decide_about_the_clips_that_there_are(tmp_path: Path) -> None:
    paths = study(tmp_path, {"metric": "psnr", "better": OWN, "than": SINGLE}, runs=5)
    for method, base in ((OWN, 31.0), (SINGLE, 30.0)):
        write(paths, method, (2,) * 4, range(5), psnr=lambda scene, run, b=base: b + SPREAD[scene] + 0.01 * run * b)
    [result] = check(ScoreBook(paths))
    assert result.verdict == "holds for these clips" and result.comparison is not None
    runs = result.comparison.runs.to_numpy()
    assert result.numbers is not None and result.numbers[1:] == t_interval(runs)[1:]
    assert result.p == result.p_adjusted == t_test(runs) < 0.05


TOF = {"metric": "tof_dis", "better": "rival", "than": "bicubic"}


@pytest.mark.parametrize("ratio,verdict", [(0.94, "confounded"), (0.96, "holds"), (1.3, "holds")])
def test_blur_makes_a_temporal_win_no_win(tmp_path: Path, ratio: float, verdict: str) -> None:
    paths = study(tmp_path, TOF, methods=BASELINES)
    write(paths, "rival", tof_dis=level(1.0), sharpness=lambda scene, run: ratio)
    write(paths, "bicubic", tof_dis=level(2.0))
    [found] = check(ScoreBook(paths))
    assert (found.verdict, found.sharpness_ratio) == (verdict, pytest.approx(ratio))


def test_a_loss_to_a_blurrier_method_is_told_as_a_loss(tmp_path: Path) -> None:
    paths = study(tmp_path, TOF, methods=BASELINES)
    write(paths, "rival", tof_dis=level(2.0), sharpness=lambda scene, run: 1.3)
    write(paths, "bicubic", tof_dis=level(1.0))
    [found] = check(ScoreBook(paths))
    assert found.verdict == "confounded"
    assert answer([found]).startswith("The opposite was measured of this, and blur may be its only cause: Rival has")


def test_unmeasured_sharpness_is_said(tmp_path: Path) -> None:
    paths = study(tmp_path, TOF, methods=BASELINES)
    for method, base in (("rival", 1.0), ("bicubic", 2.0)):
        write(paths, method, tof_dis=level(base), sharpness=lambda scene, run: math.nan)
    [found] = check(ScoreBook(paths))
    assert found.sharpness_ratio is None and "sharpness was not measured" in found.reason


def test_a_tcm_trained_for_another_guidance_is_not_tested(tmp_path: Path) -> None:
    blank = {"title": "t", "question": "q", "variants": {
        "blank": {"label": "Blank image", "guidance": {"source": "none"}},
        "trained": {"label": "Trained", "guidance": {"source": "none"}, "training": {"guidance": {"source": "none"}}},
    }, "claims": [{"metric": "psnr", "better": OWN, "than": ["blank", "trained"]}]}  # fmt: skip
    spec = copy.deepcopy(made.SPEC) | {"claims": [], "runs": 3}
    paths = made.make_paths(tmp_path, made.make(tmp_path, spec, copy.deepcopy(made.SAMPLING) | {"claims": []}, g=blank))
    for method, base in ((OWN, 31.0), ("g.blank", 30.0), ("g.trained", 30.0)):
        write(paths, method, runs=range(3), psnr=level(base))
    first, second = check(ScoreBook(paths))
    assert (first.verdict, second.verdict) == ("not testable here", "holds")
    assert first.reason == "the TCM of Blank image was trained for another guidance than it is run with"
    assert first.comparison is not None  # what was measured is shown all the same


def same(paths: Paths, difference: float, spread: float) -> ClaimResult:
    write(paths, "rival", psnr=lambda scene, run: 30.0 + difference + spread * SPREAD[scene])
    write(paths, "bicubic", psnr=lambda scene, run: 30.0)
    [found] = check(ScoreBook(paths))
    return found


def test_nothing_is_lost_within_the_margin(tmp_path: Path) -> None:
    paths = baselines(tmp_path, {"metric": "psnr", "same": "rival", "as": "bicubic"})
    close = same(paths, 0.05, 0.5)
    assert (close.verdict, close.p_adjusted) == ("equivalent", None)
    assert close.sentence == "Rival has the same PSNR as Bicubic on REDS4 (made up)"
    assert close.reason == "margin 0.2, p < 0.001" and 0 < close.p < 0.001
    assert same(paths, 0.19, 0.5).verdict == "not shown equal"
    assert same(paths, 0.0, 9.0).verdict == "not shown equal"  # too much scatter to say


def test_a_metric_without_a_margin_has_no_equivalence(tmp_path: Path) -> None:
    claim = {"metric": "psnr_y", "same": "rival", "as": "bicubic"}
    paths = study(tmp_path, claim, methods=BASELINES, metrics=["psnr_y", "sharpness"])
    for method in ("rival", "bicubic"):
        write(paths, method, psnr_y=level(30.0))
    [found] = check(ScoreBook(paths))
    assert (found.verdict, found.reason) == ("not testable here", "the metric has no margin of equivalence")
    assert math.isnan(found.p)


def test_statements_of_a_question_are_adjusted_together_and_by_dataset(tmp_path: Path) -> None:
    claims = [
        {"metric": ["psnr", "ssim"], "better": "rival", "than": "bicubic"},
        {"metric": "psnr", "same": "rival", "as": "bicubic"},
    ]
    paths = study(tmp_path, *claims, methods=BASELINES, metrics=["psnr", "ssim", "sharpness"])
    noise = (3.0, -2.0, 4.0, -3.5, 2.5, -1.0, 2.0, -4.0)
    write(paths, "rival", (2,) * 8, psnr=level(31.0), ssim=lambda scene, run: noise[scene])
    write(paths, "bicubic", (2,) * 8, psnr=level(30.0, 0.0), ssim=lambda scene, run: 0.0)
    psnr, ssim, equal = check(ScoreBook(paths))
    assert psnr.p_adjusted is not None and ssim.p_adjusted is not None
    assert psnr.p_adjusted == pytest.approx(2 / 2**8) and ssim.p_adjusted >= ssim.p
    assert equal.p_adjusted is None


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    paths = study(tmp_path, {"metric": ["lpips", "psnr", "dists"], "better": OWN, "than": "bicubic"})
    made.write_scores(paths, paths.study.methods["bicubic"])
    made.write_scores(paths, paths.study.methods[OWN])
    lpips, psnr, dists = check(ScoreBook(paths))
    assert lpips.reason == "StableVSR has no LPIPS: the weights alexnet are not in the cache"
    assert "it was not among the metrics" in dists.reason
    assert psnr.comparison is not None and lpips.comparison is None and lpips.difference_text == lpips.p_text == ""
    paths.table("reds4", OWN).unlink()
    assert "stablevsr.csv is missing" in check(ScoreBook(paths))[1].reason


def test_the_table_of_statements_holds_what_the_verdicts_rest_on(tmp_path: Path) -> None:
    claims = (TOF, {"metric": "lpips", "same": "rival", "as": "bicubic"})
    paths = study(tmp_path, *claims, methods=BASELINES)
    write(paths, "rival", tof_dis=level(1.0, 1.1), sharpness=lambda scene, run: 0.98)
    write(paths, "bicubic", tof_dis=level(2.0))
    tables.render(paths)
    with (paths.results / "tables" / "claims.csv").open() as stream:
        first, second = csv.DictReader(stream)
    assert list(first) == [
        "question", "dataset", "metric", "better", "than", "mean", "low", "high", "p", "p_adjusted", "n_scenes",
        "n_runs", "same_sign", "sharpness_ratio", "verdict", "reason",
    ]  # fmt: skip
    assert [first[key] for key in ("question", "dataset", "metric", "better", "than", "verdict")] == [
        "table1", "reds4", "tof_dis", "rival", "bicubic", "holds",
    ]  # fmt: skip
    mean = sum(-1.0 + 0.1 * SPREAD[scene] for scene in range(6)) / 6
    assert float(first["mean"]) == pytest.approx(mean) and float(first["low"]) < mean < float(first["high"])
    assert (float(first["p"]), float(first["p_adjusted"])) == (2 / 2**6, 2 / 2**6)
    assert [first[key] for key in ("n_scenes", "n_runs", "same_sign")] == ["6", "1", "6"]
    assert float(first["sharpness_ratio"]) == pytest.approx(0.98)
    assert second["verdict"] == "not testable here" and second["mean"] == second["p"] == second["n_scenes"] == ""
    text = (paths.results / "tables" / "claims.md").read_text()
    assert "## Table 1" in text and "| **holds** | Rival has lower tOF (DIS) than Bicubic on REDS4 (made up) |" in text


def test_sentences_count_every_verdict_and_join_what_is_alike(tmp_path: Path) -> None:
    claims = [{"metric": ["psnr", "tof_dis", "lpips", "dists"], "better": "rival", "than": ["bicubic", SINGLE]}]
    paths = study(tmp_path, *claims, methods=BASELINES)
    for method, psnr, tof in (("rival", 31.0, 2.0), ("bicubic", 30.0, 1.0), (SINGLE, 30.0, 1.0)):
        write(paths, method, psnr=level(psnr), tof_dis=level(tof))
    results = check(ScoreBook(paths))
    assert counts(results) == {"holds": 2, "does not hold": 2, "not testable here": 4}
    assert summary(results) == "Verdicts on 8 statements: 2 × holds, 2 × does not hold and 4 × not testable here."
    assert summary([]) == "This study checks no statement of the paper."
    assert answer(results) == (
        "As stated, Rival has higher PSNR than Bicubic and Single-frame on REDS4 (made up); the opposite was measured "
        "of this: Rival has lower tOF (DIS) than Bicubic and Single-frame on REDS4 (made up); it cannot be tested here "
        "whether Rival has lower LPIPS and DISTS than Bicubic and Single-frame on REDS4 (made up)."
    )
