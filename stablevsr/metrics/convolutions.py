"""Convolutions of the metrics' networks on a CPU by NNPACK, a part of torch that torch hardly uses: equal to rounding.

torch gives convolutions on a CPU to oneDNN, which multiplies directly; NNPACK uses Winograd's transform for 3x3
kernels, as nearly all of VGG16's are. LPIPS and DISTS of a 256x256 frame, one method, random weights, with one thread
as a job of the mini study has (AMD EPYC Zen 4, torch 2.14.1, best of six): 0.85 s by oneDNN, 0.46 s by NNPACK; in
channels-last order oneDNN is no faster. With two threads 0.89 against 0.63 s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

SMALLEST = 20 * 20  # pixels of a batch below which transforming the kernel takes longer than it saves
STACKED = 128 * 128  # pixels of the images put together; larger ones fall out of the processor's caches
LARGEST = 1280 * 720  # pixels of an image, for which NNPACK takes 0.8 GB of working memory with 64 channels


class WinogradConvolutions(TorchFunctionMode):
    """Inside this context, 3x3 convolutions on a CPU go to NNPACK where torch has it; all others are unchanged."""

    def __init__(self) -> None:
        super().__init__()
        # Not in torch's public interface: a release without it costs time only. The second call initialises NNPACK.
        self.available = hasattr(torch, "_nnpack_spatial_convolution") and torch._nnpack_available()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by torch in place of each of its functions."""
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
    """A batch as one tall image, with a row of zeros between its images.

    NNPACK transforms the kernel again for each image of a batch, which makes batches slower than oneDNN.
    """
    if len(images) == 1:
        return torch._nnpack_spatial_convolution(images, weight, bias, padding=1)
    count, _, height, width = images.shape
    tall = F.pad(images, (0, 0, 0, 1)).transpose(0, 1).flatten(1, 2)[None]
    filtered = torch._nnpack_spatial_convolution(tall, weight, bias, padding=1)
    return filtered[0].view(-1, count, height + 1, width)[:, :, :height].transpose(0, 1)
