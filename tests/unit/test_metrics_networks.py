"""Metrics by networks: wired as the packages themselves are, with random weights instead of the published ones.

A registry row with the random file's own hash takes the place of the published row; everything else is the real path.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import lpips
import numpy as np
import pytest
import torch
import torchvision
from DISTS_pytorch import DISTS_pt
from torch import Tensor, nn
from torchvision.models.optical_flow import raft_large

from stablevsr.data.downloads import registry, weights
from stablevsr.data.frames import write_frame
from stablevsr.method.flow import RAFTFlow
from stablevsr.metrics.builtin.dists import DISTSDistance
from stablevsr.metrics.builtin.lpips import LPIPSDistance
from stablevsr.metrics.evaluate import evaluate
from stablevsr.metrics.tables import read_scores
from stablevsr.training.perceptual import PerceptualLoss

Backbone = Callable[[], nn.Module]


def random_features(configuration: str) -> nn.Module:
    """The ``features`` of alexnet or vgg16 with random weights, without the big classifiers."""
    torch.manual_seed(1)
    if configuration == "vgg16":
        vgg = torchvision.models.vgg
        return vgg.make_layers(vgg.cfgs["D"], batch_norm=False)
    sizes = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1))
    layers: list[nn.Module] = []
    for index, (inner, outer, kernel, stride, padding) in enumerate(sizes):
        layers += [nn.Conv2d(inner, outer, kernel, stride, padding), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(3, 2)] if index in (0, 1, 4) else []
    return nn.Sequential(*layers)


def as_file(features: nn.Module) -> bytes:
    stream = io.BytesIO()
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A torch hub cache with random alexnet, vgg16 and raft, and a table of downloads that knows their hashes."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("torch")
        patch.setenv("TORCH_HOME", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder))
        torch.manual_seed(2)
        raft = io.BytesIO()
        torch.save(raft_large(weights=None).state_dict(), raft)
        contents = {name: as_file(random_features(name)) for name in ("alexnet", "vgg16")} | {"raft": raft.getvalue()}
        table = dict(registry.load())
        for name, content in contents.items():
            file = weights.location(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            prefix = hashlib.sha256(content).hexdigest()[:8]
            table[name] = table[name].model_copy(update={"sha256_prefix": prefix})
        patch.setattr(registry, "load", lambda: table)
        yield folder


def images(seed: int, count: int, size: tuple[int, int] = (48, 64)) -> Tensor:
    """Frames of a panning texture, (count, 3, H, W) in [0, 1] on 8-bit levels."""
    generator = torch.Generator().manual_seed(seed)
    wide = nn.functional.interpolate(
        torch.rand(1, 3, 24, 24, generator=generator), size=(size[0] + 16, size[1] + 32), mode="bicubic"
    ).clamp(0, 1)
    views = [wide[..., i : i + size[0], 2 * i : 2 * i + size[1]] for i in range(count)]
    return torch.cat(views).mul(255).round().div(255)


@pytest.fixture(scope="module")
def direct_lpips(hub: Path) -> nn.Module:
    """The package's own network, its random trunk overwritten layer by layer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision.models, "alexnet", lambda pretrained: SimpleNamespace(features=random_features("a")))
        return lpips.LPIPS(net="alex", verbose=False)


def test_lpips_equals_a_direct_call(hub: Path, direct_lpips: nn.Module) -> None:
    a, b = images(0, 3), images(1, 3)
    ours = LPIPSDistance(weights.weight_file("alexnet"))
    with torch.no_grad():
        expected = direct_lpips(a, b, normalize=True).flatten()
        one, other = ours.features(a), ours.features(b)
        torch.testing.assert_close(ours.distance(one, other), expected, rtol=1e-5, atol=1e-8)
        assert ours.distance(one, one).tolist() == [0.0, 0.0, 0.0]
    assert expected.min() > 1e-4


