"""``stablevsr upscale --adapt``: the TCM trained on the clip itself, and going on after a stop."""

import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from upscale_clips import content, pictures, refuse_models, remains, stop_after, tiny, write_folder, write_video

from stablevsr.cli import main
from stablevsr.data.degradation import degrade
from stablevsr.data.frames import list_frames, read_frame
from stablevsr.method.model_folder import TINY
from stablevsr.method.pipeline import load_networks
from stablevsr.method.settings import Guidance
from stablevsr.runtime.errors import UserError
from stablevsr.training import adaptation, loop
from stablevsr.training.adaptation import adapt_tcm, adaptation_settings, low_resolution
from stablevsr.training.samples import WindowDataset
from stablevsr.upscale import upscale

WEIGHTS = "diffusion_pytorch_model.safetensors"
STEPS = 5
DIS = Guidance(flow="dis", warp="aligned")


def clip(folder, count=3, height=37, width=45):
    return write_folder(folder, pictures(count, height, width))


def adapt(source, folder, steps=1, **changed):
    return adapt_tcm(list_frames(source), "tiny", steps, folder, **{"device": "cpu", **changed})


def counted(monkeypatch):
    """The steps that are trained from now on, by number."""
    trained, step = [], loop.training_step

    def noted(task, batch, settings, number, *rest):
        trained.append(number)
        return step(task, batch, settings, number, *rest)

    monkeypatch.setattr(loop, "training_step", noted)
    return trained


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A clip, and its frames by an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    upscale(clip(folder / "lr"), folder / "sr", tiny(adapt=STEPS))
    return folder


# --- what is trained, and on what -------------------------------------------------------------------------------------


def test_the_inputs_are_the_matlab_compatible_quarter_of_the_frames(tmp_path, vectors):
    """The outside values are those of BasicSR's imresize."""
    stored = np.load(vectors / "metrics_bunny" / "metrics.npz")
    made = low_resolution(list_frames(write_folder(tmp_path / "lr", stored["gt"])), tmp_path / "quarter")
    assert [file.name for file in made.gt] == ["im1.png", "im0.png", "im1.png", "im2.png", "im1.png"]
    for target, low in zip(made.gt, made.lr, strict=True):
        number = int(target.stem[2:])
        assert np.array_equal(read_frame(target), stored["gt"][number])
        difference = np.abs(read_frame(low).astype(int) - stored["lr_matlab_bicubic"][number])
        assert difference.max() <= 1 and (difference == 0).mean() > 0.999


@pytest.mark.parametrize("index", range(4))
def test_a_sample_of_a_clip_with_odd_sides_is_a_crop_and_its_quarter(tmp_path, index):
    made = low_resolution(list_frames(clip(tmp_path / "lr", 2, 75, 101)), tmp_path / "quarter")
    sample = WindowDataset([made], 3, 64, 0)[index]
    for target, low in zip(sample["gt"], sample["lq"], strict=True):
        again = degrade((255 * target).round().byte().permute(1, 2, 0).numpy())
        inner = (slice(2, -2), slice(2, -2))  # of the crop: its border has neighbours in the frame
        assert np.abs(again[inner] - (255 * low).permute(1, 2, 0).numpy()[inner]).max() <= 1.01


def test_the_crop_fits_every_frame_that_is_taken():
    for sides, crop in (((32, 400), 32), ((63, 100), 32), ((96, 100), 96), ((720, 1280), 256)):
        assert adaptation_settings(*sides, 1, "fp16", DIS).crop == crop
    assert adaptation_settings(64, 64, 1, "fp16", DIS).precision == "bf16"


def test_only_the_tcm_is_trained(tmp_path, monkeypatch):
    tasks, make = [], adaptation._task
    monkeypatch.setattr(adaptation, "_task", lambda *given: tasks.append(make(*given)) or tasks[0])
    adapted = load_file(adapt(clip(tmp_path / "lr"), tmp_path / "adapted", 2) / WEIGHTS)
    started = load_file(TINY / "controlnet" / WEIGHTS)
    assert adapted.keys() == started.keys()
    moved = [key for key in started if not torch.equal(started[key].float(), adapted[key])]
    assert len(moved) > 0.9 * len(started)
    fresh = load_networks(TINY)
    for part in ("unet", "vae"):
        now, before = (getattr(networks, part).state_dict() for networks in (tasks[0].frozen, fresh))
        assert all(torch.equal(now[key], before[key]) for key in before)


