"""LPIPS with VGG16 as a loss. The reports measure LPIPS with AlexNet, which no model is trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from stablevsr.data.downloads.weights import weight_file
from stablevsr.metrics.builtin.lpips import LPIPSDistance


class PerceptualLoss:
    """LPIPS (VGG16, linear weights 0.1) of image batches; ``stablevsr fetch vgg16`` gets the weights."""

    def __init__(self) -> None:
        self.network = LPIPSDistance(weight_file("vgg16"), net="vgg16")

    def __call__(self, image: Tensor, target: Tensor) -> Tensor:
        """Mean distance of RGB batches (B, 3, H, W) in [-1, 1], 32 pixels or more; only ``image`` gets gradients."""
        self.network.model.to(image.device)
        with torch.no_grad():
            wanted = self.network.features(target / 2 + 0.5)
        return self.network.distance(self.network.features(image / 2 + 0.5), wanted).mean()
