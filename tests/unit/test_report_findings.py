"""The findings of the page: true for any sign, verdict and gap, in the order of the paper."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import report_study as made

from stablevsr.report.claims import check
from stablevsr.report.findings import Finding, findings
from stablevsr.report.scores import ScoreBook
from stablevsr.study.paths import Paths
from stablevsr.study.result_tables import KEYS

SPREAD = (0.0, 0.05, -0.05, 0.1, -0.1, 0.0)  #: added to a level, scene by scene


def ablation(better: str, variants: dict[str, Any]) -> dict[str, Any]:
    claim = {"metric": ["tlp", "lpips"], "better": better, "than": [name for name in variants if name != better]}
    return {"title": "t", "question": "q?", "variants": variants, "claims": [claim]}


SAMPLING = ablation(
    "both",
    {
        "single_frame": {"label": "Single-frame", "sampling": {"strategy": "single_frame"}},
        "unidirectional": {"label": "One way", "sampling": {"strategy": "unidirectional"}},
        "both": {"label": "Both ways"},
    },
)
GUIDANCE = ablation("full", {"blank": {"label": "Blank", "guidance": {"source": "none"}}, "full": {"label": "Full"}})
TRAINING = ablation(
    "either", {"past": {"label": "Past", "training": {"neighbour": "past"}}, "either": {"label": "Either"}}
)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A study of two data sets with all questions that findings are about, and no scores."""
    spec = copy.deepcopy(made.SPEC)
    spec["datasets"]["vimeo"] = spec["datasets"]["reds4"] | {"title": "Vimeo"}
    spec["datasets"]["reds4"]["title"] = "REDS"
    spec["metrics"] = ["tlp", "tof_dis", "lpips", "sharpness"]
    spec["methods"]["rival"] = {"label": "Rival", "frames": "rival"}
    spec["runs"] = 3
    spec["claims"] = [{"metric": ["lpips", "tof_dis"], "better": "stablevsr", "than": ["bicubic", "rival"]}]
    spec["table1"] = []
    others = {"guidance": GUIDANCE, "tcm_training": TRAINING}
    return made.make_paths(tmp_path, made.make(tmp_path, spec, SAMPLING, **others))


def write(paths: Paths, dataset: str, levels: dict[str, dict[str, float]], runs: int = 3) -> None:
    """Scores of six scenes: of each method its level in each metric, the method's own for equal settings."""
    own = paths.study.methods["stablevsr"]
    for method in paths.study.methods.values():
        name = "stablevsr" if method.digest == own.digest else method.name
        if name not in levels:
            continue
        rows = [
            [f"s{s}", f"c{s}", "0", str(form.run), "all frames", *(v + d for v in levels[name].values()), 1.0]
            for s, d in enumerate(SPREAD)
            for form in method.runs(dataset)
            if form.run < runs
        ]
        table = paths.table(dataset, method.name)
        table.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows, columns=[*KEYS, *levels[name], "sharpness"]).to_csv(table, index=False)


def found(paths: Paths) -> dict[str, Finding]:
    book = ScoreBook(paths)
    return {finding.title: finding for finding in findings(book, check(book))}


def test_nothing_is_found_without_scores(paths: Paths) -> None:
    assert found(paths) == {}


def test_all_five_in_the_order_of_the_paper(paths: Paths) -> None:
    levels = {name: {"tlp": 20.0, "lpips": 2.0} for name in paths.study.methods}
    write(paths, "reds4", levels)
    write(paths, "vimeo", levels)
    assert list(found(paths)) == [
        "Consistency", "Quality against other methods", "Sampling strategy", "Guidance", "Training of the TCM",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("single", "said", "verdict"),
    [
        (40.0, "StableVSR lowers tLP against single-frame sampling by 50 % on REDS (20.00 against 40.00)", "holds"),
        (16.0, "StableVSR raises tLP against single-frame sampling by 25 % on REDS (20.00 against 16.00)",
         "does not hold"),
        (20.0, "StableVSR changes tLP against single-frame sampling by less than 1 % on REDS (20.00 against 20.00)",
         "undecided"),
    ],
)  # fmt: skip
def test_the_words_follow_the_sign(paths: Paths, single: float, said: str, verdict: str) -> None:
    write(paths, "reds4", {"stablevsr": {"tlp": 20.0}, "sampling.single_frame": {"tlp": single}})
    finding = found(paths)["Consistency"]
    assert finding.fact == said
    assert [judged.verdict for judged in finding.verdicts] == [verdict]


