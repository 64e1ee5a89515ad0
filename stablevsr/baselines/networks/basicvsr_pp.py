"""BasicVSR++ (Chan et al., CVPR 2022): four passes over the clip, aligned by deformable convolutions.

Features run backward, forward, backward and forward again, and each pass reads those before it (grid propagation). A
step looks at the two frames before it in its direction; a deformable convolution aligns both, its offsets starting from
SpyNet's flow. Layer names are those of BasicSR's checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from stablevsr.baselines.networks.basicvsr import CHANNELS, LRFrames, RecurrentUpscaler, ResidualBlocks, warp_features
from stablevsr.baselines.networks.features import FeatureStore
from stablevsr.method.flow import warp

BLOCKS = 7  #: residual blocks of a pass
FRAME_BLOCKS = 5  #: residual blocks before and after the passes
GROUPS = 16  #: of channels that share an offset
PASSES = ("backward_1", "forward_1", "backward_2", "forward_2")


class Alignment(nn.Conv2d):
    """The features of two frames aligned with a third by one deformable convolution.

    Args:
        channels: of the features of a frame.
        max_residue_magnitude: the most pixels that an offset may differ from the flow.
    """

    def __init__(self, channels: int, max_residue_magnitude: float) -> None:
        super().__init__(2 * channels, channels, 3, padding=1)
        self.max_residue_magnitude = max_residue_magnitude
        inputs, layers = 3 * channels + 4, []
        for _ in range(3):
            layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.LeakyReLU(0.1)]
            inputs = channels
        self.conv_offset = nn.Sequential(*layers, nn.Conv2d(channels, 27 * GROUPS, 3, padding=1))

    def align(self, features: Tensor, warped: Tensor, near: Tensor, far: Tensor) -> Tensor:
        """The aligned features (1, C, h, w).

        Args:
            features: of the frame before and of the one before that, (1, 2C, h, w).
            warped: both warped by the flows, the features of the frame itself between them, (1, 3C, h, w).
            near: flow of the frame to the one before, (1, 2, h, w) in pixels, x first.
            far: flow of the frame to the one before that.
        """
        hidden = self.conv_offset(torch.cat([warped, near.to(warped.dtype), far.to(warped.dtype)], dim=1)).float()
        residue, mask = hidden.split([18 * GROUPS, 9 * GROUPS], dim=1)
        # the first half of the groups holds the frame before; offsets are y first
        start = torch.cat([flow.flip(1).repeat(1, 9 * GROUPS // 2, 1, 1) for flow in (near, far)], dim=1)
        offset = start + self.max_residue_magnitude * torch.tanh(residue)
        # torchvision has no half precision on a CPU, and offsets need float32
        weight, bias = self.weight.float(), torch.as_tensor(self.bias).float()
        aligned = deform_conv2d(features.float(), offset, weight, bias, padding=1, mask=torch.sigmoid(mask))
        return aligned.to(features.dtype)


class BasicVSRPlusPlus(RecurrentUpscaler):
    """The network; 7.3 M parameters with the published widths, SpyNet included.

    Args:
        channels: of the features; a multiple of 8.
        blocks: residual blocks of each pass.
        max_residue_magnitude: the most pixels that an offset may differ from the flow.
    """

    def __init__(self, channels: int = CHANNELS, blocks: int = BLOCKS, max_residue_magnitude: float = 10) -> None:
        super().__init__(channels)
        self.feat_extract = ResidualBlocks(3, channels, FRAME_BLOCKS)
        self.deform_align = nn.ModuleDict({name: Alignment(channels, max_residue_magnitude) for name in PASSES})
        self.backbone = nn.ModuleDict(
            {name: ResidualBlocks((2 + before) * channels, channels, blocks) for before, name in enumerate(PASSES)}
        )
        self.reconstruction = ResidualBlocks((1 + len(PASSES)) * channels, channels, FRAME_BLOCKS)

    @torch.no_grad()
    def stream(self, frames: LRFrames) -> Iterator[Tensor]:
        """See :meth:`ClipNetwork.stream`; the first frame comes after three passes over the whole clip."""
        kept = self.new_store()
        for i in range(len(frames)):
            kept["frame", i] = self.feat_extract(frames[i].to(self.dtype))
        for name in PASSES[:-1]:
            for i, features in self._pass(name, frames, kept):
                kept[name, i] = features
        for i, features in self._pass(PASSES[-1], frames, kept):
            inputs = ("frame", *PASSES[:-1])
            hidden = self.reconstruction(torch.cat([*(kept[name, i] for name in inputs), features], dim=1))
            for name in inputs:
                kept.drop((name, i))
            yield self.enlarge(hidden, frames[i])

    def _pass(self, name: str, frames: LRFrames, kept: FeatureStore) -> Iterator[tuple[int, Tensor]]:
        """The frames' features of one pass, in its order."""
        step = 1 if name.startswith("forward") else -1
        one = two = None  # the features of the frame before and of the one before that
        for i in range(len(frames))[::step]:
            current = kept["frame", i]
            aligned = torch.zeros_like(current) if one is None else self._align(name, frames, kept, i, step, one, two)
            earlier = [kept[other, i] for other in PASSES[: PASSES.index(name)]]
            features = aligned + self.backbone[name](torch.cat([current, *earlier, aligned], dim=1))
            yield i, features
            one, two = features, one

    def _align(
        self, name: str, frames: LRFrames, kept: FeatureStore, i: int, step: int, one: Tensor, two: Tensor | None
    ) -> Tensor:
        """The features ``one`` and ``two`` of the frames before, aligned with frame ``i``."""
        near = self._flow(frames, kept, i, i - step)
        if two is None:
            far, two = torch.zeros_like(near), torch.zeros_like(one)
        else:
            far = near + warp(self._flow(frames, kept, i - step, i - 2 * step), near, "aligned")
        warped = torch.cat([warp_features(one, near), kept["frame", i], warp_features(two, far)], dim=1)
        alignment = self.deform_align[name]
        assert isinstance(alignment, Alignment)
        return alignment.align(torch.cat([one, two], dim=1), warped, near, far)

    def _flow(self, frames: LRFrames, kept: FeatureStore, target: int, source: int) -> Tensor:
        """The flow between two frames, computed once."""
        if ("flow", target, source) not in kept:
            kept["flow", target, source] = self.spynet(frames[target], frames[source])
        return kept["flow", target, source]
