"""Temporal texture guidance (paper, eq. 7): the neighbour frame's synthesised detail, brought to the current frame.

    HR~(j -> i) = MC(ME(LR(j), LR(i)), D(x̂0(j)))

The neighbour's predicted clean latent is decoded to RGB and warped along the optical flow between the two frames'
bicubic x4 enlargements. The ablations change what is decoded and when it is warped.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from stablevsr.data.degradation import SCALE
from stablevsr.method.flow import FlowEstimator, scale_flow, warp
from stablevsr.method.settings import Guidance


def enlarge(lr: Tensor) -> Tensor:
    """The frames that the flow is estimated on: (B, 3, h, w) -> (B, 3, 4h, 4w), bicubic, unclamped, as published."""
    return F.interpolate(lr, scale_factor=float(SCALE), mode="bicubic")


class Flows:
    """Optical flow between neighbouring frames of a batch of sequences, each pair estimated once and kept.

    ``lr`` is (S, N, 3, h, w) in [-1, 1]; :meth:`between` gives the flow that brings frame ``source`` onto ``target``.
    """

    def __init__(self, lr: Tensor, estimator: FlowEstimator) -> None:
        self._lr, self._estimator = lr, estimator
        self._known: dict[tuple[int, int], Tensor] = {}

    def between(self, target: int, source: int) -> Tensor:
        """(S, 2, 4h, 4w) in pixels of the x4 frame."""
        key = (target, source)
        if key not in self._known:
            with torch.no_grad():
                flow = self._estimator(enlarge(self._lr[:, target]), enlarge(self._lr[:, source]))
            expected = (len(self._lr), 2, self._lr.shape[-2] * SCALE, self._lr.shape[-1] * SCALE)
            if tuple(flow.shape) != expected:
                raise ValueError(f"the flow estimator returned {tuple(flow.shape)} instead of {expected}")
            self._known[key] = flow.to(self._lr.device, torch.float32)
        return self._known[key]


def guidance_image(latents: Tensor, flow: Tensor, decode: Callable[[Tensor], Tensor], settings: Guidance) -> Tensor:
    """The TCM's conditioning image (B, 3, 4h, 4w) from the neighbour's latents.

    Args:
        latents: (B, 4, h, w), scaled; the neighbour's x̂0 (or x_t, which is the caller's choice).
        flow: (B, 2, 4h, 4w) in pixels, from the current frame into the neighbour.
        decode: scaled latents -> raw RGB (B, 3, 4h, 4w), nominally in [-1, 1].
        settings: ``source`` none gives a blank image, ``motion_compensation`` says whether and where to warp.
    """
    if settings.source == "none":
        return blank_image(latents)
    if settings.motion_compensation == "latent":
        return decode(warp(latents, scale_flow(flow, 1 / SCALE).to(latents.dtype), settings.warp))
    image = decode(latents)
    if settings.motion_compensation == "pixel":
        return warp(image, flow.to(image.dtype), settings.warp)
    return image


def blank_image(latents: Tensor) -> Tensor:
    """The image that carries no information: 0 in [-1, 1], mid grey, at four times the latents' size."""
    batch, _, height, width = latents.shape
    return torch.zeros(batch, 3, height * SCALE, width * SCALE, device=latents.device, dtype=torch.float32)
