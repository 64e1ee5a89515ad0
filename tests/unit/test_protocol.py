"""The protocol of scores: its name says what differs, and scores of different protocols stay apart."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import report_study as made

from stablevsr.metrics.registry import METRICS
from stablevsr.report import page, tables
from stablevsr.report.scores import ScoreBook
from stablevsr.study import fingerprint
from stablevsr.study.files import Dataset
from stablevsr.study.protocol import describe, protocol_of

REDS4 = Dataset(title="REDS4", layout="reds", root=Path("data/REDS"))


@pytest.mark.parametrize(
    ("change", "frames"),
    [
        ({}, "all frames"),
        ({"frames": 5}, "first 5 frames"),
        ({"every": 2, "sequences": ["000", "011"]}, "all frames, one of every 2, of 000 and 011"),
    ],
)
def test_a_name_says_which_frames_are_scored(change: dict[str, object], frames: str) -> None:
    name = protocol_of(REDS4.model_copy(update=change), ["psnr"]).name
    assert name.startswith(f"REDS4; {frames}; BIx4; metrics ")


def test_another_degradation_or_code_of_metrics_is_another_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    before = protocol_of(REDS4, ["psnr"]).name
    assert protocol_of(REDS4.model_copy(update={"degradation": "BDx4"}), ["psnr"]).name != before
    # where the files are, and how the work is divided, is no part of it
    assert protocol_of(REDS4.model_copy(update={"root": Path("elsewhere"), "shards": 4}), ["lpips"]).name == before
    monkeypatch.setattr("stablevsr.study.protocol.fingerprint", lambda module: "other code")
    assert protocol_of(REDS4, ["psnr"]).name != before


def test_every_metric_names_its_convention_and_its_own_code() -> None:
    rows = {name: describe(protocol_of(REDS4, [name]), metric) for name, metric in METRICS.items()}
    assert rows["psnr"]["code"] == fingerprint.fingerprint("stablevsr.metrics.builtin.psnr")[:8]
    assert rows["psnr"]["code"] != rows["ssim"]["code"]
    assert rows["psnr_y_centre"]["frames"] == "all frames, of septuplets the centre one"
    assert rows["psnr_y"]["frames"] == "all frames"


@pytest.fixture
def mixed(tmp_path: Path) -> made.Paths:
    """Scores of three methods, of which bicubic's are of another protocol."""
    paths = made.write_all(tmp_path)
    table = paths.table("reds4", "bicubic")
    table.write_text(table.read_text().replace("all frames", "centre frame"))
    return paths


def test_scores_of_another_protocol_share_no_column(mixed: made.Paths) -> None:
    tables.render(mixed)
    with (mixed.results / "tables" / "table1.csv").open() as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    assert rows["stablevsr"]["psnr"] and rows["stablevsr"]["protocol"] == "all frames"
    assert rows["bicubic"]["psnr"] == "" and "'centre frame', not 'all frames'" in rows["bicubic"]["empty_because"]
    assert "Protocol: all frames." in (mixed.results / "tables" / "table1.md").read_text()
    assert "Protocol: all frames." in page.html(mixed)


def test_a_table_that_mixes_protocols_is_not_read(mixed: made.Paths) -> None:
    table = mixed.table("reds4", "stablevsr")
    table.write_text(table.read_text().replace(",all frames,", ",centre frame,", 1))
    book = ScoreBook(mixed)
    reasons = {name: book.scores("reds4", method).problem for name, method in book.study.methods.items()}
    assert "another protocol" in reasons["stablevsr"]  # whichever of the two is the first row's
    assert len({bool(reason) for reason in reasons.values()}) == 2


def test_the_table_of_protocols_has_a_row_for_each_data_set_and_metric(mixed: made.Paths) -> None:
    tables.render(mixed)
    with (mixed.results / "tables" / "protocols.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["metric"] for row in rows] == list(made.METRICS)
    assert rows[0]["convention"] == METRICS["psnr"].convention
