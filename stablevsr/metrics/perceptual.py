"""Perceptual metrics: LPIPS and DISTS against the ground truth, MUSIQ, CLIP-IQA and NIQE of the output alone.

The networks are the packages' own, built without their downloads and filled from verified local files; the distances
are the packages' formulas, rearranged so that the features of a frame are computed once however many comparisons it
takes part in. All images are (B, 3, H, W) in [0, 1].
"""

from __future__ import annotations

import logging
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stablevsr.metrics.weights import dists_weights, missing
from stablevsr.runtime.errors import UserError

Features = list[Tensor]
STABILISER = 1e-6  # of DISTS
DISTS_PIXELS = 2**16  # VGG's first features take 256 bytes a pixel: this many pixels at a time, or one frame
DISTS_TOGETHER = 64 * 64  # pixels of a map from which on the frames of all methods go through VGG as one batch


def backbone(name: str, file: Path) -> nn.Module:
    """The convolutional part (``.features``) of torchvision's alexnet or vgg16, filled from a local state dict."""
    import torchvision

    with torch.device("meta"):  # no memory and no random numbers for the classifier, which is not used
        network = getattr(torchvision.models, name)(weights=None)
    state = torch.load(file, map_location="cpu", weights_only=True)
    prefix = "features."
    features: nn.Module = network.features
    features.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, assign=True)
    return features


@contextmanager
def _given_backbone(module: Any, attribute: str, name: str, features: nn.Module) -> Iterator[None]:
    """While a package builds its network, its view of ``torchvision.models`` holds our backbone and nothing else.

    Both packages ask torchvision for a pretrained network in their constructor, which would download it.
    """
    original = getattr(module, attribute)
    network = types.SimpleNamespace(features=features)
    setattr(module, attribute, types.SimpleNamespace(**{name: lambda pretrained: network}))
    try:
        yield
    finally:
        setattr(module, attribute, original)


class LPIPSDistance:
    """LPIPS with AlexNet and the version 0.1 linear weights (Zhang et al., CVPR 2018), features and distance apart."""

    def __init__(self, alexnet: Path, device: torch.device | str = "cpu") -> None:
        import lpips

        with _given_backbone(lpips.pretrained_networks, "tv", "alexnet", backbone("alexnet", alexnet)):
            self.model: Any = lpips.LPIPS(net="alex", verbose=False).eval().requires_grad_(False).to(device)

    def features(self, images: Tensor) -> Features:
        """Five levels of features, each position scaled to unit length."""
        levels = self.model.net.forward(self.model.scaling_layer(2 * images - 1))
        return [level / (level.square().sum(1, keepdim=True).sqrt() + 1e-10) for level in levels]

    def distance(self, a: Features, b: Features) -> Tensor:
        """LPIPS of each of the B image pairs, (B,)."""
        total = torch.zeros(a[0].shape[0], device=a[0].device)
        for linear, one, other in zip(self.model.lins, a, b, strict=True):
            squares = (one - other).square().mean((2, 3), keepdim=True)  # the mean and the 1x1 convolution commute
            total = total + linear(squares).flatten()
        return total


