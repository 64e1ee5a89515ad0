"""The tables: averaging, ranks, reasons for empty cells, published values, escaping, reproducible bytes."""

from __future__ import annotations

import copy
import csv
import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest
import report_study as made

from stablevsr.metrics.registry import METRICS
from stablevsr.report import tables
from stablevsr.report.scores import ScoreBook
from stablevsr.report.tables.build import Cell, TableRow, _ranked
from stablevsr.report.tables.formats import escape_markdown, escape_tex
from stablevsr.report.text import format_value


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> made.Paths:
    return made.write_all(tmp_path_factory.mktemp("study"))


def read(file: Path) -> list[dict[str, str]]:
    with file.open() as stream:
        return list(csv.DictReader(stream))


def test_every_table_is_written_in_every_format(paths: made.Paths) -> None:
    files = {file.name for file in tables.render(paths)}
    assert files == {
        *(f"{name}.{kind}" for name in ("table1", "sampling") for kind in ("csv", "md", "tex")),
        "claims.csv",
        "claims.md",
        "clips.csv",
        "findings.md",
        "frames.csv",
        "protocols.csv",
    }
    assert all((paths.results / "tables" / name).stat().st_size for name in files)
    assert "\n- **Consistency.** StableVSR " in (paths.results / "tables" / "findings.md").read_text()


def test_a_shown_number_weighs_scenes_equally_and_is_rounded_by_the_registry(tmp_path: Path) -> None:
    paths = made.make_paths(tmp_path, made.make(tmp_path))
    table = paths.table("reds4", "bicubic")
    table.parent.mkdir(parents=True)
    # scene s has three frames in two clips, scene t one: the mean over frames would be 17.5, over clips 20
    rows = ["s,a,0,0,,10", "s,a,1,0,,10", "s,b,0,0,,10", "t,c,0,0,,40"]
    table.write_text("\n".join(["scene,sequence,frame,run,protocol,psnr", *rows]) + "\n")
    tables.render(paths)
    row = next(r for r in read(paths.results / "tables" / "table1.csv") if r["name"] == "bicubic")
    assert row["psnr"] == "25.00"
    assert row["psnr_sd"] == "21.21"  # of 10 and 40
    assert (row["frames"], row["scenes"], row["runs"]) == ("4", "2", "1")
    assert "25.00 ± 21.21" in (paths.results / "tables" / "table1.md").read_text()
    assert r"\tiny $\pm$ 21.21" in (paths.results / "tables" / "table1.tex").read_text()


def test_all_scores_of_the_study_are_in_one_table(tmp_path: Path) -> None:
    paths = made.make_paths(tmp_path, made.make(tmp_path))
    for name in ("bicubic", "stablevsr"):
        table = paths.table("reds4", name)
        table.parent.mkdir(parents=True, exist_ok=True)
        rows = ["s,000,0001,3,centre frame,,inf", "s,000,0002,3,centre frame,1.25,30.123456789012345"]
        table.write_text("\n".join(["scene,sequence,frame,run,protocol,tof_dis,psnr", *rows]) + "\n")
    tables.render(paths)
    rows = read(paths.results / "tables" / "frames.csv")
    assert {(row["dataset"], row["name"]) for row in rows} == {("reds4", "bicubic"), ("reds4", "stablevsr")}
    first, second = (row for row in rows if row["name"] == "bicubic")
    assert [first[key] for key in ("scene", "sequence", "frame", "run", "protocol", "tof_dis", "psnr")] == [
        "s", "000", "0001", "3", "centre frame", "", "inf",
    ]  # fmt: skip
    assert (second["tof_dis"], float(second["psnr"])) == ("1.25", 30.123456789012345)


def test_runs_are_averaged_and_counted(paths: made.Paths) -> None:
    book = ScoreBook(paths)
    own = paths.study.methods["stablevsr"]
    assert book.counts("reds4", own) == (24, 3, 2)
    # frames 1..7 of the wobble 0.1 sin(i), runs 0 and 1 (0.01 apart), one scene of three 5 higher
    expected = 1.0 + 0.1 * sum(map(math.sin, range(1, 8))) / 7 + 0.005 + 5 / 3
    assert book.value("reds4", own, "tof_dis") == pytest.approx(expected, abs=1e-12)


def test_a_metric_without_a_value_has_no_column_and_a_note_says_why(paths: made.Paths) -> None:
    tables.render(paths)
    folder = paths.results / "tables"
    note = "No LPIPS on REDS4 (made up): the weights alexnet are not in the cache."
    for kind, head in (("md", "| Method | PSNR ↑ | tOF (DIS) ↓ | Sharpness | n |"),
                       ("tex", r"Method & PSNR $\uparrow$ & tOF (DIS) $\downarrow$ & Sharpness \\")):  # fmt: skip
        text = (folder / f"table1.{kind}").read_text()
        assert head in text and note in text
    row = read(folder / "table1.csv")[0]  # programs find every metric of the study
    assert row["lpips"] == row["lpips_sd"] == "" and "lpips: the weights alexnet" in row["empty_because"]


