"""Inference shards: independent of shard and order, resumable, never a sequence that only looks finished."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stablevsr.data.degradation import bicubic_upscale
from stablevsr.data.frames import list_frames, read_frame, write_frame
from stablevsr.method.settings import Guidance, Sampling
from stablevsr.runtime.errors import UserError
from stablevsr.study.inference import NetworkPaths, Shard, infer
from stablevsr.study.inference.store import MARK
from stablevsr.study.methods import Method

MODEL = str(Path(__file__).parents[1] / "vectors" / "model_v")


def method(**changed):
    return Method(**({
        "name": "m", "label": "m", "kind": "stablevsr", "digest": "d", "datasets": ("set",),
        "guidance": Guidance(flow="dis"), "sampling": Sampling(steps=2), "checkpoint": Path("model"),
    } | changed))  # fmt: skip


@pytest.fixture(scope="module")
def lr(tmp_path_factory):
    root = tmp_path_factory.mktemp("lr")
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        for t in range(2):
            write_frame(root / name / f"{t}.png", rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    return root


def run(out, lr, shard=(0, 1), how=None, batch=1, seed=0):
    manifest = out / f"shard{shard[0]}.json"
    infer(how or method(), Shard("set", lr, *shard), seed, out, manifest, NetworkPaths(MODEL, "cpu"), batch)
    return json.loads(manifest.read_text())


def frames(out, name):
    return np.stack([read_frame(p) for p in list_frames(out / name)])


def test_frames_do_not_depend_on_the_shard_and_hardly_on_the_batch(lr, tmp_path):
    run(tmp_path / "whole", lr)
    parts = [run(tmp_path / "parts", lr, (k, 2)) for k in range(2)]
    run(tmp_path / "batched", lr, batch=3)
    assert sorted(n for p in parts for n in p["sequences"]) == ["a", "b", "c"]
    for name in "abc":
        whole = frames(tmp_path / "whole", name)
        assert whole.shape == (2, 48, 64, 3)
        assert np.array_equal(whole, frames(tmp_path / "parts", name))
        assert np.abs(whole.astype(int) - frames(tmp_path / "batched", name)).max() <= 1


def test_sequences_and_seeds_have_noise_of_their_own(lr, tmp_path):
    for copy in "ab":
        shutil.copytree(lr / "a", tmp_path / "lr" / copy)
    run(tmp_path / "0", tmp_path / "lr"), run(tmp_path / "1", tmp_path / "lr", seed=1)
    made = [frames(tmp_path / seed, copy).tobytes() for seed in "01" for copy in "ab"]
    assert len(set(made)) == 4  # of the same frames


def test_a_finished_sequence_is_kept_and_a_broken_one_made_again(lr, tmp_path):
    first = run(tmp_path, lr)
    kept = (tmp_path / "a" / "0.png").stat().st_mtime_ns
    (tmp_path / "b" / MARK).unlink()
    (tmp_path / "b" / "0.png").write_bytes(b"half a frame")
    second = run(tmp_path, lr)
    assert second["sequences"] == first["sequences"]
    assert (tmp_path / "a" / "0.png").stat().st_mtime_ns == kept
    assert frames(tmp_path, "b").shape == (2, 48, 64, 3)


def test_seconds_are_kept_by_stage_also_of_sequences_made_earlier(lr, tmp_path):
    first = run(tmp_path, lr)
    assert set(first["stages"]) == {"UNet down", "UNet up", "TCM", "VAE decoder", "flow", "warp", "scheduler", "IO"}
    assert 0 < first["stages"]["UNet up"] < sum(first["stages"].values()) <= first["seconds"] + 0.01
    (tmp_path / "b" / MARK).unlink()
    second = run(tmp_path, lr)
    marks = [json.loads((tmp_path / name / MARK).read_text())["stages"]["UNet up"] for name in "abc"]
    assert second["stages"]["UNet up"] == pytest.approx(sum(marks), abs=0.01)  # of all three sequences, not only of b
    alone = run(tmp_path / "alone", lr, how=method(sampling=Sampling(steps=2, strategy="single_frame")))
    assert set(alone["stages"]) == {"UNet down", "UNet up", "VAE decoder", "scheduler", "IO"}
    base = run(tmp_path / "base", lr, how=method(kind="bicubic", sampling=None, checkpoint=None))
    assert set(base["stages"]) == {"IO"}


def test_the_share_of_time_without_work_for_the_device_is_said(lr, tmp_path, capsys):
    made = run(tmp_path, lr)
    busy = sum(seconds for stage, seconds in made["stages"].items() if stage != "IO")
    said = capsys.readouterr().err
    assert f"the device had nothing to do at least {1 - busy / made['seconds']:.0%} of the time" in said


def test_other_settings_are_never_mixed_in(lr, tmp_path):
    first = run(tmp_path, lr)
    second = run(tmp_path, lr, how=method(sampling=Sampling(steps=1)))
    assert all(first["sequences"][n]["sha256"] != second["sequences"][n]["sha256"] for n in "abc")


def test_bicubic_is_the_matlab_one(lr, tmp_path):
    run(tmp_path, lr, how=method(kind="bicubic", guidance=None, sampling=None, checkpoint=None))
    expected = bicubic_upscale(read_frame(lr / "a" / "0.png"))
    assert np.array_equal(frames(tmp_path, "a")[0], expected)


def test_external_frames_are_taken_by_name_as_they_are(lr, tmp_path):
    external = tmp_path / "external" / "set"
    for name in "abc":
        for t in range(3):  # one more than is asked for: a dataset may take the first frames only
            write_frame(external / name / f"{t}.png", np.full((48, 64, 3), 10 * t, np.uint8))
    folder = tmp_path / "external" / "{dataset}"
    how = method(kind="frames", guidance=None, sampling=None, checkpoint=None, frames=folder)
    run(tmp_path / "out", lr, how=how)
    assert [p.name for p in list_frames(tmp_path / "out" / "a")] == ["0.png", "1.png"]
    assert (frames(tmp_path / "out", "a")[1] == 10).all()
    write_frame(external / "a" / "1.png", np.full((48, 64, 3), 77, np.uint8))
    kept = (tmp_path / "out" / "b" / MARK).stat().st_ino
    run(tmp_path / "out", lr, how=how)
    assert (frames(tmp_path / "out", "a")[1] == 77).all()  # what was made from the old frames is not kept
    assert (tmp_path / "out" / "b" / MARK).stat().st_ino == kept  # and of the others nothing is made again
    (external / "b" / "1.png").unlink()
    with pytest.raises(UserError, match="lacks 1 of 2 frames, the first is 1"):
        run(tmp_path / "again", lr, how=how)
    write_frame(external / "b" / "1.png", np.zeros((47, 64, 3), np.uint8))
    with pytest.raises(UserError, match=r"set/b/1\.png is 64x47, four times its LR frame is 64x48"):
        run(tmp_path / "again", lr, how=how)
