"""When memory runs out: tiles, then smaller ones, then one sentence; a batch in halves. Out-of-memory is simulated."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stablevsr import StableVSRPipeline, cli
from stablevsr.data.frames import list_frames, read_frame, write_frame
from stablevsr.method.model_folder import TINY
from stablevsr.method.pipeline import StableVSRPipeline as Pipeline
from stablevsr.method.pipeline import load_networks
from stablevsr.method.settings import Guidance, Sampling
from stablevsr.runtime.errors import UserError, exhausted
from stablevsr.runtime.machine import machine_of_job
from stablevsr.runtime.torch_settings import configure_torch
from stablevsr.study.inference import NetworkPaths, Pipelines, Shard, infer
from stablevsr.study.methods import Method, ResolvedStudy
from stablevsr.study.resolve import load_study

USABLE = len(os.sched_getaffinity(0))


@pytest.fixture
def tiny():
    networks = load_networks(TINY, with_tcm=False)
    networks.may_tile = True
    return networks


def small_card(monkeypatch, vae, pixels):
    """A decoder that has memory for so many latent pixels."""
    decoder = vae.decoder.forward

    def forward(latents, *rest, **named):
        if latents[:, 0].numel() > pixels:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decoder(latents, *rest, **named)

    monkeypatch.setattr(vae.decoder, "forward", forward)


def smooth_latents(tiny, height, width):
    """Latents of a picture, not of noise: tiles are joined where pictures are smooth."""
    y, x = torch.meshgrid(torch.linspace(0, 6, 4 * height), torch.linspace(0, 9, 4 * width), indexing="ij")
    image = torch.stack([torch.sin(x), torch.cos(y), torch.sin(x + y)])[None] * 0.8
    with torch.no_grad():
        return tiny.vae.encode(image).latent_dist.mode() * tiny.vae_scale


@torch.no_grad()
def test_tiles_are_taken_when_memory_runs_out_and_change_the_picture_little(tiny, monkeypatch, capsys):
    latents = smooth_latents(tiny, 72, 96)
    whole = tiny.decode(latents)
    small_card(monkeypatch, tiny.vae, 64 * 64)
    tiled = tiny.decode(latents)
    assert tiny.tile == 64 and "tiles of 64" in capsys.readouterr().err
    error = float((tiled - whole).square().mean())
    assert tiled.shape == whole.shape and 0 < error < 4e-3  # a PSNR above 30 dB
    tiny.decode(latents)
    assert capsys.readouterr().err == ""  # it is remembered


@torch.no_grad()
def test_a_batch_is_decoded_frame_by_frame_in_tiles(tiny, monkeypatch):
    latents = smooth_latents(tiny, 40, 40)
    small_card(monkeypatch, tiny.vae, 32 * 32)
    both = tiny.decode(torch.cat([latents, latents.flip(-1)]))
    assert torch.equal(both[:1], tiny.decode(latents))
    assert both.shape == (2, 3, 160, 160)


@torch.no_grad()
def test_a_batch_is_decoded_one_by_one_before_anything_is_tiled(tiny, monkeypatch):
    latents = smooth_latents(tiny, 40, 40)
    whole = tiny.decode(latents)
    small_card(monkeypatch, tiny.vae, 40 * 40)
    both = tiny.decode(torch.cat([latents, latents.flip(-1)]))
    assert tiny.tile is None and torch.equal(both[:1], whole)
    calls = []
    tiny.vae.decoder.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    tiny.decode(torch.cat([latents, latents.flip(-1)]))
    assert calls == [1, 1]  # it is remembered


@torch.no_grad()
def test_a_training_and_a_study_never_tile_of_themselves(tiny, monkeypatch):
    tiny.may_tile = False
    small_card(monkeypatch, tiny.vae, 32 * 32)
    with pytest.raises(torch.OutOfMemoryError):
        tiny.decode(torch.zeros(1, 4, 40, 40))
    assert tiny.tile is None


@torch.no_grad()
def test_a_card_that_is_too_small_for_any_tile_is_one_sentence(tiny, monkeypatch):
    small_card(monkeypatch, tiny.vae, 100)
    with pytest.raises(UserError, match="too little memory for frames of 40x40"):
        tiny.decode(torch.zeros(1, 4, 40, 40))


def test_the_command_lines_tile_is_used(tmp_path, capsys):
    rng = np.random.default_rng(0)
    write_frame(tmp_path / "low" / "0.png", rng.integers(0, 256, (40, 48, 3), dtype=np.uint8))
    low, options = str(tmp_path / "low"), ["--model", "tiny", "--steps", "2", "--device", "cpu"]
    assert cli.main(["upscale", low, str(tmp_path / "x"), *options, "--tile", "5"]) == 1
    assert "--tile 5 is too small" in capsys.readouterr().err
    for out, extra in (("whole", []), ("tiled", ["--tile", "32"])):
        assert cli.main(["upscale", low, str(tmp_path / out), *options, *extra]) == 0
    whole, tiled = (read_frame(tmp_path / out / "0.png").astype(int) for out in ("whole", "tiled"))
    assert 0 < np.abs(whole - tiled).mean() < 10


def test_tiles_can_be_asked_for():
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), dtype=np.uint8)
    outputs = []
    for tile in ("auto", 32):
        pipe = StableVSRPipeline.from_pretrained("tiny", controlnet=None, device="cpu", tile=tile)
        generator = torch.Generator().manual_seed(0)
        outputs.append(pipe(frames, 2, "single_frame", generator=generator).frames)
    assert outputs[0].shape == outputs[1].shape and not np.array_equal(*outputs)
    assert np.abs(outputs[0] - outputs[1]).mean() < 0.02


def test_a_batch_of_sequences_is_halved_and_gives_the_same_frames(monkeypatch, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in "abc":
        for t in range(2):
            write_frame(tmp_path / "lr" / name / f"{t}.png", rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    method = Method("m", "m", "stablevsr", "d", datasets=("set",), guidance=Guidance(flow="dis"),
                    sampling=Sampling(steps=2, strategy="single_frame"))  # fmt: skip

    def run(out):
        infer(method, Shard("set", tmp_path / "lr"), 0, out, out / "manifest.json", NetworkPaths("tiny", "cpu"), 3)
        assert set(json.loads((out / "manifest.json").read_text())["sequences"]) == set("abc")
        return [read_frame(path) for name in "abc" for path in list_frames(out / name)]

    plenty = run(tmp_path / "plenty")
    sample = Pipeline.sample

    def little(self, lr, *rest, **named):
        if len(lr) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sample(self, lr, *rest, **named)

    monkeypatch.setattr(Pipeline, "sample", little)
    scarce = run(tmp_path / "scarce")
    assert "1 sequences at once instead of 3" in capsys.readouterr().err
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(plenty, scarce, strict=True))


@pytest.mark.parametrize("error,said", [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), "the GPU's memory is too small"),
    (MemoryError("Unable to allocate 8.00 TiB for an array"), "the computer's memory is too small"),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to "
                  "allocate 1125899906842624 bytes."), "the computer's memory is too small"),
    (RuntimeError("can't start new thread"), "no more threads: raise the limit"),
], ids=["gpu", "numpy", "torch", "threads"])  # fmt: skip
def test_exhausted_memory_and_threads_are_one_sentence(monkeypatch, capsys, error, said):
    def full(*_):
        raise error

    monkeypatch.setattr("stablevsr.bench.sampling.bench", full)
    assert cli.main(["bench", "--device", "cpu"]) == 1
    text = capsys.readouterr().err
    assert text.startswith("stablevsr: ") and said in text and text.count("\n") == 1


def test_torchs_own_error_about_memory_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert "the computer's memory" in exhausted(caught.value)


@pytest.mark.parametrize("setting,threads", [
    ("3", 3), ("4,2", 4), (" 2 , 1", 2), ("", USABLE), ("many", USABLE), ("-4", USABLE),
    ("0", USABLE), ("999999999", 1024),
])  # fmt: skip
def test_threads_as_openmp_allows_them(monkeypatch, setting, threads):
    found = []
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    configure_torch()
    assert found == [threads]


@pytest.fixture
def torch_as_it_starts(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False


def test_float32_is_computed_in_full_on_a_gpu_unless_asked(torch_as_it_starts):
    for asked in ({}, {"tf32": True}, {}):
        configure_torch(**asked)
        assert machine_of_job("cpu")["tf32"] == dict.fromkeys(("matrices", "convolutions"), bool(asked))


def test_the_manifest_says_for_each_method_of_a_job_whether_tf32_was_allowed(torch_as_it_starts, tmp_path):
    write_frame(tmp_path / "lr" / "a" / "0.png", np.zeros((12, 16, 3), np.uint8))
    pipelines, recorded = Pipelines(), []
    for number, asked in enumerate((False, True, False)):  # the pipeline of the first stays loaded for the others
        method = Method(f"m{number}", "m", "stablevsr", f"d{number}", datasets=("set",),
                        sampling=Sampling(steps=1, strategy="single_frame", tf32=asked))  # fmt: skip
        out = tmp_path / str(number)
        infer(method, Shard("set", tmp_path / "lr"), 0, out, out / "m.json", NetworkPaths("tiny", "cpu"), 1, pipelines)
        manifest = json.loads((out / "m.json").read_text())
        recorded.append((manifest["machine"]["tf32"]["convolutions"], manifest["method"]["sampling"]["tf32"]))
    assert recorded == [(False, False), (True, True), (False, False)]


def test_a_training_allows_tf32_where_its_settings_do(torch_as_it_starts, monkeypatch):
    seen = []
    monkeypatch.setattr("stablevsr.study.training.train_run", lambda *_: seen.append(machine_of_job("cpu")["tf32"]))
    study = load_study("mini", Path(__file__).parents[2])
    run = study.training("tcm", "stablevsr")
    for asked in (False, True):
        settings = run.settings.model_copy(update={"tf32": asked})
        changed = replace(run, settings=settings)
        monkeypatch.setattr(ResolvedStudy, "training", lambda *_, changed=changed: changed)
        monkeypatch.chdir(Path(__file__).parents[2])
        assert cli.main(["train", "tcm", "--study", "mini", "--name", "stablevsr"]) == 0
    assert [tf32["matrices"] for tf32 in seen] == [False, True]


def test_metrics_are_computed_without_tf32(torch_as_it_starts, tmp_path):
    for side in ("gt", "sr"):
        for t in range(2):
            write_frame(tmp_path / side / "a" / f"{t}.png", np.full((40, 40, 3), 9 * t, np.uint8))
    sides = ["--gt", str(tmp_path / "gt"), "--sr", str(tmp_path / "sr")]
    out = ["--out", str(tmp_path / "scores.csv"), "--device", "cpu"]
    assert cli.main(["evaluate", *sides, *out, "--metrics", "tof_dis"]) == 0
    assert machine_of_job("cpu")["tf32"] == {"matrices": False, "convolutions": False}


def test_a_locale_without_the_letters_is_no_error(tmp_path):
    write_frame(tmp_path / "größe" / "ä.png", np.zeros((8, 8, 3), np.uint8))
    command = [sys.executable, "-m", "stablevsr", "upscale", "größe", "größer", "--model", "tiny", "--steps", "1"]
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "größer" / "ä.png").is_file()
