"""Verdicts on the cells of the paper's Table 1: what counts as reproduced, and where they are shown."""

from __future__ import annotations

import copy
import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import report_study as made

from stablevsr.metrics.registry import METRICS
from stablevsr.report import page, tables
from stablevsr.report.scores import ScoreBook
from stablevsr.report.tables.published import PublishedValue
from stablevsr.report.tables.remeasured import Remeasured
from stablevsr.report.tables.reproduction import Reproduction, reproductions, summary

PUBLISHED = Path(__file__).parents[2] / "results" / "published"
PAPER = 9  #: metrics of the paper's table
Build = Callable[..., made.Paths]


def cell(metric: str, printed: float | None, runs: Sequence[float], others: Sequence[float] = ()) -> Reproduction:
    decimals = {"psnr": 2, "musiq": 2}.get(metric, 3)
    parties = tuple(Remeasured(f"party {k}", value) for k, value in enumerate(others))
    return Reproduction(
        "reds4", "REDS4", "m", "M", METRICS[metric], PublishedValue(decimals, printed), parties, tuple(runs)
    )


@pytest.mark.parametrize(
    ("metric", "printed", "runs", "others", "verdict", "source"),
    [
        ("psnr", 27.97, [27.974], [], "reproduced", "rounding of the published value"),
        ("lpips", 0.097, [0.0975], [], "reproduced", "rounding of the published value"),  # half a unit: 0.097 or 0.098
        ("psnr", 27.97, [27.976], [], "close", "rounding of the published value"),  # 27.98 as printed
        ("psnr", 27.97, [28.16], [27.9], "close", "rounding of the published value"),  # one party has no spread
        ("psnr", 27.97, [28.18], [], "not reproduced", "rounding of the published value"),
        ("psnr", 27.97, [28.18], [27.93, 28.15], "reproduced", "range of 2 other values"),
        ("psnr", 27.97, [28.2], [27.93, 28.15], "not reproduced", "range of 2 other values"),
        ("psnr", 27.97, [28.0, 28.1, 28.2], [], "reproduced", "two standard deviations over 3 runs"),
        ("psnr", 27.97, [28.16, 28.18], [], "close", "two standard deviations over 2 runs"),
        ("psnr", 27.97, [27.98, 27.98], [27.97, 27.98], "reproduced", "range of 2 other values"),
        ("musiq", 67.0, [67.1], [], "not reproduced", "rounding of the published value"),  # the metric has no margin
        ("psnr", 27.97, [], [27.93, 28.15], "not measured", "range of 2 other values"),
        ("psnr", None, [27.9], [27.93, 28.15], "published value unknown", "range of 2 other values"),
    ],
)
def test_verdicts(
    metric: str, printed: float | None, runs: list[float], others: list[float], verdict: str, source: str
) -> None:
    judged = cell(metric, printed, runs, others)
    assert (judged.verdict, judged.tolerance[1]) == (verdict, source)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """A study of the published model on all of REDS4, with given scores of its own method."""

    def paths(rows: Sequence[str] = (), model: str = "claudiom4sir/StableVSR", clips: str = "abc") -> made.Paths:
        spec = copy.deepcopy(made.SPEC) | {"model": model, "metrics": ["psnr", "lpips"], "claims": []}
        found = made.make_paths(tmp_path, made.make(tmp_path, spec, {**made.SAMPLING, "claims": []}))
        shutil.copytree(PUBLISHED, found.results_root / "published", dirs_exist_ok=True)
        table, manifest = found.table("reds4", "stablevsr"), found.dataset("reds4") / "manifest.json"
        for file in (table, manifest):
            file.parent.mkdir(parents=True, exist_ok=True)
        table.write_text("\n".join(["scene,sequence,frame,run,protocol,psnr,lpips", *rows]) + "\n")
        manifest.write_text(json.dumps({"sequences": {clip: {"frames": 2, "scene": "s"} for clip in clips}}))
        return found

    return paths


#: Clips a and b are one scene, clip c has a single frame: weighing scenes or frames equally gives other means.
ROWS = [
    f"{scene},{clip},{frame},{run},,{psnr + run},0.097"
    for run in (0, 1)
    for scene, clip, frame, psnr in (("s", "a", 0, 27), ("s", "a", 1, 27), ("s", "b", 0, 27), ("t", "c", 0, 28.41))
]


