"""3x3 convolutions with a quarter of the multiplications, for the CPU: Winograd's F(4x4, 3x3) (Lavin and Gray, 2016).

Every 4x4 outputs are computed from 6x6 inputs in a basis in which the convolution is a product of 36 values. The result
differs from the direct sum by rounding (about 2e-5 of the output's standard deviation, ten times the direct sum's own).
Worth it where channels are many; graphics cards choose such methods by themselves.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

OUT, KERNEL = 4, 3
TILE = OUT + KERNEL - 1
CHANNELS = 128  # input channels from which the product outweighs the changes of basis
BLOCK = 2**20  # numbers at once, in the larger of the two bases: what caches hold

#: The rows are the points 0, 1, -1, 2, -2 and infinity, at which the polynomials of the method are evaluated.
_INPUT = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_KERNEL = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_OUTPUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


class WinogradConv(nn.Module):
    """The same function as a 3x3 ``nn.Conv2d`` of stride 1 and padding 1, to rounding; (B, C, H, W) in, float32."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        basis = torch.tensor(_KERNEL, dtype=torch.float64)
        kernel = torch.einsum("ai,ocij,bj->abco", basis, convolution.weight.double(), basis).float()
        self.kernel = kernel.reshape(TILE**2, convolution.in_channels, convolution.out_channels).contiguous()
        self.to_basis, self.from_basis = (torch.kron(m, m) for m in (torch.tensor(_INPUT), torch.tensor(_OUTPUT)))
        self.to_basis, self.from_basis = self.to_basis.float(), self.from_basis.float()
        self.bias = convolution.bias

    def forward(self, images: Tensor) -> Tensor:
        """Channels-last result (B, O, H, W)."""
        count, channels, height, width = images.shape
        rows, columns = -(-height // OUT), -(-width // OUT)
        padded = images.new_zeros(count, OUT * rows + 2, OUT * columns + 2, channels)
        padded[:, 1 : height + 1, 1 : width + 1] = images.permute(0, 2, 3, 1)
        tiles = padded.unfold(1, TILE, OUT).unfold(2, TILE, OUT).permute(4, 5, 0, 1, 2, 3)
        outputs = self.kernel.shape[-1]
        result = images.new_empty(count, OUT * rows, OUT * columns, outputs)
        places = result.view(count, rows, OUT, columns, OUT, outputs).permute(2, 4, 0, 1, 3, 5)
        step = max(1, BLOCK // (TILE**2 * count * columns * max(channels, outputs)))
        for start in range(0, rows, step):
            part = tiles[:, :, :, start : start + step]
            values = (self.to_basis @ part.reshape(TILE**2, -1)).view(TILE**2, -1, channels)
            products = torch.bmm(values, self.kernel).view(TILE**2, -1)
            places[:, :, :, start : start + step] = (self.from_basis @ products).view(
                OUT, OUT, *part.shape[2:5], outputs
            )
        if self.bias is not None:
            result += self.bias
        return result[:, :height, :width].permute(0, 3, 1, 2)


def with_winograd(network: Any) -> Any:
    """A copy of ``network`` (a module) in which Winograd's method takes the place of the convolutions that it suits."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if _suits(child):
                setattr(parent, name, WinogradConv(child))
    return network


def _suits(module: Any) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and (module.kernel_size, module.stride, module.dilation) == ((3, 3), (1, 1), (1, 1))
        and (module.padding, module.padding_mode, module.groups) == ((1, 1), "zeros", 1)
        and module.in_channels >= CHANNELS
        and module.out_channels >= CHANNELS // 2
    )
