"""RealBasicVSR (Chan et al., CVPR 2022): BasicVSR for real footage, after a network that cleans the frames.

The cleaning network is applied up to three times, until what it changes is small. Layer names are those of the official
checkpoint, with BasicSR's names inside BasicVSR.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from stablevsr.baselines.networks.basicvsr import CHANNELS, BasicVSR, ClipNetwork, LRFrames, ResidualBlocks
from stablevsr.baselines.networks.features import FeatureStore

BLOCKS = 20
ROUNDS = 3  #: of cleaning, at most
THRESHOLD = 255  #: the published one, in grey levels: the mean change is always below, so that one round is made


class _Cleaned:
    """The cleaned frames of a clip, in a store."""

    def __init__(self, kept: FeatureStore, count: int) -> None:
        self.kept, self._count = kept, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Tensor:
        return self.kept[index]


class RealBasicVSR(ClipNetwork):
    """The network; 6.3 M parameters with the published widths, SpyNet included.

    Args:
        channels: of the features.
        blocks: residual blocks of a direction, and of the cleaning network.
        threshold: cleaning is repeated until it changes the clip by less than this on average, in grey levels.
    """

    def __init__(self, channels: int = CHANNELS, blocks: int = BLOCKS, threshold: float = THRESHOLD) -> None:
        super().__init__()
        self.threshold = threshold
        self.image_cleaning = nn.Sequential(ResidualBlocks(3, channels, blocks), nn.Conv2d(channels, 3, 3, padding=1))
        self.basicvsr = BasicVSR(channels, blocks)

    @torch.no_grad()
    def stream(self, frames: LRFrames) -> Iterator[Tensor]:
        """See :meth:`ClipNetwork.stream`."""
        yield from self.basicvsr.stream(self.clean(frames))

    @torch.no_grad()
    def clean(self, frames: LRFrames) -> LRFrames:
        """The cleaned frames, float32 and unclamped."""
        for _ in range(ROUNDS):
            cleaned, change = _Cleaned(self.basicvsr.new_store(), len(frames)), 0.0
            for i in range(len(frames)):
                residue = self.image_cleaning(frames[i].to(self.basicvsr.dtype)).float()
                cleaned.kept[i] = frames[i] + residue
                change += float(residue.abs().mean()) / len(frames)
            frames = cleaned
            if change < self.threshold / 255:
                break
        return frames
