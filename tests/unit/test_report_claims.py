"""The claims: which clips, which side of zero, what blur means, and every way in which one cannot be checked."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import report_study as made

from stablevsr.metrics.registry import METRICS
from stablevsr.report.bootstrap import PairedDifference
from stablevsr.report.claims import ClaimResult, _judge, check, overall
from stablevsr.report.page.answers import answer, summary
from stablevsr.report.scores import ScoreBook
from stablevsr.runtime.errors import UserError


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[ClaimResult]:
    paths = made.write_all(tmp_path_factory.mktemp("study"))
    return check(ScoreBook(paths))


def changed(tmp_path: Path, claim: dict[str, Any], **spec_changes: Any) -> tuple[made.Paths, list[ClaimResult]]:
    spec = copy.deepcopy(made.SPEC) | spec_changes
    spec["claims"] = [claim]
    sampling = copy.deepcopy(made.SAMPLING) | {"claims": []}
    paths = made.write_all(tmp_path, spec, sampling)
    return paths, check(ScoreBook(paths))


def test_a_claim_holds_on_the_clips_in_focus(results: list[ClaimResult]) -> None:
    first = results[0]
    assert first.verdict == "holds"
    # with the clip that is out of focus the difference would be +1.17 and the claim would fail
    assert first.clips == ("000", "011")
    assert first.difference is not None
    assert first.difference.mean == pytest.approx(-0.5)
    assert (first.difference.n_clips, first.difference.n_seeds, first.difference.n_frames) == (2, 2, 14)
    assert first.bar is not None  # lower is better: the bar lies on the right, and its farthest end is at 1
    assert first.bar[0] > 0 and first.bar[2] == pytest.approx(1)
    assert first.bar[1] == pytest.approx(-0.5 / first.difference.low)
    assert "020 (38" in first.focus_note


def test_a_claim_in_a_metric_without_direction_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="claim 1: sharpness has no better or worse"):
        changed(tmp_path, {"metric": "sharpness", "better": "stablevsr", "than": "bicubic"})


def test_like_sharpness_is_a_caveat(results: list[ClaimResult]) -> None:
    assert results[0].sharpness_ratio == pytest.approx(1 / 1.02)
    assert results[0].caveat == "At like sharpness (ratio 0.98)."


def test_a_metric_without_weights_cannot_be_checked(results: list[ClaimResult]) -> None:
    lpips = next(r for r in results if r.metric.name == "lpips")
    assert lpips.verdict == "cannot be checked"
    assert "the weights alexnet are not in the cache" in lpips.reason
    assert lpips.difference is None and lpips.difference_text == ""


def test_best_of_all_is_checked_against_every_other_row(results: list[ClaimResult]) -> None:
    psnr = [r for r in results if r.metric.name == "psnr"]
    assert {r.than.name: r.verdict for r in psnr} == {"bicubic": "does not hold", "sampling.single_frame": "holds"}
    assert all(r.best_of_all for r in psnr)
    assert overall(psnr) == "does not hold"


def test_a_baseline_without_noise_is_paired_with_every_seed(results: list[ClaimResult]) -> None:
    bicubic = next(r for r in results if r.metric.name == "psnr" and r.than.name == "bicubic")
    assert bicubic.difference is not None
    assert bicubic.difference.n_seeds == 2
    assert bicubic.difference.mean == pytest.approx(-1.0 + 0.005)  # seed 1 scores 0.01 more, bicubic has seed 0 only


def test_an_ablation_names_its_own_variants(results: list[ClaimResult]) -> None:
    own = [r for r in results if r.ablation == "sampling"]
    assert [(r.better.name, r.than.name, r.verdict) for r in own] == [
        ("sampling.bidirectional", "sampling.single_frame", "holds")
    ]


def test_blur_that_helps_is_a_caveat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(made.LEVELS, "stablevsr", (27.0, 1.0, 0.6))
    _, [found] = changed(tmp_path, {"metric": "tof_dis", "better": "stablevsr", "than": "sampling.single_frame"})
    assert found.verdict == "holds"
    assert found.caveat.startswith("Not at like sharpness (ratio 0.59): StableVSR is blurrier")
    assert "may be no merit" in found.caveat
    assert "not at like sharpness" in answer([found])


def test_blur_of_the_other_works_against_the_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(made.LEVELS, "sampling.single_frame", (26.0, 1.5, 0.6))
    _, [found] = changed(tmp_path, {"metric": "tof_dis", "better": "stablevsr", "than": "sampling.single_frame"})
    assert "Single-frame is blurrier" in found.caveat and "against the statement" in found.caveat


def test_unmeasured_sharpness_is_a_caveat(tmp_path: Path) -> None:
    paths, _ = changed(tmp_path, {"metric": "tof_dis", "better": "stablevsr", "than": "sampling.single_frame"})
    for name in ("stablevsr", "sampling.single_frame"):
        table = paths.table("reds4", name)
        table.write_text("\n".join(line.rsplit(",", 1)[0] for line in table.read_text().splitlines()) + "\n")
    [found] = check(ScoreBook(paths))
    assert "sharpness was not measured" in found.caveat


def test_no_clip_in_focus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(made.LEVELS, "bicubic", (40.0, 2.0, 0.5))
    _, [found] = changed(tmp_path, {"metric": "tof_dis", "better": "stablevsr", "than": "sampling.single_frame"})
    assert found.verdict == "cannot be checked" and "no clip is in focus" in found.reason


def test_without_bicubic_all_clips_are_used_with_a_note(tmp_path: Path) -> None:
    claim = {"metric": "tof_dis", "better": "stablevsr", "than": "sampling.single_frame"}
    _, [found] = changed(tmp_path, claim, methods={})
    assert found.clips == made.CLIPS
    assert "All clips are used" in found.focus_note and "no bicubic method" in found.focus_note


def test_the_same_settings_cannot_beat_themselves(tmp_path: Path) -> None:
    _, [found] = changed(tmp_path, {"metric": "psnr", "better": "stablevsr", "than": "sampling.bidirectional"})
    assert found.verdict == "cannot be checked" and "the same settings" in found.reason


def test_missing_scores_are_named(tmp_path: Path) -> None:
    paths, _ = changed(tmp_path, {"metric": "tof_dis", "better": "stablevsr", "than": "sampling.single_frame"})
    paths.table("reds4", "stablevsr").unlink()
    [found] = check(ScoreBook(paths))
    assert found.verdict == "cannot be checked" and "stablevsr.csv is missing" in found.reason


@pytest.mark.parametrize(
    ("metric", "low", "high", "verdict"),
    [
        ("psnr", 0.1, 0.3, "holds"),
        ("psnr", -0.3, -0.1, "does not hold"),
        ("psnr", -0.1, 0.3, "undecided"),
        ("psnr", 0.0, 0.3, "undecided"),
        ("lpips", 0.1, 0.3, "does not hold"),
        ("lpips", -0.3, -0.1, "holds"),
        ("lpips", -0.1, 0.3, "undecided"),
        ("lpips", float("nan"), float("nan"), "undecided"),
    ],
)
def test_which_side_of_zero(metric: str, low: float, high: float, verdict: str) -> None:
    difference = PairedDifference((low + high) / 2, low, high, 8, 2, 2, 1)
    assert _judge(METRICS[metric], difference)[0] == verdict


def test_undefined_differences_are_undecided() -> None:
    nan = float("nan")
    verdict, remark = _judge(METRICS["psnr"], PairedDifference(nan, nan, nan, 8, 2, 2, 1))
    assert verdict == "undecided" and "not defined" in remark


def test_the_sentences_count_every_verdict(results: list[ClaimResult]) -> None:
    # of the five, the study and its ablation both state one
    assert summary(results) == (
        "Of 4 checked claims (a repeated one counts once), 2 hold, 1 does not hold, 0 are undecided, and 1 "
        "cannot be checked here."
    )
    assert summary([]) == "The study states no claim, so nothing was checked."


def test_an_answer_states_the_findings(results: list[ClaimResult]) -> None:
    text = answer([r for r in results if r.ablation == "sampling"])
    assert text == "As stated, Bidirectional has lower tOF (DIS) than Single-frame on REDS4 (made up)."
    psnr = answer([r for r in results if r.metric.name == "psnr"])
    assert "the opposite was measured of this: StableVSR has higher PSNR than Bicubic" in psnr
    one = next(r for r in results if r.ablation == "sampling")
    other = replace(one, than=replace(one.than, label="Another"))
    elsewhere = [replace(r, dataset_title="Vimeo") for r in (one, other)]
    assert answer([one, other, *elsewhere]) == (
        "As stated, Bidirectional has lower tOF (DIS) than Single-frame and Another on REDS4 (made up) and Vimeo."
    )
