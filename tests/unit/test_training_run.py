"""Whole trainings as the rules run them: a fine-tuned base model, a TCM on top of it, several processes at once."""

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from stablevsr import StableVSRPipeline
from stablevsr.data.degradation import degrade
from stablevsr.data.frames import read_frame, write_frame
from stablevsr.method.model_folder import TINY
from stablevsr.method.networks import ModelParts
from stablevsr.method.settings import Finetuning, Guidance, Training
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import content_hash
from stablevsr.study import training_data
from stablevsr.study.files import Dataset
from stablevsr.study.methods import Base, TrainingRun
from stablevsr.study.paths import Paths
from stablevsr.study.training import train_run
from stablevsr.study.training_data import record_training_data

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def reds(tmp_path_factory):
    """A set in the layout of REDS: one training clip and REDS4, four frames of 64x96 each."""
    root = tmp_path_factory.mktemp("reds")
    rng = np.random.default_rng(0)
    for clip in ("000", "001", "011", "015", "020"):
        scene = rng.integers(0, 256, (16, 30, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
        for t in range(4):
            frame = scene[:, 4 * t : 4 * t + 96]
            write_frame(root / "train_sharp" / clip / f"{t:08d}.png", frame)
            write_frame(root / "train_sharp_bicubic" / "X4" / clip / f"{t:08d}.png", degrade(frame))
    held_out = Dataset(title="tiny REDS4", layout="reds", root=root, split="test")
    return Dataset(title="tiny REDS", layout="reds", root=root, split="train", validation=held_out)


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory, vectors):
    """A base model as the x4 upscaler's: the UNet has class labels, and there is no TCM."""
    folder = tmp_path_factory.mktemp("upscaler")
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        (folder / part).symlink_to(vectors / "model_v" / part)
    config = dict(UNet2DConditionModel.load_config(vectors / "model_v" / "unet")) | {"num_class_embeds": 1000}
    torch.manual_seed(0)
    UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")
    return folder


def finetuning(upscaler, reds, **changed):
    settings = Finetuning(**({"steps": 4, "batch": 4, "crop": 32, "learning_rate": 1e-3, "warmup_steps": 0} | changed))
    return TrainingRun("unet", settings, reds, Base(str(upscaler)), "f" * 16)


@pytest.fixture(scope="module")
def tuned(upscaler, reds, tmp_path_factory):
    return train_here(finetuning(upscaler, reds), tmp_path_factory.mktemp("tuned"))


def test_a_fine_tuned_model_is_whole_and_differs_in_its_unet_alone(tuned, upscaler):
    config = json.loads((tuned / "unet" / "config.json").read_text())
    assert config["num_class_embeds"] is None  # the released UNet has no noise level
    before, after = load_file(upscaler / "unet" / WEIGHTS), load_file(tuned / "unet" / WEIGHTS)
    assert set(before) - set(after) == {"class_embedding.weight"}
    assert sum(not torch.equal(before[key], after[key]) for key in after) > len(after) / 2
    assert (tuned / "vae" / WEIGHTS).read_bytes() == (upscaler / "vae" / WEIGHTS).read_bytes()
    assert not (tuned / "controlnet").exists()
    pipe = StableVSRPipeline.from_pretrained(tuned, controlnet=None, device="cpu")
    frames = pipe(np.zeros((2, 16, 16, 3), np.uint8), 2, "single_frame").frames
    assert frames.shape == (2, 64, 64, 3) and np.isfinite(frames).all()


def test_training_data_are_known_by_content_and_hashed_once(reds, tmp_path, monkeypatch):
    root = shutil.copytree(reds.root, tmp_path / "data")
    spec, paths = reds.model_copy(update={"root": root, "validation": None}), Paths(study=None, work=tmp_path / "work")
    hashed = []
    monkeypatch.setattr(training_data, "content_hash", lambda files: hashed.append(files) or content_hash(files))
    first = record_training_data(spec, paths)
    assert record_training_data(spec, paths) == first and len(hashed) == 1  # one clip, once
    frame = next((root / "train_sharp" / "001").iterdir())
    content = frame.read_bytes()
    frame.write_bytes(content)  # another time, the same content
    assert record_training_data(spec, paths)["sha256"] == first["sha256"]
    frame.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # the same size, another content
    assert record_training_data(spec, paths)["sha256"] != first["sha256"]


def test_a_fine_tuning_records_what_made_it(tuned, reds):
    with (tuned / "history.csv").open() as stream:
        last = list(csv.DictReader(stream))[-1]
    assert last["step"] == "4" and all(float(last[f"val_loss_{level}"]) > 0 for level in ("low", "mid", "high"))
    provenance = json.loads((tuned / "provenance.json").read_text())
    assert (provenance["kind"], provenance["training"], provenance["processes"]) == ("unet", "f" * 16, 1)
    assert provenance["seconds_per_step"] > 0 and provenance["peak_memory_bytes"] > 2**20
    record = record_training_data(reds, Paths(study=None, work=tuned.parents[2]))
    assert provenance["data"] == record["sha256"] and set(record["sequences"]) == {"001"}
    made_on = provenance["machine"]
    assert (
        made_on["versions"]["torch"] == torch.__version__.split("+")[0]
        and made_on["gpu"] is None
        and made_on["threads"] >= 1
    )
    assert made_on["deterministic"] == {"algorithms": False, "cudnn": False, "cudnn_benchmark": False}
    assert made_on["tf32"].keys() == {"matrices", "convolutions"} and made_on["instructions"]
    assert 0 <= provenance["data_wait"] < 1
    strip = read_frame(tuned / "validation" / "step000004.png")
    assert strip.shape == (14 + 8 * 32, 3 * 32, 3)  # a caption, eight crops; LR, estimate, ground truth


def test_checkpointing_and_micro_batches_train_the_same_network(upscaler, reds, tuned, tmp_path):
    run = finetuning(upscaler, reds, gradient_checkpointing=True, micro_batch=2)
    again = train_here(run, tmp_path)
    first, second = load_file(tuned / "unet" / WEIGHTS), load_file(again / "unet" / WEIGHTS)
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=1e-3, atol=2e-4)


