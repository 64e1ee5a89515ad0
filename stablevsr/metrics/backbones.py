"""The image networks under LPIPS and DISTS, loaded from local files instead of downloaded by their packages."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


@contextmanager
def local_backbone(module: Any, attribute: str, name: str, file: Path) -> Iterator[None]:
    """While ``module`` builds its network, its ``attribute`` (torchvision.models) is a stub with one local network.

    The lpips and DISTS packages ask torchvision for a pretrained ``name`` (alexnet or vgg16) in their constructors,
    which would download it. The stub returns that network's ``features``, filled from the state dict ``file``.
    """
    import torchvision

    with torch.device("meta"):  # allocates and initialises nothing: the classifier is large and not used
        features = getattr(torchvision.models, name)(weights=None).features
    safe = file.suffix == ".safetensors"  # from the package index; the published file is torch's
    state = load_file(file) if safe else torch.load(file, map_location="cpu", weights_only=True)
    prefix = "features."
    features.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, assign=True)
    original = getattr(module, attribute)
    network = types.SimpleNamespace(features=features)
    setattr(module, attribute, types.SimpleNamespace(**{name: lambda pretrained: network}))
    try:
        yield
    finally:
        setattr(module, attribute, original)
