"""The image networks under LPIPS and DISTS, filled from local files instead of the packages' downloads."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn


def backbone(name: str, file: Path) -> nn.Module:
    """The convolutional part (``.features``) of torchvision's alexnet or vgg16, filled from a local state dict."""
    import torchvision

    with torch.device("meta"):  # no memory and no random numbers for the classifier, which is not used
        network = getattr(torchvision.models, name)(weights=None)
    if file.suffix == ".safetensors":
        state = load_file(file)
    else:
        state = torch.load(file, map_location="cpu", weights_only=True)
    prefix = "features."
    features: nn.Module = network.features
    features.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, assign=True)
    return features


@contextmanager
def replaced_backbone(module: Any, attribute: str, name: str, file: Path) -> Iterator[None]:
    """While a package builds its network, its view of ``torchvision.models`` holds our backbone and nothing else.

    Both packages ask torchvision for a pretrained network in their constructor, which would download it.
    """
    original = getattr(module, attribute)
    network = types.SimpleNamespace(features=backbone(name, file))
    setattr(module, attribute, types.SimpleNamespace(**{name: lambda pretrained: network}))
    try:
        yield
    finally:
        setattr(module, attribute, original)
