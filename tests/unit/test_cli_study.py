"""The commands that rules call, typed by hand: they find a study's files, and what cannot be is one sentence."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stablevsr.cli import main
from stablevsr.data.degradation import bicubic_upscale
from stablevsr.data.frames import read_frame, write_frame
from stablevsr.runtime.records import write_record
from stablevsr.study.paths import Paths
from stablevsr.study.resolve import load_study

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The smoke study in a folder of its own, which is the current one."""
    for folder in ("workflow", "ablations"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    return load_study("smoke")


@pytest.mark.parametrize("arguments,sentence", [
    (["infer", "--method", "bicubic", "--dataset", "reds4", "--shard", "0/3"], "into 2 shards: give --shard K/2"),
    (["infer", "--method", "bicubik", "--dataset", "reds4"], "did you mean 'bicubic'"),
    (["infer", "--method", "bicubic", "--dataset", "red4"], "has no dataset red4 (did you mean 'reds4'?)"),
    (["train", "tcm", "--name", "bicubic"], "study smoke trains no TCM for bicubic"),
    (["train", "tcm", "--name", "stablevrs"], "did you mean 'stablevsr'"),
    (["train", "samples", "--name", "sampling.single_frame"], "trains no TCM for sampling.single_frame"),
    (["train", "unet", "--name", "vimeo"], "study smoke trains no UNet for vimeo"),
    (["train", "decoder", "--name", "bicubic"], "trains no small decoder for bicubic"),
    (["report", "--part", "scores"], "there are no scores of stablevsr on reds4 yet"),
    (["report", "--part", "scores", "--method", "stablevrs"], "did you mean 'stablevsr'"),
    (["report", "--part", "scores", "--method", "nosuch"], "known are stablevsr, bicubic,"),
])  # fmt: skip
def test_what_a_study_does_not_have_is_one_sentence(study, arguments, sentence, capsys):
    assert main([*arguments, "--study", "smoke"]) == 1
    said = capsys.readouterr().err
    assert sentence in said and said.startswith("stablevsr: ") and said.count("\n") == 1


def test_frames_of_a_baseline_are_written_where_the_study_looks_for_them(study):
    paths, random = Paths(study), np.random.default_rng(0)
    low = {name: random.integers(0, 256, (8, 12, 3), dtype=np.uint8) for name in ("000", "015")}
    for name, frame in low.items():
        write_frame(paths.dataset("reds4") / "lr" / name / "00000000.png", frame)
    made = {}
    for shard in (0, 1):
        command = ["infer", "--study", "smoke", "--method", "bicubic", "--dataset", "reds4", "--shard", f"{shard}/2"]
        assert main(command) == 0
        digest = study.methods["bicubic"].digest
        made |= json.loads(paths.manifest("reds4", digest, 0, shard).read_text())["sequences"]
    assert set(made) == set(low)
    for name, frame in low.items():
        out = read_frame(paths.frames("reds4", digest, 0) / name / "00000000.png")
        assert np.array_equal(out, bicubic_upscale(frame))


def test_a_baseline_without_weights_leaves_empty_cells_and_the_reason(study, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    file = Path("workflow/studies/smoke.yaml")
    file.write_text(file.read_text().replace("methods:\n", "methods:\n  vsr: {label: VSR, kind: basicvsr-reds4}\n"))
    paths, frame = Paths(load_study("smoke")), np.zeros((128, 128, 3), np.uint8)
    write_frame(paths.dataset("vimeo") / "gt" / "a" / "im1.png", frame)
    write_frame(paths.dataset("vimeo") / "lr" / "a" / "im1.png", frame[::4, ::4].copy())
    known = {"sequences": {"a": {"scene": "a", "frames": 1, "sha256": "0"}}}
    write_record(paths.dataset("vimeo") / "manifest.json", known)
    chosen = ["--study", "smoke", "--dataset", "vimeo", "--method", "vsr"]
    assert main(["infer", *chosen, "--method", "bicubic"]) == 0  # which goes on
    assert main(["score", *chosen]) == 0
    assert main(["report", "--part", "scores", *chosen]) == 0
    table = pd.read_csv(paths.table("vimeo", "vsr"))
    assert len(table) == 1 and table[["lpips", "psnr"]].isna().all(axis=None)
    notes = json.loads(Path(f"{paths.table('vimeo', 'vsr')}.json").read_text())
    assert "stablevsr fetch basicvsr_reds4" in notes["skipped"]["psnr"]


def test_a_dataset_becomes_links_and_a_manifest(study, capsys):
    random = np.random.default_rng(0)
    spec = study.dataset("reds4")
    for name in ("film10154", "street4", "street5"):
        for t in range(5):
            frame = random.integers(0, 256, (32, 48, 3), dtype=np.uint8)
            write_frame(spec.root / "gt" / name / f"{t:08d}.png", frame)
            write_frame(spec.root / "lr" / name / f"{t:08d}.png", frame[::4, ::4].copy())
    assert main(["data", "prepare", "--study", "smoke", "--dataset", "reds4"]) == 0
    prepared = Paths(study).dataset("reds4")
    assert capsys.readouterr().out == f"{prepared} links the 2 sequences of reds4\n"
    found = json.loads((prepared / "manifest.json").read_text())["sequences"]
    assert {name: entry["frames"] for name, entry in found.items()} == {
        "film10154": 4,
        "street4": 4,
    }  # as the study says
    linked = prepared / "gt" / "street4" / "00000003.png"
    assert linked.is_symlink() and linked.resolve() == (spec.root / "gt/street4/00000003.png").resolve()


def test_a_plan_is_shown_and_a_speed_of_nothing_refused(study, capsys):
    assert main(["plan", "smoke", "--tflops", "1"]) == 0
    slow = capsys.readouterr().out
    assert "smoke" in slow
    assert main(["plan", "smoke", "--tflops", "0"]) == 1
    assert "--tflops 0.0 must be a number above 0" in capsys.readouterr().err


def test_clean_shows_first_and_removes_only_when_told(study, capsys):
    stale = Paths(study).training(next(iter(study.trainings().values()))).with_name("0" * 16)
    stale.mkdir(parents=True)
    (stale / "config.json").write_bytes(bytes(3 * 2**20))
    assert main(["clean"]) == 0
    assert f"3.0 MiB  {stale}\n" in (said := capsys.readouterr().out) and "`stablevsr clean --yes` removes them" in said
    assert stale.exists() and "work/cache" not in said
    flow = Path("work/cache/raft/flow.npy")  # the cache belongs to no study: it is shown and kept
    flow.parent.mkdir(parents=True)
    flow.write_bytes(bytes(2**20))
    assert main(["clean", "--yes"]) == 0
    assert "removed 1 entries, 3.0 MiB" in (said := capsys.readouterr().out) and "work/cache holds 1.0 MiB" in said
    assert flow.exists()
    assert not stale.exists()
