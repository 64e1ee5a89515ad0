"""8-bit arithmetic on a CPU: the blocks of a UNet or TCM multiply 8-bit integers instead of floating-point numbers.

Weights are rounded once, with a scale for each output channel, and activations at every call, with a scale for each
frame, so that a frame does not depend on the others of its batch. Products are summed in 32 bits and returned in
float32. Everything else stays as it is: first and last layers, the image embedding, time embeddings, normalisation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from stablevsr.runtime.errors import UserError

_LEVELS = 255  #: of an activation (uint8); weights have 127 on either side of zero


def has_int8() -> bool:
    """Whether this CPU multiplies 8-bit integers without overflow (VNNI), and torch has the operations (oneDNN)."""
    return torch.cpu._is_vnni_supported() and "onednn" in torch.backends.quantized.supported_engines


@torch.no_grad()
def to_int8(network: Any) -> None:
    """Replace convolutions and linear layers in the blocks of a float32 UNet or TCM on a CPU, in place.

    Raises :class:`UserError` where there is no 8-bit arithmetic.
    """
    if not has_int8() or network.device.type != "cpu" or network.dtype != torch.float32:
        where = f"{network.device.type} in {str(network.dtype).removeprefix('torch.')}"
        raise UserError(f"8-bit arithmetic needs a CPU with VNNI and networks in float32, not {where}: take bf16")
    for block in (*network.down_blocks, network.mid_block, *getattr(network, "up_blocks", ())):
        for module in list(block.modules()):
            for name, layer in list(module.named_children()):
                if type(layer) in _KINDS and name != "time_emb_proj":
                    setattr(module, name, _KINDS[type(layer)](layer))


class _Int8Layer(nn.Module, ABC):
    """A layer with rounded weights; its subclass packs them and multiplies."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        rows = layer.weight.flatten(1)
        self.scales = (rows.abs().amax(1) / (_LEVELS // 2)).clamp_min(torch.finfo(rows.dtype).tiny)
        self.zeros = torch.zeros(len(rows), dtype=torch.int32)
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.rounded = (rows / self.scales[:, None]).round().to(torch.int8).view_as(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output (B, ...) in float32."""
        return torch.cat([self.multiply(*_round(frame)) for frame in torch.split(x, 1)])

    @abstractmethod
    def multiply(self, x: Tensor, scale: float, zero: int) -> Tensor:
        """The output for the rounded activations ``x`` (1, ...) of ``scale``, whose zero is ``zero``."""


class _Int8Conv(_Int8Layer):
    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__(layer)
        self.shape = ([*layer.stride], [*layer.padding], [*layer.dilation], layer.groups)
        self.packed = torch.ops.onednn.qconv_prepack(self.rounded, self.scales, 1.0, 0, *self.shape)

    def multiply(self, x: Tensor, scale: float, zero: int) -> Tensor:
        made = torch.ops.onednn.qconv2d_pointwise(
            x, scale, zero, self.packed, self.scales, self.zeros, self.bias, *self.shape,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return torch.as_tensor(made)


class _Int8Linear(_Int8Layer):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer)
        self.packed = torch.ops.onednn.qlinear_prepack(self.rounded, None)

    def multiply(self, x: Tensor, scale: float, zero: int) -> Tensor:
        made = torch.ops.onednn.qlinear_pointwise(
            x, scale, zero, self.packed, self.scales, self.zeros, self.bias,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return torch.as_tensor(made)


_KINDS: dict[type[nn.Module], type[_Int8Layer]] = {nn.Conv2d: _Int8Conv, nn.Linear: _Int8Linear}


def _round(x: Tensor) -> tuple[Tensor, float, int]:
    """Activations as uint8, their scale, and the integer that represents zero."""
    low, high = (float(end) for end in x.aminmax())
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / _LEVELS, torch.finfo(x.dtype).tiny)
    zero = round(-low / scale)
    return (x / scale).add_(zero).round_().clamp_(0, _LEVELS).to(torch.uint8), scale, zero