def test_a_measured_cell_averages_over_frames_then_clips_in_every_run(build: Build) -> None:
    cells = {(c.method, c.metric.name): c for c in reproductions(ScoreBook(build(ROWS)))}
    own = cells["stablevsr", "psnr"]
    assert own.runs == pytest.approx((27.47, 28.47))
    assert own.difference == pytest.approx(0.0)
    assert own.run_deviation == pytest.approx(0.5**0.5)
    assert cells["stablevsr", "lpips"].verdict == "reproduced"
    assert cells["rvrt", "psnr"].because == "this study does not run the method"
    assert cells["stablevsr", "tlp"].because == "it was not among the metrics when these frames were scored"


def test_every_cell_of_the_table_has_a_verdict(build: Build) -> None:
    cells = reproductions(ScoreBook(build(ROWS)))
    assert len(cells) == 10 * PAPER and {c.dataset for c in cells} == {"reds4"}
    known = [c for c in cells if c.published.value is not None]
    assert len(known) == 4 * 5  # of four methods tLP, tOF, LPIPS, DISTS and PSNR were found
    assert summary(cells) == (
        "The 90 cells of the paper's Table 1 by verdict: reproduced 2, not measured 18, published value unknown 70."
    )


def test_others_count_only_with_the_papers_protocol(build: Build) -> None:
    cells = {(c.method, c.metric.name): c for c in reproductions(ScoreBook(build(ROWS)))}
    assert (cells["stablevsr", "psnr"].others_range, len(cells["stablevsr", "psnr"].others)) == ("27.93 to 28.15", 4)
    assert cells["stablevsr", "psnr"].spread == pytest.approx(0.22)  # the paper's and four others: five parties
    assert "AVSR-Diff" in cells["stablevsr", "psnr"].parties
    assert [c.party for c in cells["bicubic", "psnr"].others] == ["Stream-DiffVSR"]  # the student project's is not
    assert cells["bicubic", "psnr"].verdict == "published value unknown"


def test_a_study_without_a_clip_measures_nothing(build: Build) -> None:
    cells = {(c.method, c.metric.name): c for c in reproductions(ScoreBook(build(ROWS, clips="abcd")))}
    assert cells["stablevsr", "psnr"].verdict == "not measured"
    assert cells["stablevsr", "psnr"].because == "there are no scores of clip d"


def test_another_model_is_named(tmp_path: Path) -> None:
    spec = made.with_model_per_dataset() | {"model": "claudiom4sir/StableVSR"}
    paths = made.write_all(tmp_path, spec)
    shutil.copytree(PUBLISHED, paths.results_root / "published")
    cells = {(c.dataset, c.method, c.metric.name): c for c in reproductions(ScoreBook(paths))}
    assert cells["vimeo", "stablevsr", "psnr"].because.endswith("with the model vimeo_unet")
    assert "with the model" not in cells["reds4", "stablevsr", "psnr"].because


def test_tables_and_page_show_them(build: Build) -> None:
    paths = build(ROWS)
    tables.render(paths)
    with (paths.results / "tables" / "reproduction.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    own = next(row for row in rows if (row["name"], row["metric"]) == ("stablevsr", "psnr"))
    assert (own["verdict"], own["published"], own["remeasured_low"]) == ("reproduced", "27.97", "27.93")
    assert own["published_by"].startswith("second hand: ") and "Stream-DiffVSR" in own["remeasured_by"]
    assert float(own["spread"]) == pytest.approx(0.22) and float(own["rounding"]) == 0.005
    assert len(rows) == 10 * PAPER
    markdown = (paths.results / "tables" / "reproduction.md").read_text()
    assert "| StableVSR | PSNR ↑ | 27.97 | 27.93 to 28.15 (DGAF-VSR, " in markdown and "| **reproduced** |" in markdown
    assert "| RVRT | tOF ↓ | 2.72 | 2.420 (Stream-DiffVSR) |" in markdown  # with the digits of the published value
    assert "ToFlow" not in markdown  # nobody has a value of it
    html = page.html(paths)
    assert 'id="reproduction"' in html and summary(reproductions(ScoreBook(paths))) in html.replace("&#39;", "'")


@pytest.mark.parametrize("model", ["tiny", "somebody/else"])
def test_nothing_is_judged_where_print_is_not_comparable(build: Build, model: str) -> None:
    paths = build(ROWS, model=model)
    assert not [file for file in tables.render(paths) if "reproduction" in file.name]
    assert 'id="reproduction"' not in page.html(paths)