def test_the_perceptual_loss_is_lpips_with_vgg_and_moves_the_image_alone(hub: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        network = SimpleNamespace(features=random_features("vgg16"))
        patch.setattr(torchvision.models, "vgg16", lambda pretrained: network)
        direct = lpips.LPIPS(net="vgg", verbose=False)
    image, target = (images(seed, 2).mul(2).sub(1).requires_grad_() for seed in (0, 1))
    loss = PerceptualLoss()(image, target)
    torch.testing.assert_close(loss, direct(image, target).mean(), rtol=1e-5, atol=1e-8)
    loss.backward()
    assert image.grad is not None and image.grad.abs().max() > 0
    assert target.grad is None


def test_dists_equals_a_direct_call(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gt, outputs = images(0, 3), [images(1, 3), images(2, 3)]
    with monkeypatch.context() as patched:  # the package asks torchvision for its backbone, and looks for its weights
        network = SimpleNamespace(features=random_features("vgg16"))
        patched.setattr(torchvision.models, "vgg16", lambda pretrained: network)
        patched.setattr(DISTS_pt.sys, "prefix", str(Path(DISTS_pt.__file__).parent))
        direct = DISTS_pt.DISTS()
    ours = DISTSDistance(weights.weight_file("vgg16"))
    with torch.no_grad():
        expected = torch.stack([direct(gt, output) for output in outputs])
        torch.testing.assert_close(ours(gt, outputs), expected, rtol=0, atol=2e-6)
        assert ours(gt, [gt])[0].tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert expected.min() > 1e-4


def test_building_leaves_the_packages_as_they_were(hub: Path) -> None:
    LPIPSDistance(weights.weight_file("alexnet"))
    DISTSDistance(weights.weight_file("vgg16"))
    assert lpips.pretrained_networks.tv is torchvision.models
    assert DISTS_pt.models is torchvision.models


def frames_on_disk(folder: Path, frames: Tensor) -> Path:
    for index, frame in enumerate(frames.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()):
        write_frame(folder / "clip" / f"{index:03d}.png", frame)
    return folder


NETWORKS = ["lpips", "dists", "tlp", "tof", "tof_raft_std"]


@pytest.fixture(scope="module")
def scored(hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with gt and two methods, and the two methods' scores of one run."""
    folder = tmp_path_factory.mktemp("scored")
    gt = images(4, 3)
    noise = torch.randn(gt.shape, generator=torch.Generator().manual_seed(0))
    frames_on_disk(folder / "gt", gt)
    for index, strength in enumerate((0.05, 0.1)):
        frames_on_disk(folder / f"sr{index}", (gt + strength * noise).clamp(0, 1))
    outs = {folder / f"{index}.csv": folder / f"sr{index}" for index in (0, 1)}
    evaluate(folder / "gt", outs, NETWORKS, weights="require")
    return folder


def loaded(folder: Path) -> Tensor:
    frames = [torchvision.io.read_image(str(file)) for file in sorted((folder / "clip").iterdir())]
    return torch.stack(frames).float().div(255)


def test_tlp_is_the_change_of_lpips_between_frames(scored: Path, direct_lpips: nn.Module) -> None:
    gt, sr = loaded(scored / "gt"), loaded(scored / "sr0")
    with torch.no_grad():
        change = [direct_lpips(clip[1:], clip[:-1], normalize=True).flatten().double() for clip in (gt, sr)]
        distance = direct_lpips(gt, sr, normalize=True).flatten().double()
    table = read_scores(scored / "0.csv")
    assert math.isnan(table["tlp"][0])
    np.testing.assert_allclose(table["tlp"][1:], 1000 * (change[0] - change[1]).abs(), rtol=1e-3)
    np.testing.assert_allclose(table["lpips"], distance, rtol=1e-5)


def test_tof_is_the_mean_difference_of_flow_components(scored: Path, hub: Path) -> None:
    gt, sr = loaded(scored / "gt"), loaded(scored / "sr0")
    table = read_scores(scored / "0.csv")
    for name, norm, change in (("tof", "published", lambda x: x), ("tof_raft_std", "inference", lambda x: 2 * x - 1)):
        estimator = RAFTFlow(weights.weight_file("raft"), norm=norm)
        flows = [estimator(change(clip[1:]), change(clip[:-1])) for clip in (gt, sr)]
        expected = [10 * (a - b).abs().mean().item() for a, b in zip(*flows, strict=True)]
        assert table[name][1:].tolist() == pytest.approx(expected, rel=1e-3)
        assert math.isnan(table[name][0])
    assert table["tof"][1] != pytest.approx(table["tof_raft_std"][1], rel=0.01)


def test_one_method_with_a_warm_cache_scores_as_in_the_joint_run(scored: Path, tmp_path: Path) -> None:
    for out in ("cold.csv", "warm.csv"):
        evaluate(scored / "gt", {tmp_path / out: scored / "sr1"}, NETWORKS, cache=tmp_path / "c", batch=2)
        alone, joint = (read_scores(file)[NETWORKS] for file in (tmp_path / out, scored / "1.csv"))
        np.testing.assert_allclose(alone, joint, rtol=2e-3, atol=1e-6)
    kinds = {folder.name.split("-")[0] for folder in (tmp_path / "c").iterdir()}
    assert kinds == {"lpips", "raft"}
    assert len(list((tmp_path / "c").rglob("*.array"))) == 2 * 3


def test_perfect_output_has_perfect_scores(scored: Path, tmp_path: Path) -> None:
    evaluate(scored / "gt", {tmp_path / "same.csv": scored / "gt"}, NETWORKS)
    table = read_scores(tmp_path / "same.csv")
    assert (table["lpips"] == 0).all()
    assert table["dists"].to_numpy() == pytest.approx(0, abs=1e-6)
    assert (table[["tlp", "tof", "tof_raft_std"]][1:] == 0).all(axis=None)