class DISTSDistance:
    """DISTS with VGG16 (Ding et al., TPAMI 2020) at full resolution, several methods against one ground truth."""

    def __init__(self, vgg16: Path, device: torch.device | str = "cpu") -> None:
        from DISTS_pytorch import DISTS_pt

        file = dists_weights()
        if file is None:
            raise UserError(missing("dists") or "the DISTS weights are not found")
        with _given_backbone(DISTS_pt, "models", "vgg16", backbone("vgg16", vgg16)):
            self.model: Any = DISTS_pt.DISTS(load_weights=False)
        channels = torch.load(file, map_location="cpu", weights_only=True)
        self.model.alpha.data, self.model.beta.data = channels["alpha"].data, channels["beta"].data
        self.model.eval().requires_grad_(False).to(device)
        model = self.model
        self.stages = (model.stage1, model.stage2, model.stage3, model.stage4, model.stage5)

    def __call__(self, gt: Tensor, outputs: Sequence[Tensor]) -> Tensor:
        """DISTS of each of the B frames of each method, (methods, B)."""
        size = max(1, DISTS_PIXELS // (gt.shape[-1] * gt.shape[-2]))
        parts = zip(*(torch.split(images, size) for images in (gt, *outputs)), strict=True)
        return torch.cat([self._compare(part) for part in parts], dim=1)

    def _compare(self, images: Sequence[Tensor]) -> Tensor:
        """``images``: ground truth, then each method; levels are compared as they appear and then forgotten."""
        model = self.model
        total = model.alpha.sum() + model.beta.sum()
        alphas = (model.alpha / total).split(model.chns, dim=1)
        betas = (model.beta / total).split(model.chns, dim=1)
        similarity = _structure(images, alphas[0], betas[0])
        maps = [(image - model.mean) / model.std for image in images]
        for stage, alpha, beta in zip(self.stages, alphas[1:], betas[1:], strict=True):
            maps = _through(stage, maps)
            similarity = similarity + _structure(maps, alpha, beta)
        return 1 - similarity


def _through(stage: Callable[[Tensor], Tensor], maps: list[Tensor]) -> list[Tensor]:
    """Small maps together, large ones one after another, because they would fall out of the caches."""
    if maps[0][0, 0].numel() <= DISTS_TOGETHER:
        return list(stage(torch.cat(maps)).chunk(len(maps)))
    for index, level in enumerate(maps):
        maps[index] = stage(level)
    return maps


def _structure(maps: Sequence[Tensor], alpha: Tensor, beta: Tensor) -> Tensor:
    """Weighted texture and structure similarity of the first maps (B, C, H, W) with each of the others."""
    means = torch.stack([level.mean((-2, -1)) for level in maps])
    reference = _centred(maps[0])
    variances, covariances = [], []
    for level in maps:
        centred = _centred(level)
        variances.append(centred.square().mean(-1))
        covariances.append((reference * centred).mean(-1))
    x_mean, y_mean = means[0], means[1:]
    x_variance, y_variance = variances[0], torch.stack(variances[1:])
    covariance = torch.stack(covariances[1:])
    texture = (2 * x_mean * y_mean + STABILISER) / (x_mean**2 + y_mean**2 + STABILISER)
    structure = (2 * covariance + STABILISER) / (x_variance + y_variance + STABILISER)
    similarity: Tensor = (alpha.flatten() * texture + beta.flatten() * structure).sum(-1)
    return similarity


def _centred(maps: Tensor) -> Tensor:
    """(B, C, H, W) as (B, C, HW), less each channel's mean: much cheaper than ``Tensor.var`` on a CPU."""
    flat = maps.flatten(2)
    return flat - flat.mean(-1, keepdim=True)


def load_iqa(name: str, file: Path, device: torch.device | str = "cpu") -> Callable[[Tensor], Tensor]:
    """pyiqa's musiq, clipiqa or niqe from a local weight file: a callable from (B, 3, H, W) to (B,).

    pyiqa's licence forbids commercial use. CLIP's file is a TorchScript archive and is run as such, so load verified
    files only.
    """
    with warnings.catch_warnings(), _pkg_resources():
        warnings.simplefilter("ignore")
        import pyiqa
        from pyiqa.archs.arch_util import clean_state_dict

        logging.getLogger("pyiqa").setLevel(logging.WARNING)
        if name == "musiq":
            metric = pyiqa.create_metric("musiq", device=device, pretrained=False)
            state = torch.load(file, map_location="cpu", weights_only=True)
            metric.net.load_state_dict(clean_state_dict(state))
        elif name == "clipiqa":
            metric = pyiqa.create_metric("clipiqa", device=device, backbone=str(file))
        else:
            metric = pyiqa.create_metric("niqe", device=device, pretrained_model_path=str(file))
    return lambda images: metric(images).flatten()


@contextmanager
def _pkg_resources() -> Iterator[None]:
    """openai-clip imports ``packaging`` through pkg_resources, which newer setuptools no longer has: lend it."""
    name = "pkg_resources"
    try:
        __import__(name)
        lent = False
    except ImportError:
        import packaging.version

        module: Any = types.ModuleType(name)
        module.packaging = packaging
        sys.modules[name] = module
        lent = True
    try:
        yield
    finally:
        if lent:
            del sys.modules[name]
