"""What is exported for others: scores for the hub, a research object, seconds and memory by hardware."""

from __future__ import annotations

import copy
import csv
import datetime
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import report_study as made
import yaml
from huggingface_hub import parse_eval_result_entries

from stablevsr.cli import main
from stablevsr.report import page, provenance, tables
from stablevsr.report.export import export
from stablevsr.report.export.eval_results import eval_results
from stablevsr.report.scores import ScoreBook
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import file_hash

ROOT = Path(__file__).parents[2]
DAY = datetime.date(2026, 2, 3)


@pytest.fixture
def paths(tmp_path: Path) -> made.Paths:
    """A rendered study whose test set is REDS4 from the registry, in a repository with citation and licence."""
    spec = copy.deepcopy(made.SPEC)
    spec["datasets"]["reds4"]["fetch"] = ["reds4"]
    spec["datasets"]["half"] = {**spec["datasets"]["reds4"], "title": "Half", "every": 2}
    found = made.write_all(tmp_path, spec)
    for name in ("CITATION.cff", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    tables.render(found)
    provenance.write(found)
    page.render(found)
    return found


def test_scores_for_the_hub_are_those_of_the_studys_method(paths: made.Paths) -> None:
    export(paths, DAY)
    files = list((paths.results / ".eval_results").iterdir())
    assert [file.name for file in files] == ["reds4.yaml"]  # every second frame of it is another task
    entries = {entry.task_id: entry for entry in parse_eval_result_entries(yaml.safe_load(files[0].read_text()))}
    assert set(entries) == {"reds4_psnr", "reds4_tof_dis", "reds4_sharpness"}  # LPIPS has no value
    found = entries["reds4_psnr"]
    assert (found.dataset_id, found.date) == ("snah/REDS", "2026-02-03")
    assert len(found.dataset_revision or "") == 40
    expected = ScoreBook(paths).value("reds4", paths.study.methods["stablevsr"], "psnr")  # a clip is a scene here
    assert found.value == pytest.approx(expected, abs=1e-6)
    assert found.notes == "StableVSR, x4, 2 runs; PSNR: all frames"


@pytest.mark.parametrize(
    "part", [{"sequences": ["000", "011"]}, {"frames": 2}, {"every": 2}, {"split": "val"}, {"make": "mini"}]
)
def test_scores_on_a_part_of_a_test_set_are_not_exported(part: dict[str, Any], tmp_path: Path) -> None:
    spec = copy.deepcopy(made.SPEC)
    spec["datasets"]["reds4"] |= {"fetch": ["reds4"], **part}
    found = made.make_paths(tmp_path, made.make(tmp_path, spec))
    made.write_scores(found, found.study.methods["stablevsr"])
    assert eval_results(ScoreBook(found), DAY) == {}


def test_the_notes_of_a_score_count_its_runs(tmp_path: Path) -> None:
    spec = copy.deepcopy(made.SPEC) | {"runs": 1}
    spec["datasets"]["reds4"]["fetch"] = ["reds4"]
    found = made.make_paths(tmp_path, made.make(tmp_path, spec))
    made.write_scores(found, found.study.methods["stablevsr"])
    text = eval_results(ScoreBook(found), DAY)[".eval_results/reds4.yaml"]
    assert "StableVSR, x4, 1 run; PSNR: all frames" in text


def references(value: Any) -> Iterator[str]:
    """All ids that a value of an entity refers to."""
    if isinstance(value, dict):
        yield value["@id"]
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def test_the_research_object_describes_every_file_and_nothing_else(paths: made.Paths) -> None:
    stamp = paths.results / "figures" / ".snakemake_timestamp"  # Snakemake's, in folders that a rule declares
    stamp.parent.mkdir(exist_ok=True)
    stamp.touch()
    files = export(paths, DAY)
    stamp.unlink()
    assert {"CITATION.cff", "LICENSE", "hardware.csv", "ro-crate-metadata.json"} <= {file.name for file in files}
    graph = json.loads((paths.results / "ro-crate-metadata.json").read_text())["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    assert len(entities) == len(graph)
    assert entities["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    outside = {"https://w3id.org/ro/crate/1.1"}  # the specification need not be described
    named = {ref for entity in graph for key, value in entity.items() if key != "@id" for ref in references(value)}
    assert named <= set(entities) | outside
    root = entities["./"]
    present = {file.relative_to(paths.results).as_posix() for file in paths.results.rglob("*") if file.is_file()}
    listed = {unquote(part["@id"]) for part in root["hasPart"] if entities[part["@id"]]["@type"] == "File"}
    assert listed == present - {"ro-crate-metadata.json"}
    assert {"report.html", "tables/table1.csv", "metrics/reds4/stablevsr.csv", ".eval_results/reds4.yaml"} <= listed
    table = entities["tables/table1.csv"]
    assert table["sha256"] == file_hash(paths.results / "tables/table1.csv") and table["encodingFormat"] == "text/csv"
    assert root["license"] == {"@id": "LICENSE"} and root["datePublished"] == "2026-02-03"
    assert entities[root["citation"][0]["@id"]]["name"].startswith("Enhancing Perceptual Quality")
    data = [entities[part["@id"]] for part in entities["#run"]["object"]]
    assert [entity["license"] for entity in data] == ["CC-BY-4.0"]


def test_a_second_export_describes_the_same_files(paths: made.Paths) -> None:
    export(paths, DAY)
    first = (paths.results / "ro-crate-metadata.json").read_bytes()
    export(paths, DAY)
    assert (paths.results / "ro-crate-metadata.json").read_bytes() == first


def test_seconds_and_memory_are_by_method_and_hardware(paths: made.Paths) -> None:
    form = paths.study.methods["stablevsr"].runs("reds4")[1]
    file = paths.manifest("reds4", form.digest, form.run, 1)
    content = json.loads(file.read_text())
    for spent in content["costs"].values():
        spent["hardware"] = "GPU A"
    file.write_text(json.dumps(content))
    export(paths, DAY)
    with (paths.results / "hardware.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if (row["dataset"], row["name"]) == ("reds4", "stablevsr")]
    assert {(row["hardware"], row["stage"]): float(row["stage_seconds_per_frame"]) for row in rows} == {
        ("", "all"): 2.0, ("", "UNet"): 1.0, ("GPU A", "all"): 2.0, ("GPU A", "UNet"): 1.0,
    }  # fmt: skip
    assert {row["hardware"]: row["frames"] for row in rows} == {"": "40", "GPU A": "8"}
    assert {row["steps"] for row in rows} == {"4"} and {row["peak_memory_bytes"] for row in rows} == {str(2**31)}


def test_a_study_that_is_not_rendered_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no rendered study: run stablevsr report --study made_up first"):
        export(made.write_all(tmp_path), DAY)


def test_one_table_alone_is_written_as_with_the_others(
    paths: made.Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(paths.results_root.parent)
    monkeypatch.setattr("stablevsr.study.resolve.load_study", lambda *_: paths.study)
    tables = paths.results / "tables"
    before = {file: file.read_bytes() for file in tables.glob("sampling.*")}
    shutil.rmtree(tables)
    assert len(before) == 3
    assert main(["report", "--study", "made_up", "--table", "sampling"]) == 0, capsys.readouterr().err
    assert {file: file.read_bytes() for file in tables.iterdir()} == before
    assert main(["report", "--study", "made_up", "--table", "samplng"]) == 1
    assert "did you mean 'sampling'" in capsys.readouterr().err


def test_the_command_line_asks_for_it(
    paths: made.Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(paths.results_root.parent)
    monkeypatch.setattr("stablevsr.study.resolve.load_study", lambda *_: paths.study)
    command = ["report", "--study", "made_up", "--part", "page"]
    assert main([*command, "--export"]) == 0, capsys.readouterr().err
    assert (paths.results / "ro-crate-metadata.json").exists() and (paths.results / "hardware.csv").exists()
    (paths.results / "hardware.csv").unlink()
    assert main(command) == 0
    assert not (paths.results / "hardware.csv").exists()
