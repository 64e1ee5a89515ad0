"""BasicVSR (Chan et al., CVPR 2021) with its published weights: a recurrent network that fuses both directions in time.

Features run through the clip backward, then forward, each step aligned by SpyNet's flow; both give the x4 frame. Layer
names are those of BasicSR's checkpoints. What BasicVSR++ and RealBasicVSR share with it is here too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stablevsr.baselines.networks.features import FeatureStore, room
from stablevsr.baselines.networks.spynet import SpyNet
from stablevsr.method.flow import warp

CHANNELS, BLOCKS = 64, 30


class LRFrames(Protocol):
    """The LR frames of a clip, each float32 (1, 3, h, w) in [0, 1] on the network's device; sides above 32 pixels."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Tensor: ...


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


class ClipNetwork(nn.Module, ABC):
    """A network with a clip in and its x4 frames out."""

    @abstractmethod
    def stream(self, frames: LRFrames) -> Iterator[Tensor]:
        """The x4 frames one after another, float32 (1, 3, 4h, 4w), unclamped."""

    def forward(self, frames: Tensor) -> Tensor:
        """A clip (N, 3, h, w) in [0, 1] to (N, 3, 4h, 4w), unclamped, or a batch of clips (B, N, 3, h, w)."""
        if frames.ndim == 5:
            return torch.stack([self(clip) for clip in frames])
        return torch.cat(list(self.stream(torch.split(frames, 1))))

    def set_dtype(self, dtype: torch.dtype) -> None:
        """Compute features in ``dtype``.

        Flow, warping and the sum with the enlarged frame stay in float32: near the position 500, float16 has steps of
        half a pixel.
        """
        self.to(dtype)
        for module in self.modules():
            if isinstance(module, SpyNet):
                module.float()


class RecurrentUpscaler(ClipNetwork):
    """What BasicVSR and BasicVSR++ share: SpyNet, and the enlargement of features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.spynet = SpyNet()
        self.upconv1 = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.upconv2 = nn.Conv2d(channels, 4 * 64, 3, padding=1)
        self.conv_hr = nn.Conv2d(64, 64, 3, padding=1)
        self.conv_last = nn.Conv2d(64, 3, 3, padding=1)

    @property
    def dtype(self) -> torch.dtype:
        """Of the features."""
        return self.conv_last.weight.dtype

    def new_store(self) -> FeatureStore:
        """A store for features on the network's device."""
        return FeatureStore(room(self.conv_last.weight.device))

    def blank(self, frame: Tensor) -> Tensor:
        """Features of zeros for a frame of this size."""
        return frame.new_zeros(1, self.channels, *frame.shape[-2:], dtype=self.dtype)

    def enlarge(self, features: Tensor, frame: Tensor) -> Tensor:
        """The x4 frame: what the features add to a bilinear enlargement."""
        for layer in (self.upconv1, self.upconv2):
            features = F.leaky_relu(F.pixel_shuffle(layer(features), 2), 0.1)
        detail = torch.as_tensor(self.conv_last(F.leaky_relu(self.conv_hr(features), 0.1)))
        return detail.float() + F.interpolate(frame, scale_factor=4, mode="bilinear", align_corners=False)


def warp_features(features: Tensor, flow: Tensor) -> Tensor:
    """Features moved by a flow; positions and interpolation in float32."""
    return warp(features.float(), flow, "aligned").to(features.dtype)


class BasicVSR(RecurrentUpscaler):
    """The network; 6.3 M parameters with the published widths, SpyNet included."""

    def __init__(self, channels: int = CHANNELS, blocks: int = BLOCKS) -> None:
        super().__init__(channels)
        self.backward_trunk = ResidualBlocks(channels + 3, channels, blocks)
        self.forward_trunk = ResidualBlocks(channels + 3, channels, blocks)
        self.fusion = nn.Conv2d(2 * channels, channels, 1)

    @torch.no_grad()
    def stream(self, frames: LRFrames) -> Iterator[Tensor]:
        """See :meth:`ClipNetwork.stream`; the first frame comes once the whole clip was read backward."""
        backward = self.new_store()
        features = self.blank(frames[0])
        for i in range(len(frames) - 1, -1, -1):
            backward[i] = features = self._propagate(self.backward_trunk, frames, i, i + 1, features)
        features = self.blank(frames[0])
        for i in range(len(frames)):
            features = self._propagate(self.forward_trunk, frames, i, i - 1, features)
            hidden = F.leaky_relu(self.fusion(torch.cat([backward[i], features], dim=1)), 0.1)
            backward.drop(i)
            yield self.enlarge(hidden, frames[i])

    def _propagate(self, trunk: nn.Module, frames: LRFrames, i: int, before: int, features: Tensor) -> Tensor:
        """The features of frame ``i`` from those of the frame ``before`` it, which may lie outside the clip."""
        if 0 <= before < len(frames):
            features = warp_features(features, self.spynet(frames[i], frames[before]))
        return torch.as_tensor(trunk(torch.cat([frames[i].to(self.dtype), features], dim=1)))
