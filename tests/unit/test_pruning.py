"""Structured pruning: what is removed, what stays the same, and pruned networks on disk."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D
from safetensors.torch import load_file, save_file

from stablevsr.data.degradation import degrade
from stablevsr.data.frames import list_frames, list_sequences, read_frame, write_frame
from stablevsr.method.loading import load_network
from stablevsr.method.model_folder import TINY
from stablevsr.runtime.errors import UserError
from stablevsr.study.files import Dataset
from stablevsr.study.inference import NetworkPaths, Shard, infer
from stablevsr.study.methods import TrainingRun
from stablevsr.study.paths import Paths
from stablevsr.study.prepare import open_dataset
from stablevsr.study.resolve import load_study
from stablevsr.training.pruning import load_pruned, prune
from stablevsr.training.samples import sample_generator
from stablevsr.training.task import TaskInputs
from stablevsr.training.tasks.unet import load

ROOT = Path(__file__).parents[2]
ablation = runpy.run_path(str(ROOT / "ablations" / "pruning.py"))
PARTS = ("unet", "controlnet")
WEIGHTS = "diffusion_pytorch_model.safetensors"


def tiny(part):
    return load_network(part, TINY / part, torch.float32)


def outputs(network):
    """All outputs of a UNet or TCM for fixed inputs."""
    generator = torch.Generator().manual_seed(0)
    sample, prompt = (torch.randn(shape, generator=generator) for shape in ((2, 7, 16, 16), (2, 77, 32)))
    image = torch.randn(2, 3, 64, 64, generator=generator)
    with torch.no_grad():
        if hasattr(network, "up_blocks"):
            return [network(sample, 300, encoder_hidden_states=prompt).sample]
        down, mid = network(sample, 300, prompt, image, return_dict=False)
        return [*down, mid]


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def blocks(network, kind):
    return {name: module for name, module in network.named_modules() if isinstance(module, kind)}


def assert_equal(found, expected, tolerance=1e-5):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("part", PARTS)
def test_nothing_pruned_nothing_changed(part):
    network = tiny(part)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    prune(network, 0)
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@torch.no_grad()
def silence(network, seed):
    """Set to zero what reads a random half of each inner width."""
    generator = torch.Generator().manual_seed(seed)
    for block in blocks(network, ResnetBlock2D).values():
        groups, size = block.norm2.num_groups, block.norm2.num_channels // block.norm2.num_groups
        for group in torch.randperm(groups, generator=generator)[: groups // 2]:
            block.conv2.weight[:, group * size : (group + 1) * size] = 0
    for layer in blocks(network, FeedForward).values():
        weight = layer.net[2].weight
        weight[:, torch.randperm(weight.shape[1], generator=generator)[: weight.shape[1] // 2]] = 0


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_contributes_nothing_is_what_is_pruned(part, seed):
    """Although the scale of its filters says nothing: those before a normalisation may be of any size."""
    network = tiny(part)
    silence(network, seed)
    for block in blocks(network, ResnetBlock2D).values():
        block.conv1.weight *= torch.logspace(0, 3, len(block.conv1.weight))[:, None, None, None]
    expected = outputs(network)
    prune(network, 0.5)
    assert_equal(outputs(network), expected)
    prune(network, 0.125)  # of the rest, which contributes
    assert max(float((a - b).abs().max()) for a, b in zip(outputs(network), expected, strict=True)) > 1e-3


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_size_falls_by_the_share_of_the_inner_widths_and_nothing_outside_changes(part, share):
    whole, network = tiny(part), tiny(part)
    prune(network, share)
    inner = 0
    for block in blocks(whole, ResnetBlock2D).values():
        layers = (block.conv1, block.time_emb_proj, block.norm2)
        inner += sum(parameters(layer) for layer in layers) + block.conv2.weight.numel()
    for layer in blocks(whole, FeedForward).values():
        inner += parameters(layer.net[0].proj) + layer.net[2].weight.numel()
    assert 0.5 * parameters(whole) < inner
    assert parameters(network) == parameters(whole) - share * inner
    for name, block in blocks(network, ResnetBlock2D).items():
        norm, old = block.norm2, blocks(whole, ResnetBlock2D)[name].norm2
        assert norm.num_channels / norm.num_groups == old.num_channels / old.num_groups
        assert norm.num_groups == (1 - share) * old.num_groups
    assert [a.shape for a in outputs(network)] == [a.shape for a in outputs(whole)]


@pytest.mark.parametrize("part", PARTS)
def test_the_full_size_networks_can_be_pruned(part):
    from stablevsr.bench.sampling import full_size

    with torch.device("meta"):
        unet, tcm, _ = full_size()
    network = unet if part == "unet" else tcm
    before = parameters(network)
    prune(network, 0.5)
    assert 0.6 < parameters(network) / before < 0.7


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_a_saved_pruned_network_gives_the_same_outputs(part, share, tmp_path):
    network = tiny(part)
    prune(network, share)
    network.save_pretrained(tmp_path)
    loaded = load_pruned(part, tmp_path)
    assert_equal(outputs(loaded), outputs(network), 0)
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())


def test_what_pruned_networks_learn_reaches_every_weight(tmp_path):
    network = tiny("unet").train().requires_grad_(True)
    prune(network, 0.5)
    network(torch.randn(1, 7, 16, 16), 300, torch.randn(1, 77, 32)).sample.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("share", [-0.1, 0.95, 1, 2])
def test_shares_that_leave_nothing_or_add_something_are_refused(share):
    with pytest.raises(UserError, match=r"a share of \S+ cannot be pruned: of the 8 parts of \S+ -?\d+ stay"):
        prune(tiny("unet"), share)


def change(folder, **changed):
    weights = load_file(folder / WEIGHTS)
    for name, value in ((key.replace("__", "."), value) for key, value in changed.items()):
        weights.pop(name, None)
        if value is not None:
            weights[name] = value
    save_file(weights, folder / WEIGHTS)


@pytest.fixture
def pruned(tmp_path):
    network = tiny("unet")
    prune(network, 0.25)
    network.save_pretrained(tmp_path / "unet")
    return tmp_path / "unet"


CONV = "mid_block__resnets__0__conv"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({f"{CONV}1__weight": torch.zeros(95, 128, 3, 3)}, "5.9375 of 8 parts in mid_block.resnets.0"),
        ({f"{CONV}1__weight": torch.zeros(256, 128, 3, 3)}, "16 of 8 parts in mid_block.resnets.0"),
        ({f"{CONV}2__weight": torch.zeros(128, 80, 3, 3)}, "conv2.weight is (128, 80, 3, 3) instead of"),
        ({"conv_in__bias": None}, "conv_in.bias is None instead of (48,)"),
        ({"more": torch.zeros(1)}, "more is (1,) instead of None"),
    ],
)
def test_weights_of_other_shapes_are_refused(changed, words, pruned):
    change(pruned, **changed)
    with pytest.raises(UserError) as refused:
        load_pruned("unet", pruned)
    assert str(pruned) in str(refused.value) and words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_damaged_folders_and_other_networks_are_refused(pruned):
    with pytest.raises(UserError, match="holds another network, UNet2DConditionModel: ControlNetModel is wanted"):
        load_pruned("controlnet", pruned)
    with pytest.raises(UserError, match="there is no folder"):
        load_pruned("unet", pruned / "none")
    (pruned / WEIGHTS).write_bytes((pruned / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded as UNet2DConditionModel"):
        load_pruned("unet", pruned)


def test_a_pruned_folder_is_not_taken_for_a_whole_one(pruned):
    """Anything but :func:`load_pruned` refuses it."""
    assert json.loads((pruned / "config.json").read_text())["block_out_channels"] == [48, 96, 128]
    with pytest.raises(UserError, match="cannot be loaded as UNet2DConditionModel"):
        load_network("unet", pruned, torch.float32)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The study `beyond` with a few steps on noise, as the ablation's script reads it in an empty folder."""
    study = load_study("beyond", ROOT)
    spec = Dataset(title="noise", layout="plain", root=tmp_path / "clips")
    root = tmp_path / Paths(study).dataset("reds4")
    random = np.random.default_rng(0)
    for clip, folder in (("a", tmp_path / "clips"), ("a", root), ("b", root)):
        for index, frame in enumerate(random.integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)):
            write_frame(folder / "gt" / clip / f"{index}.png", frame)
            write_frame(folder / "lr" / clip / f"{index}.png", degrade(frame))
    form = study.methods["stablevsr"].on("reds4")
    few = {"steps": 2, "batch": 2, "crop": 32, "cached_samples": 3}
    run = TrainingRun.of("tcm", form.training.settings.model_copy(update=few), spec, form.base)
    sampling = form.sampling.model_copy(update={"steps": 2})
    monkeypatch.setitem(study.methods, "stablevsr", replace(form, training=run, sampling=sampling, forms={}))
    monkeypatch.setitem(ablation["train_networks"].__globals__, "load_study", lambda _: study)
    monkeypatch.setitem(ablation["train_networks"].__globals__, "UNET_STEPS", 2)
    monkeypatch.chdir(tmp_path)
    return study