def test_the_adapted_tcm_reaches_the_frames(whole, tmp_path):
    upscale(whole / "lr", tmp_path / "sr", tiny())
    assert content(tmp_path / "sr") != content(whole / "sr")
    assert remains(whole) == []


def test_every_clip_of_a_folder_is_sampled_with_its_own_tcm(tmp_path, monkeypatch):
    """In both passes: the second one is given no TCM of another clip, and none of the enlarged frames."""
    for name in ("a", "b"):
        clip(tmp_path / "lr" / name, 2, 32, 32 if name == "a" else 36)
        shutil.copytree(TINY / "controlnet", tmp_path / name)
        shifted = {
            key: value * (1.2 if name == "b" else 0.8) for key, value in load_file(tmp_path / name / WEIGHTS).items()
        }
        save_file(shifted, tmp_path / name / WEIGHTS, metadata={"format": "pt"})
    with monkeypatch.context() as patched:
        patched.setattr(adaptation, "adapt_tcm", lambda files, *_, **__: tmp_path / files[0].parent.name)
        upscale(tmp_path / "lr", tmp_path / "sr", tiny(adapt=1, scale=5, steps=1))
    for name in ("a", "b"):
        upscale(tmp_path / "lr", tmp_path / f"by_{name}", tiny(tcm=tmp_path / name, scale=5, steps=1))
        assert content(tmp_path / "sr" / name) == content(tmp_path / f"by_{name}" / name)
    assert content(tmp_path / "by_a" / "a") != content(tmp_path / "by_b" / "a")


# --- what is refused --------------------------------------------------------------------------------------------------


def sources(root):
    """(input, options, words of the sentence)"""
    usual = clip(root / "usual")
    clip(root / "clips" / "long"), clip(root / "clips" / "short", 1)
    return {
        "one frame": (clip(root / "one", 1), [], "one has fewer than 2 frames"),
        "a clip among others": (root / "clips", [], "clips/short has fewer than 2 frames"),
        "small": (clip(root / "small", 2, 31, 40), [], "small is 40x31, and a TCM can be adapted to frames of"),
        "video of one frame": (write_video(root / "v.mkv", pictures(1, 40, 40)), [], "v.mkv has fewer than 2 frames"),
        "small video": (write_video(root / "s.mkv", pictures(3, 16, 40)), [], "s.mkv is 40x16"),
        "below 0": (usual, ["--adapt", "-1"], "--adapt -1 is out of range"),
        "no TCM": (usual, ["--strategy", "single_frame"], "--adapt has no effect on --strategy single_frame"),
        "baseline": (usual, ["--model", "bicubic"], "--adapt has no effect on bicubic"),
    }  # fmt: skip


CASES = [
    "one frame",
    "a clip among others",
    "small",
    "video of one frame",
    "small video",
    "below 0",
    "no TCM",
    "baseline",
]


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    return sources(tmp_path_factory.mktemp("bad"))


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_adapted_to_is_one_sentence_before_a_model_is_loaded(case, bad, monkeypatch, capsys):
    refuse_models(monkeypatch)
    monkeypatch.setattr(adaptation, "_task", lambda *_: pytest.fail("a training began"))
    source, options, sentence = bad[case]
    out = source.with_name(f"{case}.mkv") if source.is_file() else source.with_name(f"{case} out")
    given = ["--model", "tiny", "--adapt", "3", "--device", "cpu", *options]
    assert main(["upscale", str(source), str(out), *given]) == 1
    said = capsys.readouterr().err
    assert said.startswith("stablevsr: ") and said.count("\n") == 1 and sentence in said
    assert not out.exists() and remains(source.parent) == []


