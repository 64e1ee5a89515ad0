"""What methods cost: measured by hardware, beside published figures, and only where these are comparable."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path

import pytest
import report_study as made

from stablevsr.report import page
from stablevsr.report.cost_table import cost_rows
from stablevsr.report.inference_cost import by_hardware, cost
from stablevsr.report.scores import ScoreBook
from stablevsr.runtime.errors import UserError

PUBLISHED = Path(__file__).parents[2] / "results" / "published"


@pytest.fixture
def paths(tmp_path: Path) -> made.Paths:
    """A study of the published model; the second shard of its own method ran on another machine."""
    spec = copy.deepcopy(made.SPEC) | {"model": "claudiom4sir/StableVSR"}
    found = made.write_all(tmp_path, spec)
    shutil.copytree(PUBLISHED, found.results_root / "published")
    for form in found.study.methods["stablevsr"].runs("reds4"):
        for shard, hardware in enumerate(("GPU A", "CPU")):
            file = found.manifest("reds4", form.digest, form.run, shard)
            content = json.loads(file.read_text())
            for spent in content["costs"].values():
                spent["hardware"] = hardware
                spent["seconds"] *= 1 + shard
            file.write_text(json.dumps(content))
    return found


def test_shards_on_different_hardware_are_not_averaged(paths: made.Paths) -> None:
    book = ScoreBook(paths)
    own = book.study.methods["stablevsr"]
    found = by_hardware(book, "reds4", own)
    # two runs of 2 clips on the GPU at 2 s a frame, of 1 clip on the CPU at 4 s
    assert {name: (part.frames, part.per_frame, part.memory) for name, part in found.items()} == {
        "GPU A": (2 * 2 * made.FRAMES, 2.0, 2**30),
        "CPU": (2 * made.FRAMES, 4.0, 2**31),
    }
    total = cost(book, "reds4", own)
    assert total is not None
    assert (total.frames, total.seconds, total.memory) == (48, 2.0 * 32 + 4.0 * 16, 2**31)


def test_published_figures_stand_beside_measured_ones(paths: made.Paths) -> None:
    rows = cost_rows(ScoreBook(paths))
    own = [(row.method, row.hardware, row.seconds, row.steps) for row in rows if not row.source]
    assert ("StableVSR", "GPU A", 2.0, 4) in own and ("StableVSR", "CPU", 4.0, 4) in own
    published = {(row.method, row.hardware, row.seconds) for row in rows if row.source}
    assert ("StableVSR", "RTX 4090", 46.2) in published and ("StableVSR", "", 100.0) in published
    assert next(row for row in rows if row.seconds == 100.0).parameters_text == "712"
    section = re.search(r'<details id="cost">.*?</details>', page.html(paths), re.DOTALL)
    assert section is not None
    assert ">46.2<" in section[0] and ">14.5<" in section[0]  # as printed, not rounded
    assert "measured here" in section[0] and "Stream-DiffVSR v2" in section[0]


def test_the_cost_of_another_model_is_not_compared(tmp_path: Path) -> None:
    paths = made.write_all(tmp_path)
    shutil.copytree(PUBLISHED, paths.results_root / "published")
    assert cost_rows(ScoreBook(paths)) == []
    assert 'id="cost"' not in page.html(paths)


def test_a_damaged_file_is_named(paths: made.Paths) -> None:
    file = paths.results_root / "published" / "cost.yaml"
    file.write_text("model: m\nrows: [{method: A, use: inference, source: s, second: 3}]\n")
    with pytest.raises(UserError, match=r"cost\.yaml: unknown key 'rows\.0\.second'"):
        cost_rows(ScoreBook(paths))
