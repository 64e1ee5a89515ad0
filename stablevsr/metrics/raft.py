"""RAFT along a clip, for tOF: the flow of every frame to the one before it, with nothing computed twice.

The same numbers as torchvision's RAFT-large on each pair, to rounding, for two thirds of the work: a frame's features
serve both pairs that it is in, only the last of the twelve updates is brought to full size, and the part of the
recurrent unit that sees only the (constant) context is computed before the updates begin.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.optical_flow.raft import make_coords_grid, upsample_flow

from stablevsr.method.flow import RAFT_SMALLEST, RAFT_STRIDE, RAFT_TILE, RAFTFlow

UPDATES = 12  # torchvision's default, which the published script takes
CPU_PIXELS = 2**18  # more at once only falls out of the caches
PAIR_PIXELS = RAFT_TILE[0] * RAFT_TILE[1]  # frames a step; the correlation volume takes 1 KB a pixel at this size


class ConsecutiveRAFT:
    """RAFT-large on consecutive frames; frames above 720p go through :class:`RAFTFlow`'s tiles, pair by pair."""

    def __init__(self, file: Path | None, device: torch.device | str = "cpu") -> None:
        """Load the network from a local ``.pth``; None leaves it random (tests only)."""
        self.flow = RAFTFlow(file, device)
        self.model: Any = self.flow.model
        _cheapen_norms(self.model.feature_encoder)
        update = self.model.update_block
        self.units = [_SplitUnit(unit) for unit in (update.recurrent_block.convgru1, update.recurrent_block.convgru2)]

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Tensor:
        """Flow (T-1, 2, H, W) in pixels of every frame but the first to the one before; frames (T, 3, H, W).

        The frames are fed to the network in whatever range they have.
        """
        height, width = frames.shape[-2:]
        if height > RAFT_TILE[0] or width > RAFT_TILE[1]:
            return self.flow(frames[1:], frames[:-1])
        padded = F.pad(frames, (0, _goal(width) - width, 0, _goal(height) - height), mode="replicate")
        at_once = CPU_PIXELS if frames.device.type == "cpu" else PAIR_PIXELS
        size = max(1, at_once // (padded.shape[-1] * padded.shape[-2]))
        features = torch.cat([self.model.feature_encoder(part) for part in torch.split(padded, size)])
        parts = zip(*(torch.split(t, size) for t in (features[1:], features[:-1], padded[1:])), strict=True)
        return torch.cat([self._estimate(*part) for part in parts])[..., :height, :width]

    def _estimate(self, target: Tensor, source: Tensor, image: Tensor) -> Tensor:
        """Flow of pairs given by their features and the target image, as RAFT.forward in torchvision."""
        model, update = self.model, self.model.update_block
        model.corr_block.build_pyramid(target, source)
        hidden, context = model.context_encoder(image).chunk(2, dim=1)
        hidden, context = torch.tanh(hidden), F.relu(context)
        constant = [unit.of_context(context) for unit in self.units]
        start = make_coords_grid(len(image), *target.shape[-2:]).to(image.device)
        position = start
        for _ in range(UPDATES):
            motion = update.motion_encoder(position - start, model.corr_block.index_pyramid(position))
            for unit, part in zip(self.units, constant, strict=True):
                hidden = unit(hidden, motion, part)
            position = position + update.flow_head(hidden)
        flow: Tensor = upsample_flow(position - start, up_mask=model.mask_predictor(hidden))
        return flow


class _SplitUnit:
    """A convolutional GRU whose input is (context, motion), with the convolutions over the context taken apart."""

    def __init__(self, unit: Any) -> None:
        self.size = size = unit.convz.out_channels
        self.padding = unit.convz.padding
        convolutions = (unit.convz, unit.convr, unit.convq)
        weight = torch.cat([convolution.weight for convolution in convolutions])
        self.bias = torch.cat([convolution.bias for convolution in convolutions])
        self.fixed = weight[:, size : 2 * size]
        varying = torch.cat((weight[:, :size], weight[:, 2 * size :]), dim=1)
        self.gates, self.candidate = torch.split(varying, [2 * size, size])

    def of_context(self, context: Tensor) -> tuple[Tensor, ...]:
        """What the context adds to the two gates and to the candidate, the biases included."""
        added = F.conv2d(context, self.fixed, self.bias, padding=self.padding)
        return torch.split(added, [2 * self.size, self.size], dim=1)

    def __call__(self, hidden: Tensor, motion: Tensor, constant: tuple[Tensor, ...]) -> Tensor:
        def convolve(state: Tensor, weight: Tensor, added: Tensor) -> Tensor:
            return F.conv2d(torch.cat((state, motion), dim=1), weight, padding=self.padding) + added

        update, reset = torch.sigmoid(convolve(hidden, self.gates, constant[0])).chunk(2, dim=1)
        candidate = torch.tanh(convolve(reset * hidden, self.candidate, constant[1]))
        return torch.lerp(hidden, candidate, update)


def _cheapen_norms(network: nn.Module) -> None:
    """One group a channel is the same as an instance norm, for a quarter of torch's time on a CPU."""
    for parent in list(network.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, nn.InstanceNorm2d):
                setattr(parent, name, nn.GroupNorm(norm.num_features, norm.num_features, norm.eps, affine=False))


def _goal(side: int) -> int:
    return max(RAFT_SMALLEST, -(-side // RAFT_STRIDE) * RAFT_STRIDE)
