"""Shards and runs merged into one table of scores: every frame of every clip exactly once, or a sentence."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import report_study as made

from stablevsr.metrics.tables import read_scores, write_table
from stablevsr.runtime.errors import DamagedError, UserError
from stablevsr.runtime.records import write_record
from stablevsr.study.damage import damaged
from stablevsr.study.methods import Method
from stablevsr.study.paths import Paths
from stablevsr.study.protocol import protocol_of
from stablevsr.study.result_tables import merge_scores

Row = tuple[str, str, str]  #: sequence, frame, psnr
FRAMES = 3
SCENES = {"000": "b", "011": "a", "020": "b"}  #: two clips of one scene lie apart


def value(clip: str, frame: int, seed: int) -> str:
    """A score that tells where it belongs, with more digits than a float is written with."""
    return f"{int(clip)}.{frame}{seed}0000000000000001"


def write_shard(paths: Paths, seed: int, shard: int, rows: list[Row]) -> None:
    file = paths.scores("reds4", own(paths).runs("reds4")[seed].digest, seed, shard)
    write_table(file, pd.DataFrame(rows, columns=["sequence", "frame", "psnr"]), {"skipped": {"lpips": "no weights"}})


def rows_of(clips: tuple[str, ...], seed: int) -> list[Row]:
    return [(clip, f"{frame:08d}", value(clip, frame, seed)) for clip in clips for frame in range(FRAMES)]


@pytest.fixture
def paths(tmp_path):
    """Scores of a method with two runs in two shards, whose rows lie in no order, and the dataset's manifest."""
    paths = made.make_paths(tmp_path, made.make(tmp_path))
    described = {clip: {"frames": FRAMES, "scene": SCENES[clip]} for clip in made.CLIPS}
    write_record(paths.dataset("reds4") / "manifest.json", {"sequences": described})
    for seed in (0, 1):
        for shard, clips in enumerate((made.CLIPS[::2], made.CLIPS[1:2])):
            rows = rows_of(clips, seed)
            random.Random(seed).shuffle(rows)
            write_shard(paths, seed, shard, rows)
    return paths


def own(paths: Paths) -> Method:
    return paths.study.methods["stablevsr"]


def merge(paths: Paths) -> pd.DataFrame:
    return read_scores(merge_scores(paths.study, paths, own(paths), "reds4"))


def test_every_frame_of_every_run_is_there_once_sorted_and_to_the_last_digit(paths: Paths) -> None:
    out = merge_scores(paths.study, paths, own(paths), "reds4")
    protocol = protocol_of(paths.study.spec.datasets["reds4"], paths.study.spec.metrics)
    expected = [
        f"{SCENES[clip]},{clip},{frame:08d},{seed},{protocol.name},{value(clip, frame, seed)}"
        for clip in ("011", "000", "020")
        for frame in range(FRAMES)
        for seed in (0, 1)
    ]
    assert out.read_text().splitlines() == ["scene,sequence,frame,run,protocol,psnr", *expected]
    notes = json.loads(out.with_name(out.name + ".json").read_text())
    assert notes["protocol"]["code"] in protocol.name and notes["protocol"]["degradation"] == "BIx4"
    assert notes["skipped"] == {"lpips": "no weights"} and notes["method"]["digest"] == own(paths).digest


def twice(rows: list[Row]) -> list[Row]:
    return [*rows, rows[0]]


def gone(rows: list[Row]) -> list[Row]:
    return rows[1:]


def one_for_another(rows: list[Row]) -> list[Row]:
    """As many rows as there should be, but a frame is there twice and another is not."""
    return [rows[0], *rows[:-1]]


@pytest.mark.parametrize("change", [twice, gone, one_for_another])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_frame_that_is_there_twice_or_not_at_all_is_refused_with_clip_and_run(
    paths: Paths, change: Callable[[list[Row]], list[Row]], seed: int
) -> None:
    write_shard(paths, seed, 1, change(rows_of(made.CLIPS[1:2], seed)))
    with pytest.raises(UserError, match=rf"run {seed}: sequence {made.CLIPS[1]} does not have its 3 frames exactly"):
        merge(paths)
    assert not paths.table("reds4", "stablevsr").exists()


@pytest.mark.parametrize("suffix", ["", ".json"])
@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: bytes(len(data)), lambda data: data[:-9] + b"7" + data[-8:]]
)
def test_damaged_scores_are_refused_and_removed(
    paths: Paths, suffix: str, damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = paths.scores("reds4", own(paths).runs("reds4")[0].digest, 0, 1)
    part = Path(f"{file}{suffix}")
    part.write_bytes(damage(part.read_bytes()))
    with pytest.raises(DamagedError, match=str(file)):
        merge(paths)
    found = [
        path for path in damaged(paths.work.parent) if path.name.startswith(file.name) and file.parent == path.parent
    ]
    assert sorted(path.name for path in found) == [file.name, f"{file.name}.json"]


def test_a_clip_in_two_shards_is_refused(paths: Paths) -> None:
    write_shard(paths, 0, 1, rows_of(made.CLIPS[:2], 0))
    with pytest.raises(UserError, match=f"sequence {made.CLIPS[0]} does not have its 3 frames exactly once"):
        merge(paths)


def test_a_clip_that_the_dataset_does_not_know_is_refused(paths: Paths) -> None:
    write_shard(paths, 1, 1, rows_of((made.CLIPS[1], "099"), 1))
    with pytest.raises(UserError, match="hold unknown sequences: 099"):
        merge(paths)


def test_a_shard_that_was_not_scored_yet_is_named_with_the_command(paths: Paths) -> None:
    file = paths.scores("reds4", own(paths).runs("reds4")[1].digest, 1, 0)
    file.unlink()
    with pytest.raises(UserError, match=rf"no scores of stablevsr on reds4 yet \({file}\): run snakemake .*made_up"):
        merge(paths)
