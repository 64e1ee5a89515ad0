"""SpyNet, the optical flow inside BasicVSR and BasicVSR++ (Ranjan and Black, CVPR 2017).

A coarse-to-fine pyramid of six levels: at each, a small network corrects the flow that the coarser level found. Layer
names are those of BasicSR's checkpoints.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stablevsr.method.flow import warp

LEVELS = 6
STRIDE = 32  #: the frame's sides at the finest level are multiples of this: 2 to the power of five halvings
WIDTHS = (8, 32, 64, 32, 16, 2)  #: channels through one level's network: target, warped source and flow in, flow out


class _Level(nn.Module):
    """The correction network of one pyramid level."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, following in pairwise(WIDTHS):
            layers += [nn.Conv2d(width, following, 7, padding=3), nn.ReLU()]
        self.basic_module = nn.Sequential(*layers[:-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 8, h, w) to a flow correction (B, 2, h, w)."""
        return torch.as_tensor(self.basic_module(inputs))


class SpyNet(nn.Module):
    """Flow of a batch of frame pairs; frames must be larger than 32 pixels a side (a level would be empty)."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.basic_module = nn.ModuleList(_Level() for _ in range(LEVELS))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Flow (B, 2, H, W) in pixels with which ``source``, warped, looks like ``target``.

        Args:
            target: (B, 3, H, W) in [0, 1].
            source: the same shape.
        """
        height, width = target.shape[-2:]
        size = [-(-side // STRIDE) * STRIDE for side in (height, width)]
        images = (F.interpolate(image, size, mode="bilinear", align_corners=False) for image in (target, source))
        flow = self._estimate(*(self._pyramid(image) for image in images))
        flow = F.interpolate(flow, (height, width), mode="bilinear", align_corners=False)
        return flow * flow.new_tensor([width / size[1], height / size[0]]).view(1, 2, 1, 1)

    def _pyramid(self, image: Tensor) -> list[Tensor]:
        """The normalised image at all levels, from the coarsest to the finest."""
        levels = [(image - self.mean) / self.std]
        for _ in range(LEVELS - 1):
            levels.append(F.avg_pool2d(levels[-1], 2))
        return levels[::-1]

    def _estimate(self, targets: list[Tensor], sources: list[Tensor]) -> Tensor:
        batch, _, height, width = targets[0].shape
        flow = targets[0].new_zeros(batch, 2, height // 2, width // 2)
        for level, target, source in zip(self.basic_module, targets, sources, strict=True):
            flow = F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True) * 2
            # the coarsest level may have an odd side
            missing = [target.shape[-1] - flow.shape[-1], target.shape[-2] - flow.shape[-2]]
            flow = F.pad(flow, [0, missing[0], 0, missing[1]], mode="replicate")
            warped = warp(source, flow, "aligned", padding="border")
            flow = flow + level(torch.cat([target, warped, flow], dim=1))
        return flow
