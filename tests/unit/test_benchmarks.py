"""The benchmark scripts beside the package: they run as they are called, and time the same work in every preset."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


def bench_training(*options):
    command = [sys.executable, str(SCRIPTS / "training.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_training_presets_take_the_same_steps(tmp_path):
    out = tmp_path / "training.json"
    run = bench_training("--crop", "32", "--batch", "2", "--steps", "2", "--out", str(out))
    assert run.returncode == 0 and "steps/s" in run.stdout
    presets = {preset["preset"]: preset for preset in json.loads(out.read_text())["presets"]}
    assert set(presets) == {"fp32", "bf16", "bf16+checkpointing"}
    assert all(preset["seconds_a_step"] > 0 and preset["peak_memory"] > 2**20 for preset in presets.values())
    assert presets["bf16"]["loss"] == pytest.approx(presets["fp32"]["loss"], rel=0.05)
    assert presets["bf16"]["loss"] != presets["fp32"]["loss"]
    assert presets["bf16+checkpointing"]["loss"] == pytest.approx(presets["bf16"]["loss"], rel=1e-2)


def test_a_crop_that_does_not_fit_the_networks_is_refused():
    run = bench_training("--crop", "40")
    assert run.returncode == 2 and "multiple of 32" in run.stderr