@pytest.mark.parametrize("share", [0, 0.5])
def test_a_pruned_unet_learns_the_prediction_of_the_whole_one(share, study):
    run = study.methods["stablevsr"].training
    clips = open_dataset(run.dataset, Path("lr"))
    task = ablation["PrunedUNetTask"](load(TaskInputs(TINY, run.settings, clips, clips, torch.device("cpu"))), share)
    batch = {key: value[None] for key, value in task.data[0].items()}
    assert (task.loss(batch, [sample_generator(0, 0)]).item() > 1e-3) == bool(share)
    assert (task.figures()["loss"]["mid"] > 1e-3) == bool(share)
    if share:
        optimizer = torch.optim.Adam(task.model.parameters(), 1e-3)
        losses = []
        for _ in range(8):
            losses.append(task.loss(batch, [sample_generator(0, 0)]))
            optimizer.zero_grad()
            losses[-1].backward()
            optimizer.step()
        assert losses[-1] < 0.5 * losses[0]
        assert_equal(task.whole.model.parameters(), tiny("unet").parameters(), 0)


def frames(folder):
    return [[read_frame(file) for file in list_frames(clip)] for clip in list_sequences(folder)]


def test_the_ablation_trains_both_pruned_networks_and_samples_with_them(study, tmp_path):
    ablation["train_networks"]("beyond", 0.5, tmp_path / "half")
    ablation["sample"]("beyond", "reds4", tmp_path / "half", tmp_path / "frames")
    for part in PARTS:
        trained, untrained = load_pruned(part, tmp_path / "half" / part), tiny(part)
        prune(untrained, 0.5)
        assert parameters(trained) == parameters(untrained)
        moved = [(a != b).any() for a, b in zip(trained.parameters(), untrained.parameters(), strict=True)]
        assert sum(moved) > 0.9 * len(moved)
        assert (tmp_path / "half" / part / "history.csv").read_text().splitlines()[-1].startswith("2,")
    assert np.shape(frames(tmp_path / "frames")) == (2, 3, 32, 48, 3)
    assert json.loads((tmp_path / "frames.json").read_text())["seconds"] > 0


def test_the_ablation_samples_whole_networks_as_the_study_does(study, tmp_path):
    for part in PARTS:
        tiny(part).save_pretrained(tmp_path / "whole" / part)
    ablation["sample"]("beyond", "reds4", tmp_path / "whole", tmp_path / "frames")
    form = study.methods["stablevsr"].on("reds4")
    lr = tmp_path / Paths(study).dataset("reds4") / "lr"
    infer(form, Shard("reds4", lr), 0, tmp_path / "by_study", tmp_path / "m.json", NetworkPaths("tiny", "cpu"), 4)
    assert np.array_equal(frames(tmp_path / "frames"), frames(tmp_path / "by_study"))
