"""Cached samples: what a training would compute itself, drawn alike in every run, made once."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stablevsr.data.degradation import degrade
from stablevsr.data.frames import write_frame
from stablevsr.data.layouts import Clip
from stablevsr.method.pipeline import load_networks
from stablevsr.method.settings import Guidance, Training
from stablevsr.training.cached_samples import BATCH, CachedSamples, cache_samples, is_current
from stablevsr.training.samples import NEXT, PAST, WindowDataset, sample_generator
from stablevsr.training.tasks.tcm import TCMTask
from tests.flow import vector_flow

SIZE, SEED = BATCH + 2, 5  # a whole batch and a part of one
MADE_FROM = "0123456789abcdef"


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    root = tmp_path_factory.mktemp("clip")
    scene = np.random.default_rng(0).integers(0, 256, (12, 18, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    gt, lr = [], []
    for t in range(4):
        frame = np.ascontiguousarray(scene[:, 4 * t : 4 * t + 56])
        for folder, picture, files in (("gt", frame, gt), ("lr", degrade(frame), lr)):
            files.append(root / folder / f"{t:08d}.png")
            write_frame(files[-1], picture)
    return WindowDataset([Clip("000", tuple(gt), tuple(lr))], frames=3, crop=32, seed=SEED)


@pytest.fixture(scope="module")
def task(vectors, windows):
    networks = load_networks(vectors / "model_v", device="cpu")
    return TCMTask(networks.tcm, networks, Training(temporal_weight=0.3), Guidance(), vector_flow, windows)


@pytest.fixture(scope="module")
def cached(task, tmp_path_factory):
    file = tmp_path_factory.mktemp("samples") / "samples.safetensors"
    cache_samples(task, SIZE, SEED, file, MADE_FROM)
    return file


def test_the_cache_holds_what_a_training_step_would_freeze_for_either_neighbour(task, windows, cached):
    stored = load_file(cached)
    assert len(stored["latents"]) == SIZE
    for index in (0, SIZE - 1):
        window = {key: value[None] for key, value in windows[index].items()}
        drawn = task.draw(window["lq"].shape[-1], [sample_generator(SEED, index)])
        for name, neighbour in (("past", PAST), ("next", NEXT)):
            alone = task.freeze(window, drawn | {"neighbour": torch.tensor([neighbour])})
            torch.testing.assert_close(
                stored[f"guidance_{name}"][index].float(), alone["guidance"][0], atol=3e-3, rtol=1e-3
            )
            torch.testing.assert_close(
                stored[f"to_neighbour_{name}"][index], alone["to_neighbour"][0], atol=1e-4, rtol=1e-4
            )
            for key in ("latents", "timesteps", "lq"):
                torch.testing.assert_close(stored[key][index], alone[key][0], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(stored["guidance_past"], stored["guidance_next"], atol=0.05)


def test_samples_that_are_there_are_not_made_again(task, cached, monkeypatch):
    before = cached.stat()
    monkeypatch.setattr(task, "data", None)  # without windows they could not be
    cache_samples(task, SIZE, SEED, cached, MADE_FROM)
    assert cached.stat().st_mtime_ns == before.st_mtime_ns


def test_samples_of_other_data_or_networks_are_made_again(task, tmp_path, capsys):
    file = tmp_path / "samples.safetensors"
    for made_from in (MADE_FROM, "f" * 16):
        cache_samples(task, 2, SEED, file, made_from)
        assert is_current(file, made_from)
    assert capsys.readouterr().err.count("was made from other data or networks: computing the samples again") == 1


def neighbours(cached, both, count=200):
    stored, samples = load_file(cached), CachedSamples(cached, both, SEED)
    return [
        next(
            name
            for name in ("past", "next")
            if (stored[f"guidance_{name}"].float() == samples[index]["guidance"]).flatten(1).all(1).any()
        )
        for index in range(count)
    ]


def test_a_past_only_training_never_sees_the_next_frame_and_the_other_sees_both_evenly(cached):
    assert set(neighbours(cached, both=False)) == {"past"}
    assert 70 < neighbours(cached, both=True).count("next") < 130  # of 200: more than four standard deviations


def test_samples_come_again_by_number_and_noise_is_fresh_at_every_use(cached):
    first, again = CachedSamples(cached, True, SEED), CachedSamples(cached, True, SEED)
    assert all(torch.equal(first[7][key], again[7][key]) for key in first[7])
    assert not torch.equal(CachedSamples(cached, True, SEED + 1)[7]["noise"], first[7]["noise"])
    used = [first[index] for index in range(200)]
    every = {tuple(latents.flatten().tolist()) for latents in load_file(cached)["latents"]}
    assert {tuple(sample["latents"].flatten().tolist()) for sample in used} == every and len(every) > SIZE // 2
    noise = torch.stack([sample["noise"] for sample in used])
    assert len({float(row.flatten()[0]) for row in noise}) == 200
    assert abs(float(noise.mean())) < 0.02 and abs(float(noise.std()) - 1) < 0.02


def test_the_variants_that_share_samples_meet_the_same_samples_and_noise(cached):
    """What differs between a past-only training and the other is the neighbour alone: pairs are pairs."""
    past, both = CachedSamples(cached, False, SEED), CachedSamples(cached, True, SEED)
    for index in range(20):
        assert all(torch.equal(past[index][key], both[index][key]) for key in ("latents", "noise", "timesteps", "lq"))


def test_a_blank_training_learns_from_shared_samples_as_if_it_had_computed_its_own(vectors, windows, tmp_path):
    """With a target that moves they are those of the paper's guidance, shared with the trainings that are shown it."""
    networks = load_networks(vectors / "model_v", device="cpu")
    blank = Training(guidance=Guidance(source="none", flow="dis"), temporal_weight=0.6)
    read = []
    for name, settings in (("own", blank), ("shared", blank.of_samples)):
        file = tmp_path / f"{name}.safetensors"
        task = TCMTask(networks.tcm, networks, settings, settings.guidance, vector_flow, windows)
        cache_samples(task, 4, SEED, file, MADE_FROM)
        read.append(CachedSamples(file, True, SEED, blank=True))
    for index in range(8):
        own, shared = (samples[index] for samples in read)
        assert own.keys() == shared.keys() > {"to_neighbour"}
        assert all(torch.equal(own[key], shared[key]) for key in own)
        assert torch.count_nonzero(own["guidance"]) == 0