def tcm_run(model, reds, **changed):
    settings = Training(**({"steps": 3, "batch": 4, "crop": 32, "learning_rate": 1e-3, "warmup_steps": 0,
                            "conditioning_init": 0.02, "guidance": Guidance(flow="dis")} | changed))  # fmt: skip
    return TrainingRun("tcm", settings, reds, Base(str(model)), "t" * 16)


def train_here(run, work, board=None):
    paths = Paths(study=None, work=work)
    train_run(run, paths, "cpu", board)
    return paths.training(run)


def test_a_tcm_is_trained_on_a_fine_tuned_model_and_loads_beside_it(tuned, reds, tmp_path):
    folder = train_here(tcm_run(tuned, reds), tmp_path)
    pipe = StableVSRPipeline.from_pretrained(tuned, tcm=folder, device="cpu")
    assert pipe(np.zeros((2, 16, 16, 3), np.uint8), 2, flow_estimator="dis").frames.shape == (2, 64, 64, 3)
    strip = read_frame(folder / "validation" / "step000003.png")
    assert strip.shape == (14 + 8 * 32, 5 * 32, 3)  # LR, guidance, x0 without and with the TCM, ground truth
    assert not np.array_equal(strip[14:, 64:96], strip[14:, 96:128])  # the TCM does something


def test_a_training_may_start_at_the_models_own_tcm(reds, tmp_path):
    """With a vanishing learning rate the TCM stays what it was; a copy of the UNet would have zero residuals."""
    folder = train_here(tcm_run(TINY, reds, start="model", learning_rate=1e-12, steps=1), tmp_path)
    before, after = load_file(TINY / "controlnet" / WEIGHTS), load_file(folder / WEIGHTS)
    for key in before:
        torch.testing.assert_close(before[key].float(), after[key], rtol=0, atol=1e-9)


def test_a_change_in_any_part_of_the_model_trains_again(reds, tmp_path):
    model = shutil.copytree(TINY, tmp_path / "model")

    def trained():
        folder = train_here(tcm_run(model, reds, start="model", steps=1), tmp_path)
        return json.loads((folder / "provenance.json").read_text())["seconds_per_step"] is not None

    assert [trained(), trained()] == [True, False]
    for part in ("controlnet", "scheduler", "text_encoder"):
        with next((model / part).glob("*config.json")).open("a") as file:
            file.write("\n")
        assert trained()


def test_what_a_killed_process_was_writing_is_removed(reds, tmp_path):
    run = tcm_run(TINY, reds, start="model", steps=1)
    train_here(run, tmp_path)
    (state,) = tmp_path.glob("states/*/*/state.pt")
    part = state.with_name(".state.pt.abc.part")
    part.touch()
    train_here(run, tmp_path)
    assert state.exists() and not part.exists()


def test_a_model_without_a_tcm_is_no_start(tuned, reds, tmp_path):
    with pytest.raises(UserError, match="has no TCM to start from: give start: unet"):
        train_here(tcm_run(tuned, reds, start="model"), tmp_path)


def test_the_history_can_be_watched_in_tensorboard(tuned, reds, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = train_here(tcm_run(tuned, reds), tmp_path, tmp_path / "board")
    board = events.EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    with (folder / "history.csv").open() as stream:
        last = list(csv.DictReader(stream))[-1]
    for name in ("loss", "val_ratio_mid"):
        assert [(e.step, e.value) for e in board.Scalars(name)] == [(3, pytest.approx(float(last[name])))]


def test_frozen_parts_are_kept_in_low_precision_and_the_tcm_in_full(tuned, reds, tmp_path, monkeypatch):
    seen = {}
    loss = ModelParts.decode

    def decode(self, latents):
        seen.update(unet=self.unet.dtype, vae=self.vae.dtype)
        return loss(self, latents)

    monkeypatch.setattr(ModelParts, "decode", decode)
    folder = train_here(tcm_run(tuned, reds, precision="bf16", gradient_checkpointing=True), tmp_path)
    weights = load_file(folder / WEIGHTS)
    assert seen == {"unet": torch.bfloat16, "vae": torch.bfloat16}
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in weights.values())


SHARED = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/unit")
from test_training_run import tcm_run, train_here
from stablevsr.study.files import Dataset
model, reds, out = map(Path, sys.argv[1:])
run = tcm_run(model, Dataset(title="tiny REDS", layout="reds", root=reds, split="train"), batch=4)
train_here(run, out)
"""


def test_two_processes_train_the_same_tcm_as_one(tuned, reds, tmp_path):
    script = tmp_path / "shared.py"
    script.write_text(SHARED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script),
               str(tuned), str(reds.root), str(tmp_path / "two")]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    subprocess.run(command, check=True, capture_output=True, timeout=300, env=environment)
    folders = [train_here(tcm_run(tuned, reds), tmp_path / "one"), tmp_path / "two/trainings/tcm" / ("t" * 16)]
    assert [json.loads((f / "provenance.json").read_text())["processes"] for f in folders] == [1, 2]
    one, two = (load_file(folder / WEIGHTS) for folder in folders)
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-3, atol=2e-4)
    history = [list(csv.DictReader((folder / "history.csv").open()))[-1] for folder in folders]
    assert float(history[0]["loss"]) == pytest.approx(float(history[1]["loss"]), rel=1e-4)