def test_data_sets_that_disagree_are_both_told(paths: Paths) -> None:
    for dataset, single in (("reds4", 40.0), ("vimeo", 16.0)):
        write(paths, dataset, {"stablevsr": {"tlp": 20.0}, "sampling.single_frame": {"tlp": single}})
    assert found(paths)["Consistency"].sentence == (
        "StableVSR lowers tLP against single-frame sampling by 50 % on REDS (20.00 against 40.00) and raises it by "
        "25 % on Vimeo (20.00 against 16.00). The paper's claim: holds on REDS (same sign on 6 of 6 scenes); does not "
        "hold on Vimeo (same sign on 6 of 6 scenes)."
    )


def test_too_few_runs_are_said(paths: Paths) -> None:
    write(paths, "reds4", {"stablevsr": {"tlp": 20.0}, "sampling.single_frame": {"tlp": 40.0}}, runs=1)
    sentence = found(paths)["Consistency"].sentence
    reason = "1 run, and 3 are needed where a network was trained here"
    assert sentence.endswith(f". The paper's claim: not testable here ({reason}).")


def test_the_next_metric_is_used_where_the_first_is_missing(paths: Paths) -> None:
    write(paths, "reds4", {"stablevsr": {"lpips": 1.0}, "sampling.single_frame": {"lpips": 2.0}})
    assert "Consistency" not in found(paths)  # LPIPS does not measure it
    write(paths, "reds4", {"stablevsr": {"tlp": 20.0}, "sampling.single_frame": {"lpips": 2.0}})
    assert "Consistency" not in found(paths)


@pytest.mark.parametrize(
    ("rival", "bicubic", "fact", "verdicts"),
    [
        (2.0, 3.0, "StableVSR has the lowest LPIPS of 3 methods on REDS (1.000; next: Rival, 2.000)", ["holds"]),
        (0.5, 3.0, "Rival has the lowest LPIPS of 3 methods on REDS (0.500; StableVSR is number 2 with 1.000)",
         ["holds against Bicubic on REDS", "does not hold against Rival on REDS"]),
        (0.5, 0.5, "Bicubic and Rival share the lowest LPIPS of 3 methods on REDS (0.500; StableVSR is number 3 with "
         "1.000)", ["does not hold"]),
        (1.0, 1.0, "StableVSR, Bicubic and Rival share the lowest LPIPS of 3 methods on REDS (1.000)", ["undecided"]),
    ],
)  # fmt: skip
def test_the_best_is_named_with_the_place_of_the_method(
    paths: Paths, rival: float, bicubic: float, fact: str, verdicts: list[str]
) -> None:
    write(paths, "reds4", {"stablevsr": {"lpips": 1.0}, "rival": {"lpips": rival}, "bicubic": {"lpips": bicubic}})
    finding = found(paths)["Quality against other methods"]
    assert finding.fact == fact
    assert [f"{judged.verdict} {judged.subject}".strip() for judged in finding.verdicts] == verdicts


def test_only_methods_with_values_are_counted_and_each_data_set_has_its_best(paths: Paths) -> None:
    write(paths, "reds4", {"stablevsr": {"lpips": 1.0}, "bicubic": {"lpips": 3.0}})
    write(paths, "vimeo", {"stablevsr": {"lpips": 1.0}, "bicubic": {"lpips": 0.5}, "rival": {"lpips": 0.7}})
    assert found(paths)["Quality against other methods"].fact == (
        "StableVSR has the lowest LPIPS of 2 methods on REDS (1.000; next: Bicubic, 3.000) and Bicubic has the lowest "
        "LPIPS of 3 methods on Vimeo (0.500; StableVSR is number 3 with 1.000)"
    )


def test_a_mismatched_training_is_the_reason(paths: Paths) -> None:
    write(paths, "reds4", {"stablevsr": {"tlp": 20.0}, "guidance.blank": {"tlp": 40.0}})
    finding = found(paths)["Guidance"]
    assert finding.fact == "“Full” has the lowest tLP of 2 kinds of guidance on REDS (20.00; next: “Blank”, 40.00)"
    assert [judged.text for judged in finding.verdicts] == [
        "not testable here (a TCM was trained for another guidance than it is run with)"
    ]


def test_averages_that_contradict_the_paired_difference_make_no_finding(paths: Paths) -> None:
    write(paths, "reds4", {"stablevsr": {"tlp": 20.0}, "sampling.single_frame": {"tlp": 40.0}})
    file = paths.table("reds4", "sampling.single_frame")
    table = pd.read_csv(file)
    unpaired = table.assign(frame=7, tlp=-900.0)  # of frames that the method has no scores of
    pd.concat([table, unpaired]).to_csv(file, index=False)
    assert not {"Consistency", "Sampling strategy"} & found(paths).keys()