def test_the_note_on_a_metric_has_no_reason_of_a_baseline_without_weights(tmp_path: Path) -> None:
    paths = made.write_all(tmp_path)
    table = paths.table("reds4", "bicubic")
    scores = pd.read_csv(table)
    scores[list(made.METRICS)] = math.nan
    scores.to_csv(table, index=False)
    absent = dict.fromkeys(made.METRICS, "the weights basicvsr_pp are not in the cache")
    Path(f"{table}.json").write_text(json.dumps({"skipped": absent}))
    tables.render(paths)
    text = (paths.results / "tables" / "table1.md").read_text()
    assert "No LPIPS on REDS4 (made up): the weights alexnet are not in the cache." in text
    assert "[1] the weights basicvsr_pp are not in the cache" in text  # of its cells in the other columns


def test_an_empty_cell_says_why(tmp_path: Path) -> None:
    paths = made.write_all(tmp_path)
    table = pd.read_csv(paths.table("reds4", "bicubic")).drop(columns="tof_dis")
    table.to_csv(paths.table("reds4", "bicubic"), index=False)
    tables.render(paths)
    text = (paths.results / "tables" / "table1.md").read_text()
    assert "– [1]" in text
    assert "[1] it was not among the metrics when these frames were scored" in text


def test_missing_scores_leave_a_row_with_the_file_that_is_missing(tmp_path: Path) -> None:
    paths = made.write_all(tmp_path)
    paths.table("reds4", "bicubic").unlink()
    paths.table("reds4", "stablevsr").write_text("sequence,frame\n\x00,")
    tables.render(paths)
    rows = {r["name"]: r for r in read(paths.results / "tables" / "table1.csv")}
    assert rows["bicubic"]["psnr"] == "" and "bicubic.csv is missing" in rows["bicubic"]["empty_because"]
    assert rows["stablevsr"]["psnr"] == ""
    assert rows["sampling.single_frame"]["psnr"] != ""


def test_gaps_are_listed_by_clip_and_run(tmp_path: Path) -> None:
    paths = made.write_all(tmp_path)
    table = paths.table("reds4", "stablevsr")
    kept = [line for line in table.read_text().splitlines() if ",011," not in line and ",1,all" not in line]
    table.write_text("\n".join(kept) + "\n")
    gaps = ScoreBook(paths).missing()
    assert gaps == ["stablevsr on reds4: no scores of clip 011", "stablevsr on reds4: no scores of run 1"]


def row(metric: str, value: float | None) -> TableRow:
    return TableRow("m", "m", (Cell(METRICS[metric], value, reason="" if value is not None else "why"),))


@pytest.mark.parametrize(
    ("metric", "values", "ranks"),
    [
        ("psnr", [30.0, 31.0, 29.0], [2, 1, 0]),
        ("lpips", [0.3, 0.1, 0.2], [0, 1, 2]),
        ("psnr", [30.001, 30.004, 29.0], [1, 1, 2]),  # equal as shown: both best, the next one second
        ("psnr", [float("inf"), 30.0], [1, 2]),
        ("psnr", [None, 30.0, 29.0], [0, 1, 2]),
        ("psnr", [None, 30.0], [0, 0]),  # no rival, no best
        ("sharpness", [1.0, 0.5], [0, 0]),  # no direction, no best
    ],
)
def test_ranks(metric: str, values: list[float | None], ranks: list[int]) -> None:
    ranked = _ranked([row(metric, value) for value in values], (METRICS[metric],))
    assert [r.cells[0].rank for r in ranked] == ranks


def test_best_is_bold_and_second_underlined(paths: made.Paths) -> None:
    tables.render(paths)
    folder = paths.results / "tables"
    markdown = next(line for line in (folder / "table1.md").read_text().splitlines() if line.startswith("| Bicubic"))
    best = read(folder / "table1.csv")[0]["psnr"]
    assert f"**{best}**" in markdown
    tex = (folder / "table1.tex").read_text()
    assert f"\\textbf{{{best}}}" in tex and "\\underline{" in tex


@pytest.mark.parametrize(
    ("value", "sign", "shown"),
    [(27.966, False, "27.97"), (-0.001, True, "+0.00"), (float("inf"), False, "inf"), (None, False, ""),
     (float("nan"), False, ""), (0.5, True, "+0.50")],
)  # fmt: skip
def test_rounding(value: float | None, sign: bool, shown: str) -> None:
    assert format_value("psnr", value, sign) == shown


