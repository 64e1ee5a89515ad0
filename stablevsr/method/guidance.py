"""Temporal texture guidance (paper, eq. 7): the neighbour frame's synthesised detail, brought to the current frame.

    HR~(j -> i) = MC(ME(LR(j), LR(i)), D(x̂0(j)))

The neighbour's predicted clean latent is decoded to RGB and warped along the optical flow between the two frames'
bicubic x4 enlargements. The ablations change what is decoded and when it is warped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from stablevsr.data.degradation import SCALE
from stablevsr.method.flow import FlowEstimator, warp
from stablevsr.method.settings import Guidance
from stablevsr.method.stores import Store
from stablevsr.runtime.errors import DamagedError, UserError


def enlarge(lr: Tensor) -> Tensor:
    """The frames that the flow is estimated on: (B, 3, h, w) -> (B, 3, 4h, 4w), bicubic, unclamped, as published."""
    return F.interpolate(lr, scale_factor=float(SCALE), mode="bicubic")


class Flows:
    """Optical flow between the frames of sequences, each pair estimated once while ``store`` keeps it.

    Args:
        lr: LR frames (S, 3, h, w) in [-1, 1] of all sequences, by frame number.
        estimator: the flow estimator.
        store: keeps the flow; a pair that it does not keep is estimated again.
    """

    def __init__(self, lr: Callable[[int], Tensor], estimator: FlowEstimator, store: Store) -> None:
        self._lr, self._estimator, self._store = lr, estimator, store

    @torch.no_grad()
    def between(self, target: int, source: int) -> Tensor:
        """(S, 2, 4h, 4w) in pixels of the x4 frame: brings frame ``source`` onto ``target``."""
        pair, lr = f"{source:08d}-{target:08d}", self._lr(target)
        if pair in self._store:
            try:
                return self._store[pair].to(lr.device)
            except DamagedError as error:
                print(f"{error}: estimating the flow again", file=sys.stderr)
        flow = self._estimator(enlarge(lr), enlarge(self._lr(source)))
        expected = (len(lr), 2, lr.shape[-2] * SCALE, lr.shape[-1] * SCALE)
        found = tuple(flow.shape) if isinstance(flow, Tensor) else type(flow).__name__
        if found != expected:
            raise UserError(f"the flow estimator returned {found} instead of a tensor of shape {expected}")
        self._store[pair] = flow = flow.to(lr.device, torch.float32)
        return flow


def guidance_image(latents: Tensor, flow: Tensor, decode: Callable[[Tensor], Tensor], settings: Guidance) -> Tensor:
    """The TCM's conditioning image (B, 3, 4h, 4w) from the neighbour's latents.

    Args:
        latents: (B, 4, h, w), scaled; the neighbour's x̂0 (or x_t: the caller applies ``source`` xt).
        flow: (B, 2, 4h, 4w) in pixels, from the current frame into the neighbour.
        decode: scaled latents -> raw RGB (B, 3, 4h, 4w), nominally in [-1, 1].
        settings: ``source`` none gives a blank image; ``motion_compensation`` chooses where to warp, if at all.
    """
    if settings.source == "none":
        return blank_image(latents)
    if settings.motion_compensation == "latent":
        small_flow = F.avg_pool2d(flow, SCALE) / SCALE
        return decode(warp(latents, small_flow.to(latents.dtype), settings.warp))
    image = decode(latents)
    if settings.motion_compensation == "pixel":
        return warp(image, flow.to(image.dtype), settings.warp)
    return image


def blank_image(latents: Tensor) -> Tensor:
    """Mid grey, 0 in [-1, 1], at four times the latents' size: an image without information."""
    batch, _, height, width = latents.shape
    return torch.zeros(batch, 3, height * SCALE, width * SCALE, device=latents.device, dtype=torch.float32)
