"""Jobs on several methods: networks are loaded once, and only what is new is made and scored."""

import json
import platform
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from stablevsr import StableVSRPipeline
from stablevsr.cli import main
from stablevsr.data.frames import write_frame
from stablevsr.method.settings import Sampling
from stablevsr.metrics import chunks, evaluate
from stablevsr.runtime.records import read_record, write_record
from stablevsr.study import jobs
from stablevsr.study.inference import NetworkPaths, Pipelines, Shard, infer
from stablevsr.study.paths import Paths
from stablevsr.study.resolve import load_study
from tests.unit.test_inference import MODEL, frames, method
from tests.unit.test_inference import lr as lr  # the fixture

REPOSITORY = Path(__file__).parents[2]
FRAMES = 3


def test_methods_with_the_same_networks_load_them_once_and_make_their_own_frames(lr, tmp_path, monkeypatch):
    loaded, load = [], StableVSRPipeline.from_pretrained
    monkeypatch.setattr(
        StableVSRPipeline, "from_pretrained", lambda *a, **k: loaded.append(k.get("precision")) or load(*a, **k)
    )
    variants = [
        Sampling(steps=2),
        Sampling(steps=2, strategy="auto_regressive"),
        Sampling(steps=1),
        Sampling(steps=2, strategy="single_frame"),  # without the TCM
        Sampling(steps=2, precision="bf16"),
    ]
    shared = Pipelines()
    for place, pipelines in (("together", [shared] * 5), ("alone", [None] * 5)):
        loaded.clear()
        for number, sampling in enumerate(variants):
            out = tmp_path / place / str(number)
            made = method(sampling=sampling)
            infer(made, Shard("set", lr), 0, out, out / "m.json", NetworkPaths(MODEL, "cpu"), 1, pipelines[number])
        assert loaded == (["fp32", "fp32", "bf16"] if place == "together" else ["fp32"] * 4 + ["bf16"])
    for number in map(str, range(len(variants))):
        assert np.array_equal(frames(tmp_path / "together" / number, "a"), frames(tmp_path / "alone" / number, "a"))


