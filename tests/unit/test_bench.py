"""The bench does the same work in every preset, accounts for its time, and compares outputs honestly."""

import json

import pytest
import torch

from stablevsr.bench.flops import network_flops
from stablevsr.bench.sampling import PRESETS, Work, full_size
from stablevsr.cli import main
from stablevsr.method.flow import DISFlow
from stablevsr.method.model_folder import TINY
from stablevsr.method.networks import ModelParts
from stablevsr.method.pipeline import load_networks
from stablevsr.method.sampler import Sampler, decode_frames
from stablevsr.method.settings import Guidance
from stablevsr.method.small_decoder import SmallDecoder
from stablevsr.method.tcm import parameter_count
from stablevsr.runtime.timing import StageTimer


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    options = ["--size", "16x12", "--frames", "2", "--sequences", "2", "--steps", "2", "--device", "cpu"]
    options += ["--presets", "all"]
    assert main(["bench", *options, "--out", str(out)]) == 0
    return {preset["preset"]: preset for preset in json.loads(out.read_text())["presets"]}


def test_batching_changes_nothing_but_rounding(measured):
    assert measured["published"]["psnr"] is None
    assert measured["batched"]["psnr"] > 80 and measured["channels-last"]["psnr"] > 80
    assert 30 < measured["bf16"]["psnr"] < 80  # lower precision shows, and is not noise
    assert 20 < measured["fp8-weights"]["psnr"] < measured["bf16"]["psnr"]
    assert measured["small-decoder"]["psnr"] is None  # its weights are random here


def test_stages_add_up_to_the_whole(measured):
    for preset in measured.values():
        # with a single step, from half of them on, none is guided
        guided = set() if preset["preset"] == "unipc-half-guided" else {"TCM", "flow", "warp"}
        guided |= {"small decoder"} if "small" in preset["preset"] else set()
        always = {"UNet down", "UNet up", "VAE decoder", "scheduler", "IO", "idle"}
        assert set(preset["stages"]) == always | guided
        assert sum(preset["stages"].values()) == pytest.approx(preset["seconds"], rel=0.01)
        steps = 1 if "unipc" in preset["preset"] else 2  # a fifth of two, but at least one
        assert preset["frame_steps_a_second"] * preset["seconds"] == pytest.approx(2 * 2 * steps)
        assert preset["tflops"] > 0 and preset["ceiling"] > 0


def test_a_stage_inside_another_counts_for_itself_only(monkeypatch):
    now = iter([0.0, 1.0, 3.0, 7.0, 20.0, 21.0])
    monkeypatch.setattr("stablevsr.runtime.timing.time.perf_counter", lambda: next(now))
    watch = StageTimer(torch.device("cpu"))
    with watch.stage("warp"), watch.stage("VAE decoder"):
        pass
    with pytest.raises(KeyError), watch.stage("warp"):
        raise KeyError  # a stage that fails is over
    assert watch.read() == {"warp": 1 + 4 + 1, "VAE decoder": 2}
    assert watch.read() == {}


def test_the_random_model_has_the_released_size():
    with torch.device("meta"):
        counts = [round(parameter_count(network) / 1e6, 1) for network in full_size()]
    assert counts == [472.4, 207.7, 55.3]


def test_an_unknown_preset_names_the_near_miss(capsys):
    assert main(["bench", "--presets", "batchd"]) == 1
    assert "did you mean 'batched'" in capsys.readouterr().err


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
    inner = 64 * 64 * (9 * pixels + 10 * 4 * pixels + 4 * 16 * pixels)  # layers at 1, 2 and 4 times the latents' size
    ends = 4 * 64 * pixels + 64 * 3 * 16 * pixels
    assert network_flops(model, 180, 320)["small decoder"] == pytest.approx(2 * 9 * (inner + ends))


def test_networks_are_counted_as_often_as_they_are_called():
    """Against calls that are counted as they happen, in a preset with all steps guided and in one with half of them."""
    work, model = Work(12, 16, frames=3, sequences=2, steps=4), load_networks(TINY)
    small = SmallDecoder(width=8)
    seen = dict.fromkeys(("UNet", "TCM", "VAE decoder", "small decoder"), 0)

    def count(name):
        return lambda _, args, kwargs: seen.update({name: seen[name] + len((*args, *kwargs.values())[0])})

    networks = {"UNet": model.unet.conv_out, "TCM": model.tcm, "VAE decoder": model.vae.decoder}
    for name, module in (networks | {"small decoder": small}).items():
        module.register_forward_pre_hook(count(name), with_kwargs=True)
    for preset in (preset for preset in PRESETS if preset.name in ("small-decoder", "batched", "half-guided")):
        model.guidance_decoder = small if preset.small_decoder else None
        seen.update(dict.fromkeys(seen, 0))
        sampler = Sampler(model, preset.sampling(4), Guidance(flow="dis"), DISFlow())
        latents = sampler(torch.rand(2, 3, 3, 12, 16) * 2 - 1, [torch.Generator().manual_seed(s) for s in range(2)])
        for sequence in latents:
            list(decode_frames(model, sequence))
        assert {network: count for network, count in seen.items() if count} == work.calls(preset)
