"""The bench does the same work in every preset, accounts for its time, and compares outputs honestly."""

import json

import pytest
import torch

from stablevsr.bench import full_size
from stablevsr.cli import main
from stablevsr.measure import Stopwatch
from stablevsr.tcm import parameter_count


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    options = ["--size", "16x12", "--frames", "2", "--sequences", "2", "--steps", "2", "--device", "cpu"]
    assert main(["bench", *options, "--out", str(out)]) == 0
    return {preset["preset"]: preset for preset in json.loads(out.read_text())["presets"]}


def test_batching_changes_nothing_but_rounding(measured):
    assert measured["published"]["psnr"] is None
    assert measured["batched"]["psnr"] > 80
    assert 30 < measured["bf16"]["psnr"] < 80  # lower precision shows, and is not noise


def test_stages_add_up_to_the_whole(measured):
    for preset in measured.values():
        assert set(preset["stages"]) == {"UNet", "TCM", "VAE decoder", "flow", "rest"}
        assert sum(preset["stages"].values()) == pytest.approx(preset["seconds"], rel=0.01)
        assert preset["frame_steps_a_second"] * preset["seconds"] == pytest.approx(2 * 2 * 2)


def test_hooks_are_gone_afterwards():
    module = torch.nn.Linear(2, 2)
    components = type("", (), {"unet": module, "tcm": module, "vae": type("", (), {"decoder": module})})
    watch = Stopwatch(torch.device("cpu"))
    with watch.attached(components):
        module(torch.zeros(1, 2))
    assert set(watch.read()) == {"UNet", "TCM", "VAE decoder"}
    module(torch.zeros(1, 2))
    assert watch.read() == {}


def test_the_random_model_has_the_released_size():
    with torch.device("meta"):
        counts = [round(parameter_count(network) / 1e6, 1) for network in full_size()]
    assert counts == [472.4, 207.7, 55.3]


def test_an_unknown_preset_names_the_near_miss(capsys):
    assert main(["bench", "--presets", "batchd"]) == 1
    assert "did you mean 'batched'" in capsys.readouterr().err


def test_training_presets_take_the_same_steps(tmp_path):
    out = tmp_path / "training.json"
    options = ["--training", "--crop", "32", "--batch", "2", "--steps", "2", "--device", "cpu"]
    assert main(["bench", *options, "--out", str(out)]) == 0
    presets = {preset["preset"]: preset for preset in json.loads(out.read_text())["presets"]}
    assert set(presets) == {"fp32", "bf16", "bf16+checkpointing"}
    assert all(preset["seconds_a_step"] > 0 and preset["peak_memory"] > 2**20 for preset in presets.values())
    assert presets["bf16"]["loss"] == pytest.approx(presets["fp32"]["loss"], rel=0.05)
    assert presets["bf16"]["loss"] != presets["fp32"]["loss"]
    assert presets["bf16+checkpointing"]["loss"] == pytest.approx(presets["bf16"]["loss"], rel=1e-2)


def test_a_crop_that_does_not_fit_the_networks_is_refused(capsys):
    assert main(["bench", "--training", "--crop", "40"]) == 1
    assert "multiple of 32" in capsys.readouterr().err
