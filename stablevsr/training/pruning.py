"""Structured pruning: a UNet or TCM with fewer channels inside its ResNet blocks and feed-forward layers.

Only the inner width of a block changes, so skip connections, attention and the TCM's residuals keep their shapes. What
is removed is what contributes least by the magnitude of its weights: in a ResNet block whole groups of the inner group
normalisation, so that those that stay are normalised as before; in a feed-forward layer single channels.

diffusers' configurations cannot express inner widths. A pruned network is saved as any other (``save_pretrained``), and
:func:`load_pruned` finds the widths in the shapes of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from stablevsr.method.loading import NETWORKS
from stablevsr.method.model_folder import check_weights
from stablevsr.runtime.errors import UserError


class _ResNetWidth:
    """The width between the two convolutions of a ResNet block, in groups of the normalisation between them."""

    def __init__(self, block: Any) -> None:
        self.block, self.units = block, block.norm2.num_groups

    def strength(self) -> Tensor:
        """By group, the norm of the second convolution's weights times the root mean square of what they see.

        The weights of the first convolution do not count: the normalisation undoes their scale.
        """
        norm, conv = self.block.norm2, self.block.conv2
        seen = norm.weight.square() + norm.bias.square()  # what is normalised has mean 0 and variance 1
        return (seen * conv.weight.square().sum((0, 2, 3))).view(self.units, -1).sum(1).sqrt()

    def keep(self, groups: Tensor) -> None:
        """Keep some of the groups."""
        channels = _members(groups, self.block.norm2.num_channels // self.units)
        for layer in (self.block.conv1, self.block.time_emb_proj, self.block.norm2):
            _take(layer, 0, channels)
        _take(self.block.conv2, 1, channels)
        self.block.norm2.num_groups = len(groups)

    def units_in(self, weights: dict[str, Tensor]) -> float:
        """The number of groups in the block's saved ``weights``."""
        return len(weights["conv1.weight"]) * self.units / self.block.norm2.num_channels


class _FeedForwardWidth:
    """The hidden width of a gated feed-forward layer (GEGLU), in channels."""

    def __init__(self, layer: Any) -> None:
        self.gated, self.output = layer.net[0].proj, layer.net[2]
        self.units = self.output.in_features

    def strength(self) -> Tensor:
        """By channel, the norm of the weights that read it times that of those that make it; the gate is left out."""
        made = self.gated.weight[: self.units].square().sum(1)
        return (made * self.output.weight.square().sum(0)).sqrt()

    def keep(self, channels: Tensor) -> None:
        """Keep some of the channels, each with its gate."""
        _take(self.gated, 0, torch.cat([channels, channels + self.units]))
        _take(self.output, 1, channels)

    def units_in(self, weights: dict[str, Tensor]) -> float:
        """The number of channels in the layer's saved ``weights``."""
        return weights["net.2.weight"].shape[1]


_WIDTHS: dict[type[nn.Module], Any] = {ResnetBlock2D: _ResNetWidth, FeedForward: _FeedForwardWidth}


@torch.no_grad()
def prune(network: nn.Module, share: float) -> None:
    """Remove a ``share`` of every inner width of a UNet or TCM, in place: the weakest groups and channels.

    Shares are rounded to whole groups (full size: of 32, tiny: of 8). Raises :class:`UserError` if nothing would be
    left of a block.
    """
    for name, width in _widths(network):
        left = width.units - round(share * width.units)
        if not 0 < left <= width.units:
            raise UserError(f"a share of {share:g} cannot be pruned: of the {width.units} parts of {name} {left} stay")
        width.keep(width.strength().topk(left).indices.sort().values)


def load_pruned(part: str, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The frozen network that :func:`prune` made smaller, from a folder of ``save_pretrained``, on the CPU.

    Args:
        part: ``unet`` or ``controlnet``.
        folder: with ``config.json`` and weights.
        dtype: of the network.

    Raises:
        UserError: the folder is missing or damaged, or holds weights that pruning does not make.
    """
    check_weights(folder)
    kind = NETWORKS[part]
    try:
        config = kind.load_config(folder, local_files_only=True)
        weights = load_file(folder / SAFETENSORS_WEIGHTS_NAME)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder} cannot be loaded as {kind.__name__}: {str(error).splitlines()[0]}") from error
    if config["_class_name"] != kind.__name__:
        raise UserError(f"{folder} holds another network, {config['_class_name']}: {kind.__name__} is wanted there")
    with torch.device("meta"):
        network = kind.from_config(config)
    for name, width in _widths(network):
        left = width.units_in(_below(weights, name))
        if left not in range(1, width.units + 1):
            raise UserError(f"{folder} has {left:g} of {width.units} parts in {name}: pruning leaves a whole number")
        width.keep(torch.arange(int(left)))
    _check_shapes(network.state_dict(), weights, folder)
    network.load_state_dict(weights, assign=True)
    nn.Module.to(network, dtype)  # diffusers' would warn about layers to keep in float32, which these have not
    return network.eval().requires_grad_(False)


def _widths(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """The inner widths of a network, with the names of their blocks."""
    for name, module in network.named_modules():
        if type(module) in _WIDTHS:
            yield name, _WIDTHS[type(module)](module)


def _members(groups: Tensor, size: int) -> Tensor:
    """The channels of ``groups`` of ``size`` channels."""
    return (groups[:, None] * size + torch.arange(size, device=groups.device)).flatten()


def _take(layer: Any, axis: int, indices: Tensor) -> None:
    """Keep some outputs (``axis`` 0) or inputs (1) of a convolution, linear layer or normalisation."""
    for name in ("weight", "bias") if axis == 0 else ("weight",):
        old = getattr(layer, name)
        kept = old.data.index_select(axis, indices.to(old.device))
        setattr(layer, name, nn.Parameter(kept, requires_grad=old.requires_grad))
    for name in ("out_channels", "out_features", "num_channels") if axis == 0 else ("in_channels", "in_features"):
        if hasattr(layer, name):
            setattr(layer, name, len(indices))


def _below(weights: dict[str, Tensor], module: str) -> dict[str, Tensor]:
    """The weights of a module, by their names in it."""
    return {name.removeprefix(f"{module}."): w for name, w in weights.items() if name.startswith(f"{module}.")}


def _check_shapes(wanted: dict[str, Tensor], found: dict[str, Tensor], folder: Path) -> None:
    """Raise :class:`UserError` that names the first weight that is missing, too many, or of another shape."""
    for name in sorted(wanted.keys() | found.keys()):
        here, there = (tuple(weights[name].shape) if name in weights else None for weights in (found, wanted))
        if here != there:
            raise UserError(f"{folder} holds weights that pruning does not make: {name} is {here} instead of {there}")