def test_same_scores_give_the_same_bytes_in_any_folder(tmp_path: Path) -> None:
    first = made.write_all(tmp_path / "a")
    one = {f.name: f.read_bytes() for f in tables.render(first)}
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    second = made.make_paths(tmp_path / "b", first.study)
    two = {f.name: f.read_bytes() for f in tables.render(second)}
    assert one == two
    assert str(tmp_path).encode() not in b"".join(one.values())


HOSTILE = r"a|b <script>alert(1)</script> 50% & $x_1$ \n x̂0 {#}~^"


def test_hostile_labels_are_text_in_every_format(tmp_path: Path) -> None:
    spec = copy.deepcopy(made.SPEC)
    spec["methods"]["bicubic"]["label"] = HOSTILE
    paths = made.write_all(tmp_path, spec)
    tables.render(paths)
    folder = paths.results / "tables"
    assert read(folder / "table1.csv")[0]["label"] == HOSTILE
    line = next(line for line in (folder / "table1.md").read_text().splitlines() if "alert" in line)
    assert r"a\|b \<script>alert(1)\</script> 50% & \$x_1\$" in line
    tex = (folder / "table1.tex").read_text()
    assert r"50\% \& \$x\_1\$ \textbackslash{}n $\hat{x}$0 \{\#\}\textasciitilde{}\textasciicircum{}" in tex


def test_escapes_keep_lines_whole() -> None:
    assert escape_markdown("two\nlines | *x*") == r"two lines \| \*x\*"
    assert escape_tex("two\nlines\x07 – 3×4") == r"two lines -- 3$\times$4"


@pytest.fixture
def published(tmp_path: Path) -> made.Paths:
    """The made-up study as if it used the published model on all of REDS4, with the published numbers at hand."""
    spec = copy.deepcopy(made.SPEC)
    spec["model"] = "claudiom4sir/StableVSR"
    paths = made.write_all(tmp_path, spec)
    source = Path(__file__).parents[2] / "results" / "published"
    shutil.copytree(source, paths.results_root / "published")
    return paths


def test_published_values_are_shown_with_reproduced_ones(published: made.Paths) -> None:
    tables.render(published)
    rows = {r["name"]: r for r in read(published.results / "tables" / "table1.csv")}
    own = rows["stablevsr"]
    assert own["psnr_published"] == "27.97"
    assert float(own["psnr_difference"]) == pytest.approx(float(own["psnr"]) - 27.97, abs=0.011)
    assert rows["bicubic"]["psnr_published"] == ""  # the paper's value was not found, so there is none
    assert rows["published:rvrt"]["psnr"] == "" and rows["published:rvrt"]["psnr_published"] == "32.74"
    text = (published.results / "tables" / "table1.md").read_text()
    assert "paper 27.97" in text
    # the two parties with another protocol (24.04 and 27.36 dB) are not in it
    assert "Others measured for StableVSR: " in text and "PSNR 27.93 to 28.15 (4 parties)" in text


def test_every_format_names_the_model_of_a_dataset_that_has_another(tmp_path: Path) -> None:
    paths = made.write_all(tmp_path, made.with_model_per_dataset())
    tables.render(paths)
    said = r"StableVSR: with the model vimeo_unet (made by this study: tiny, its UNet fine-tuned on Septuplets)"
    markdown, tex = ((paths.results / "tables" / f"table1.{kind}").read_text() for kind in ("md", "tex"))
    assert markdown.index("## Vimeo (made up)") < markdown.index(said)
    assert said.replace("_", r"\_") in tex


def test_latex_explains_published_values(published: made.Paths) -> None:
    tables.render(published)
    assert "in parentheses reproduced minus published" in (published.results / "tables" / "table1.tex").read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"frames": 10},
        {"every": 2},
        {"sequences": ["000"]},
        {"make": "mini"},
        {"split": "val"},
        {"layout": "plain"},
        {"degradation": "JPEG x4"},
    ],
)
def test_published_values_are_not_shown_for_other_clips(tmp_path: Path, change: dict[str, object]) -> None:
    spec = copy.deepcopy(made.SPEC)
    spec["model"] = "claudiom4sir/StableVSR"
    spec["datasets"]["reds4"] |= change
    paths = made.make_paths(tmp_path, made.make(tmp_path, spec))
    shutil.copytree(Path(__file__).parents[2] / "results" / "published", paths.results_root / "published")
    tables.render(paths)
    assert "27.97" not in (paths.results / "tables" / "table1.md").read_text()


def test_published_values_are_not_shown_for_another_model(paths: made.Paths) -> None:
    shutil.copytree(
        Path(__file__).parents[2] / "results" / "published", paths.results_root / "published", dirs_exist_ok=True
    )
    tables.render(paths)
    assert "psnr_published" not in (paths.results / "tables" / "table1.csv").read_text()
