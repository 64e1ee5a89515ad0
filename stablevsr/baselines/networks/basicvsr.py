"""BasicVSR (Chan et al., CVPR 2021) with its published weights: a recurrent network that fuses both directions in time.

Features run through the clip backward, then forward, each step aligned by SpyNet's flow; both give the x4 frame. Layer
names are those of BasicSR's checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stablevsr.baselines.networks.spynet import SpyNet
from stablevsr.method.flow import warp

CHANNELS, BLOCKS = 64, 30


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return features + torch.as_tensor(self.conv2(F.relu(self.conv1(features))))


class ResidualBlocks(nn.Module):
    """A convolution to ``channels``, then ``blocks`` residual blocks."""

    def __init__(self, inputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        body = nn.Sequential(*(_ResidualBlock(channels) for _ in range(blocks)))
        self.main = nn.Sequential(nn.Conv2d(inputs, channels, 3, padding=1), nn.LeakyReLU(0.1), body)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, inputs, h, w) to (B, channels, h, w)."""
        return torch.as_tensor(self.main(inputs))


class BasicVSR(nn.Module):
    """The network; 6.3 M parameters with the published widths, SpyNet included."""

    def __init__(self, channels: int = CHANNELS, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.channels = channels
        self.spynet = SpyNet()
        self.backward_trunk = ResidualBlocks(channels + 3, channels, blocks)
        self.forward_trunk = ResidualBlocks(channels + 3, channels, blocks)
        self.fusion = nn.Conv2d(2 * channels, channels, 1)
        self.upconv1 = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.upconv2 = nn.Conv2d(channels, 4 * 64, 3, padding=1)
        self.conv_hr = nn.Conv2d(64, 64, 3, padding=1)
        self.conv_last = nn.Conv2d(64, 3, 3, padding=1)

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """A clip (N, 3, h, w) in [0, 1] to (N, 3, 4h, 4w), unclamped. Sides above 32 pixels."""
        backward: list[Tensor] = []
        features = frames.new_zeros(1, self.channels, *frames.shape[-2:])
        for i in range(len(frames) - 1, -1, -1):
            features = self._propagate(self.backward_trunk, frames, i, i + 1, features)
            backward.append(features)
        output, features = [], torch.zeros_like(features)
        for i in range(len(frames)):
            features = self._propagate(self.forward_trunk, frames, i, i - 1, features)
            output.append(self._upscale(frames[i : i + 1], backward.pop(), features))
        return torch.cat(output)

    def _propagate(self, trunk: nn.Module, frames: Tensor, i: int, before: int, features: Tensor) -> Tensor:
        """The features of frame ``i`` from those of the frame ``before`` it, which may lie outside the clip."""
        frame = frames[i : i + 1]
        if 0 <= before < len(frames):
            features = warp(features, self.spynet(frame, frames[before : before + 1]), "aligned")
        return torch.as_tensor(trunk(torch.cat([frame, features], dim=1)))

    def _upscale(self, frame: Tensor, backward: Tensor, forward: Tensor) -> Tensor:
        """The x4 frame: what the features add to a bilinear enlargement."""
        hidden = F.leaky_relu(self.fusion(torch.cat([backward, forward], dim=1)), 0.1)
        for layer in (self.upconv1, self.upconv2):
            hidden = F.leaky_relu(F.pixel_shuffle(layer(hidden), 2), 0.1)
        detail = torch.as_tensor(self.conv_last(F.leaky_relu(self.conv_hr(hidden), 0.1)))
        return detail + F.interpolate(frame, scale_factor=4, mode="bilinear", align_corners=False)
