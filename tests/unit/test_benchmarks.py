"""The benchmark scripts beside the package: they run as they are called, and time the same work in every case."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.flops import network_calls, network_flops
from benchmarks.stereo import seen_in_both, view_difference
from stablevsr.bench.sampling import CASES, Work, full_size
from stablevsr.cli import main
from stablevsr.method.flow import DISFlow
from stablevsr.method.model_folder import TINY
from stablevsr.method.networks import ModelParts
from stablevsr.method.pipeline import load_networks
from stablevsr.method.sampler import Sampler, decode_frames
from stablevsr.method.settings import Guidance
from stablevsr.method.small_decoder import SmallDecoder

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


def run_script(name, *options):
    command = [sys.executable, str(SCRIPTS / name), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_training_cases_take_the_same_steps(tmp_path):
    out = tmp_path / "training.json"
    run = run_script("training.py", "--crop", "32", "--batch", "2", "--steps", "2", "--out", str(out))
    assert run.returncode == 0 and "steps/s" in run.stdout
    cases = {case["case"]: case for case in json.loads(out.read_text())["cases"]}
    assert set(cases) == {"fp32", "bf16", "bf16+checkpointing"}
    assert all(case["seconds_a_step"] > 0 and case["peak_memory"] > 2**20 for case in cases.values())
    assert cases["bf16"]["loss"] == pytest.approx(cases["fp32"]["loss"], rel=0.05)
    assert cases["bf16"]["loss"] != cases["fp32"]["loss"]
    assert cases["bf16+checkpointing"]["loss"] == pytest.approx(cases["bf16"]["loss"], rel=1e-2)


def test_a_crop_that_does_not_fit_the_networks_is_refused():
    run = run_script("training.py", "--crop", "40")
    assert run.returncode == 2 and "multiple of 32" in run.stderr


def test_the_cases_of_a_bench_are_compared_with_the_device(tmp_path):
    out = tmp_path / "bench.json"
    options = ["--size", "16x12", "--frames", "2", "--sequences", "1", "--steps", "2", "--device", "cpu"]
    assert main(["bench", *options, "--cases", "batched,bf16", "--out", str(out)]) == 0
    run = run_script("flops.py", str(out))
    assert run.returncode == 0, run.stderr
    rows = re.findall(r"^(\S+): (\S+) TFLOP/s, (\d+)% of a large matrix product's (\S+)$", run.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == ["batched", "bf16"]
    for _, rate, share, ceiling in rows:
        assert 0 < float(rate) < float(ceiling)
        assert float(share) == pytest.approx(100 * float(rate) / float(ceiling), abs=1)
    assert "GB/s" in run.stdout and "TFLOP a frame: UNet" in run.stdout


def test_the_flops_at_full_size_are_those_counted_by_hooks():
    """Independent figures: 3.99 (UNet), 1.56 (TCM) and 15.7 TFLOP (VAE decoder) a frame-step at 320x180."""
    with torch.device("meta"):
        unet, tcm, vae = full_size()
        prompt = torch.zeros(1, 77, 1024)
    found = network_flops(ModelParts(unet, vae, tcm, {}, prompt, torch.device("meta")), 180, 320)
    assert found["UNet"] == pytest.approx(3.99e12, rel=0.01)
    assert found["TCM"] == pytest.approx(1.56e12, rel=0.01)
    assert found["VAE decoder"] == pytest.approx(15.7e12, rel=0.01)
    with torch.device("meta"):
        small = SmallDecoder()
    model = ModelParts(unet, vae, None, {}, prompt, torch.device("meta"), guidance_decoder=small)
    pixels = 180 * 320
    layers = 8 * 3 * 128 * 128 + 7 * 128 + 128 * 3 * 16  # of eight blocks, the first and the last, all at the LR size
    found = network_flops(model, 180, 320)["small decoder"]
    assert found == pytest.approx(2 * 9 * layers * pixels) and found < 0.5e12


def test_networks_are_counted_as_often_as_they_are_called():
    """Against calls that are counted as they happen, in cases with all steps guided and with half of them."""
    work, model = Work(12, 16, frames=3, sequences=2, steps=4), load_networks(TINY)
    small = SmallDecoder(width=8)
    seen = dict.fromkeys(("UNet", "TCM", "VAE decoder", "small decoder"), 0)

    def count(name):
        return lambda _, args, kwargs: seen.update({name: seen[name] + len((*args, *kwargs.values())[0])})

    networks = {"UNet": model.unet.conv_out, "TCM": model.tcm, "VAE decoder": model.vae.decoder}
    for name, module in (networks | {"small decoder": small}).items():
        module.register_forward_pre_hook(count(name), with_kwargs=True)
    for case in (case for case in CASES if case.name in ("small-decoder", "batched", "half-guided")):
        model.guidance_decoder = small if case.settings.guidance_decoder == "small" else None
        seen.update(dict.fromkeys(seen, 0))
        sampler = Sampler(model, case.sampling(work), Guidance(flow="dis"), DISFlow())
        latents = sampler(torch.rand(2, 3, 3, 12, 16) * 2 - 1, [torch.Generator().manual_seed(s) for s in range(2)])
        for sequence in latents:
            list(decode_frames(model, sequence))
        assert {network: count for network, count in seen.items() if count} == network_calls(work, case)


def test_what_pruning_saves_is_counted_and_timed():
    """At full size a sum by hand: a share of the two convolutions of each ResNet block and of both layers' products."""
    run = run_script("pruning.py", "--size", "64x64", "--device", "meta")
    assert run.returncode == 0, run.stderr
    rows = re.findall(r"(\d+)%\s+(\S+) M\s+(\S+) M\s+(\S+) GFLOP\s+(\S+) GFLOP", run.stdout)
    unet = load_networks(TINY).unet
    sides = {"down_blocks.0": 64, "down_blocks.1": 32, "down_blocks.2": 16, "mid_block": 16,
             "up_blocks.0": 16, "up_blocks.1": 32, "up_blocks.2": 64}  # fmt: skip
    inner = 0
    for name, module in unet.named_modules():
        if name.endswith((".conv1", ".conv2", ".net.0.proj", ".net.2")):
            side = next(side for block, side in sides.items() if name.startswith(block))
            inner += 2 * module.weight.numel() * side**2
    counted = [float(row[3]) for row in rows]
    assert [row[0] for row in rows] == ["0", "25", "50"]
    assert [counted[0] - part for part in counted] == pytest.approx([0, inner / 4e9, inner / 2e9], abs=0.11)
    assert "frame-step" in run.stdout


def test_the_views_of_a_stereo_pair_are_compared_where_both_see_a_point():
    near, far = np.s_[8:24, 24:40], 6  # a square 6 pixels nearer than its ground, which is 4 pixels away
    disparity = np.full((32, 64), 4, np.float32)
    disparity[near] = 4 + far
    disparity[0] = np.inf  # unknown
    left = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    right = np.zeros_like(left)
    right[:, :-4] = left[:, 4:]
    right[8:24, 14:30] = left[near]
    seen = seen_in_both(disparity)
    assert not seen[0].any() and not seen[:, :4].any()  # unknown, and left of the right view
    assert not seen[8:24, 18:24].any() and seen[near].all()  # the square hides 6 columns of the ground beside it
    assert seen[1:8, 4:].all() and seen[8:24, 40:].all()
    assert view_difference(np.stack([left, right]), disparity) == pytest.approx(0, abs=1e-3)
    brighter = np.minimum(left, 200)
    assert view_difference(np.stack([brighter, right]), disparity) == pytest.approx(
        (left.astype(float) - brighter)[seen].mean(), rel=1e-4
    )
    shifted = np.roll(right, 1, axis=1)
    assert view_difference(np.stack([left, shifted]), disparity) > 50