def test_costs_are_those_of_the_run_that_made_the_frames(lr, tmp_path, monkeypatch):
    first, again = (tmp_path / name for name in ("first.json", "again.json"))
    for manifest in (first, again):
        monkeypatch.setattr("stablevsr.study.inference.run.hardware", lambda _, name=manifest.stem: name)
        infer(method(), Shard("set", lr), 0, tmp_path / "out", manifest, NetworkPaths(MODEL, "cpu"), 1)
    before, after = (json.loads(file.read_text()) for file in (first, again))
    assert before["costs"] == after["costs"] and before["seconds"] == after["seconds"]
    for spent in after["costs"].values():
        assert spent["hardware"] == "first" and spent["peak_memory_bytes"] > 2**20


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The smoke study's Vimeo-like set with frames of noise, and two more methods with frames from a folder."""
    for folder in ("workflow", "ablations"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    file = Path("workflow/studies/smoke.yaml")
    content = yaml.safe_load(file.read_text())
    content["metrics"] = ["psnr", "ssim", "tof_dis"]
    content["methods"] |= {name: {"label": name, "frames": f"{name}/{{dataset}}"} for name in ("one", "two")}
    file.write_text(yaml.safe_dump(content))
    study = load_study("smoke")
    random, folder = np.random.default_rng(0), Paths(study).dataset("vimeo")
    truth = {}
    for name in ("x", "y"):
        for t in range(FRAMES):
            frame = random.integers(0, 256, (32, 48, 3), dtype=np.uint8)
            write_frame(folder / "gt" / name / f"{t}.png", frame)
            write_frame(folder / "lr" / name / f"{t}.png", frame[::4, ::4].copy())
            for other in ("one", "two"):
                write_frame(Path(other) / "vimeo" / name / f"{t}.png", 255 - frame)
        truth[name] = {"frames": FRAMES, "sha256": name}
    write_record(folder / "manifest.json", {"sequences": truth})
    return study


def job(command, *methods):
    chosen = [word for name in methods for word in ("--method", name)]
    assert main([command, "--study", "smoke", "--dataset", "vimeo", *chosen]) == 0


def scores(study, name):
    return Paths(study).scores("vimeo", study.methods[name].digest, 0, 0)


def test_methods_scored_together_have_the_scores_of_each_alone(study, monkeypatch):
    job("infer", "bicubic", "one")
    read, decode = [], chunks.read_frame
    monkeypatch.setattr(chunks, "read_frame", lambda file: read.append(file) or decode(file))
    job("score", "bicubic", "one")
    assert len(read) == 3 * 2 * FRAMES  # the ground truth once for both methods
    together = {name: scores(study, name).read_bytes() for name in ("bicubic", "one")}
    for name, content in together.items():
        scores(study, name).unlink()
        job("score", name)
        assert scores(study, name).read_bytes() == content
    table = pd.read_csv(scores(study, "one"))
    assert list(table["sequence"]) == ["x"] * FRAMES + ["y"] * FRAMES and (table["psnr"] < 12).all()


def test_only_methods_whose_frames_are_new_are_scored(study, monkeypatch):
    job("infer", "bicubic", "one", "two")
    job("score", "bicubic", "one")

    def read_by_a_job():
        """The methods whose frames are read when all three are asked for."""
        read, decode = set(), chunks.read_frame
        with monkeypatch.context() as patch:
            patch.setattr(chunks, "read_frame", lambda file: read.add(file.parents[1]) or decode(file))
            job("score", "bicubic", "one", "two")
        names = ("bicubic", "one", "two")
        return {name for name in names if Paths(study).frames("vimeo", study.methods[name].digest, 0) in read}

    frames = read_record(Paths(study).manifest("vimeo", study.methods["bicubic"].digest, 0, 0))
    made_on = frames["machine"]
    assert made_on["python"] == platform.python_version() and made_on["code"].keys() == {"commit", "clean"}
    before = scores(study, "one").stat().st_mtime_ns
    assert read_by_a_job() == {"two"}
    assert read_by_a_job() == set()
    write_frame(Path("one/vimeo/x/1.png"), np.zeros((32, 48, 3), np.uint8))
    job("infer", "bicubic", "one", "two")
    assert read_by_a_job() == {"one"}
    assert scores(study, "one").stat().st_mtime_ns > before
    notes = scores(study, "two").with_name(f"{scores(study, 'two').name}.json")
    notes.unlink()  # as after a kill between a table and its notes
    assert read_by_a_job() == {"two"}
    manifest = Paths(study).dataset("vimeo") / "manifest.json"
    content = read_record(manifest)
    content["sequences"]["x"]["sha256"] = "another"  # the ground truth
    write_record(manifest, content)
    assert read_by_a_job() == {"bicubic", "one", "two"}


def test_a_column_that_could_not_be_filled_is_scored_once_it_can_be(study, monkeypatch):
    """As LPIPS, whose weights the package index did not give at first."""
    job("infer", "bicubic")
    with monkeypatch.context() as patch:
        for module in (jobs, evaluate):
            patch.setattr(module, "missing", lambda metric: "no weights" if metric.name == "ssim" else None)
        job("score", "bicubic")
    assert pd.read_csv(scores(study, "bicubic"))["ssim"].isna().all()
    job("score", "bicubic")
    assert pd.read_csv(scores(study, "bicubic"))["ssim"].notna().all()


def test_a_shard_without_sequences_is_finished_at_once(study):
    """There can be more shards than a person's clips."""
    file = Path("workflow/studies/smoke.yaml")
    file.write_text(file.read_text().replace("layout: vimeo90k", "layout: vimeo90k\n    shards: 3"))
    assert main(["infer", "--study", "smoke", "--dataset", "vimeo", "--method", "bicubic", "--shard", "2/3"]) == 0


def test_scores_without_frames_are_one_sentence(study, capsys):
    job("infer", "bicubic")
    assert main(["score", "--study", "smoke", "--method", "bicubic", "--method", "one", "--dataset", "vimeo"]) == 1
    assert "there are no frames of one on vimeo yet" in capsys.readouterr().err
    assert not scores(study, "bicubic").exists()


@pytest.mark.parametrize("arguments,sentence", [
    (["--method", "bicubic", "--dataset", "vimeo", "--dataset", "reds4"], "cuts reds4 into 2 shards: give --shard K/2"),
    (["--method", "bicubic", "--method", "onee", "--dataset", "vimeo"], "did you mean 'one'"),
    (["--method", "bicubic", "--dataset", "vimeo", "--seed", "1"], "bicubic has no run with seed 1 on vimeo"),
])  # fmt: skip
def test_what_a_job_cannot_do_is_one_sentence(study, arguments, sentence, capsys):
    for command in ("infer", "score"):
        assert main([command, "--study", "smoke", *arguments]) == 1
        assert sentence in capsys.readouterr().err
