"""Convolutions of the metrics' networks on a CPU by NNPACK, which torch holds but hardly uses: the same to rounding.

torch gives convolutions on a CPU to oneDNN, which multiplies directly. NNPACK's Winograd transform takes a third to a
half of that time for 3x3 kernels, as nearly all of VGG16's and most of RAFT's are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

SMALLEST = 20 * 20  # pixels of all images; below, transforming the kernel takes longer than it saves
STACKED = 128 * 128  # pixels of images given to NNPACK as one; more fall out of the caches
LARGEST = 1280 * 720  # pixels of one image; NNPACK's working memory, which torch keeps, is 0.8 GB then for 64 channels


class WinogradConvolutions(TorchFunctionMode):
    """While this context is entered, 3x3 convolutions on a CPU that has NNPACK go there; all else is as it was."""

    def __init__(self) -> None:
        super().__init__()
        # Not part of torch's public interface: a release without it costs time only. The question initialises NNPACK.
        self.available = hasattr(torch, "_nnpack_spatial_convolution") and torch._nnpack_available()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What torch calls in place of each of its functions."""
        if func is F.conv2d and self.available:
            return _convolve(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _convolve(input: Tensor, weight: Tensor, bias: Tensor | None = None, *options: Any, **named: Any) -> Tensor:
    """``F.conv2d``; ``options`` are the stride, padding, dilation and groups as ``nn.Conv2d`` gives them."""
    suits = (
        input.device.type == "cpu"
        and input.dtype == torch.float32
        and input.ndim == 4
        and weight.shape[2:] == (3, 3)
        and options == ((1, 1), (1, 1), (1, 1), 1)
        and input[:, 0].numel() >= SMALLEST
        and input[0, 0].numel() <= LARGEST
    )
    if not suits:
        return F.conv2d(input, weight, bias, *options, **named)
    group = max(1, STACKED // input[0, 0].numel())
    parts = [_winograd(part, weight, bias) for part in torch.split(input, group)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _winograd(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """All images as one, a row of zeros between them: NNPACK transforms the kernel for every image it is given.

    Its own way with a batch is slower than oneDNN.
    """
    if len(images) == 1:
        return torch._nnpack_spatial_convolution(images, weight, bias, padding=1)
    count, _, height, width = images.shape
    tall = F.pad(images, (0, 0, 0, 1)).transpose(0, 1).flatten(1, 2)[None]
    filtered = torch._nnpack_spatial_convolution(tall, weight, bias, padding=1)
    return filtered[0].view(-1, count, height + 1, width)[:, :, :height].transpose(0, 1)