@pytest.mark.parametrize(("names", "steps", "words"), [
    ([], 1, "has fewer than 2 frames"), (["a/im0.png", "a/im1.png"], 0, "0 steps of adaptation are too few"),
    (["a/im0.png", "b/im0.png"], 1, "differ only in their ending"),
    (["a/im0.png", "b/im1.png"], 1, "im1.png and im0.png differ in size"),
])  # fmt: skip
def test_the_function_refuses_the_same(tmp_path, names, steps, words):
    clip(tmp_path / "a"), clip(tmp_path / "b", 3, 40, 40)
    with pytest.raises(UserError, match=words):
        adapt_tcm([tmp_path / name for name in names], "tiny", steps, tmp_path / "adapted", device="cpu")


def test_a_model_without_a_tcm_needs_another_to_start_from(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(TINY, model, ignore=shutil.ignore_patterns("controlnet"))
    with pytest.raises(UserError, match=r"there is no folder .*controlnet"):
        adapt_tcm(list_frames(clip(tmp_path / "lr")), model, 1, tmp_path / "adapted", device="cpu")


# --- stopped, and used again ------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from stablevsr.training import adaptation
from stablevsr.upscale import UpscaleOptions, upscale
adaptation.SAVE_EVERY = 2
left, replace = int(sys.argv[3]), Path.replace
def counted(self, target):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return replace(self, target)
Path.replace = counted
upscale(Path(sys.argv[1]), Path(sys.argv[2]), UpscaleOptions(model="tiny", steps=2, device="cpu", adapt=5))
"""


def test_a_killed_training_goes_on_to_the_same_frames(whole, tmp_path, monkeypatch):
    """Killed after three inputs and the states of steps 2 and 4, two files each."""
    command = [sys.executable, "-c", KILLED, whole / "lr", tmp_path / "sr", "7"]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "sr").exists() and remains(tmp_path) == [".sr.partial"]
    trained = counted(monkeypatch)
    upscale(whole / "lr", tmp_path / "sr", tiny(adapt=STEPS))
    assert trained == [4]
    assert content(tmp_path / "sr") == content(whole / "sr")
    assert remains(tmp_path) == []


def test_stopped_again_and_again_it_gives_the_same_frames(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(adaptation, "SAVE_EVERY", 1)
    stops = 0
    while not list(tmp_path.rglob("finished.json")):
        with monkeypatch.context() as patched:
            stop_after(patched, 3, KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                upscale(whole / "lr", tmp_path / "sr", tiny(adapt=STEPS))
        stops += 1
    assert stops == 6  # by inputs, then once a step: two files of its state, and the first of the next one
    upscale(whole / "lr", tmp_path / "sr", tiny(adapt=STEPS))
    assert content(tmp_path / "sr") == content(whole / "sr")


def test_another_seed_takes_the_tcm_that_a_stopped_run_adapted(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(patched, 8, KeyboardInterrupt())  # while sampling: after inputs, state and record
        with pytest.raises(KeyboardInterrupt):
            upscale(whole / "lr", tmp_path / "sr", tiny(adapt=STEPS))
    trained = counted(monkeypatch)
    upscale(whole / "lr", tmp_path / "sr", tiny(adapt=STEPS, seed=1))
    assert trained == []
    assert content(tmp_path / "sr") != content(whole / "sr")


def test_another_clip_number_of_steps_or_start_is_another_training(tmp_path, monkeypatch):
    one, other = clip(tmp_path / "one"), clip(tmp_path / "other", 4)
    shutil.copytree(TINY / "controlnet", tmp_path / "tcm")
    made = [adapt(one, tmp_path / "a"), adapt(other, tmp_path / "a"), adapt(one, tmp_path / "a", 2)]
    made.append(adapt(one, tmp_path / "a", tcm=tmp_path / "tcm"))
    assert len(set(made)) == 4
    trained = counted(monkeypatch)
    shutil.copytree(one, tmp_path / "elsewhere")
    assert adapt(tmp_path / "elsewhere", tmp_path / "a") == made[0] and trained == []
    assert sorted(path.name for path in made[0].parent.iterdir()) == [".lock", "finished.json", "tcm"]


def test_a_damaged_tcm_is_adapted_again(tmp_path):
    source = clip(tmp_path / "lr")
    weights = adapt(source, tmp_path / "adapted") / WEIGHTS
    before = weights.read_bytes()
    weights.write_bytes(before[:-100])
    assert adapt(source, tmp_path / "adapted") / WEIGHTS == weights
    assert weights.read_bytes() == before
