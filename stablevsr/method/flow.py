"""Motion estimation and compensation: ME and MC of the paper's equation 7.

A *flow estimator* is any callable ``(target, source) -> flow``: images (B, 3, H, W) in [-1, 1] twice, flow (B, 2, H, W)
in pixels (x first), such that ``source`` sampled at ``position + flow`` looks like ``target``. Two are here: RAFT-large
(the paper's; its weights are fetched) and OpenCV's DIS (no weights, fast on a CPU, what the mini study uses).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

FlowEstimator = Callable[[Tensor, Tensor], Tensor]
WarpGrid = Literal["published", "aligned"]

RAFT_STRIDE = 8  # RAFT works on features at 1/8 size ...
RAFT_SMALLEST = 128  # ... and its four-level correlation pyramid needs 16 of them a side
RAFT_TILE = (720, 1280)  # a tile's correlation volume grows with the square of its area: 0.8 GB at this size
RAFT_OVERLAP = 64


def warp(
    image: Tensor, flow: Tensor, grid: WarpGrid = "published", padding: Literal["zeros", "border"] = "zeros"
) -> Tensor:
    """Motion-compensate ``image`` by backward warping: out(p) = image(p + flow(p)), bilinear.

    Args:
        image: (B, C, H, W), any range.
        flow: (B, 2, H, W) in pixels, x first.
        grid: ``published`` repeats the released code, which normalises by W-1 but samples with
            ``align_corners=False`` and so reads column x at x*W/(W-1) - 0.5: half a pixel off at the borders, which
            are darkened. The released weights were trained with it. ``aligned`` is the identity at zero flow.
        padding: what lies outside the image: zeros, or its border's pixels.
    """
    height, width = flow.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=flow.device, dtype=flow.dtype),
        torch.arange(width, device=flow.device, dtype=flow.dtype),
        indexing="ij",
    )
    points = torch.stack(
        (
            2.0 * (x + flow[:, 0]) / max(width - 1, 1) - 1.0,
            2.0 * (y + flow[:, 1]) / max(height - 1, 1) - 1.0,
        ),
        dim=-1,
    )
    return F.grid_sample(
        image, points.to(image.dtype), mode="bilinear", padding_mode=padding, align_corners=grid == "aligned"
    )


def scale_flow(flow: Tensor, factor: float) -> Tensor:
    """Resize a flow field by ``factor`` (area-averaged when shrinking); the vectors shrink with it."""
    size = [round(flow.shape[-2] * factor), round(flow.shape[-1] * factor)]
    mode = "area" if factor < 1 else "bilinear"
    return F.interpolate(flow, size=size, mode=mode) * factor


def occlusion_mask(forward: Tensor, backward: Tensor) -> Tensor:
    """1 where the flow can be trusted, 0 where it leaves the frame or the two directions disagree.

    ``forward`` maps target positions into the source, ``backward`` source positions into the target, both
    (B, 2, H, W). Criterion of Sundaram, Brox and Keutzer (ECCV 2010): |f + b(f)|^2 < 0.01 (|f|^2 + |b(f)|^2) + 0.5.
    Returns (B, 1, H, W).
    """
    returned = warp(backward, forward, grid="aligned")
    inside = warp(torch.ones_like(forward[:, :1]), forward, grid="aligned") > 0.999
    gap = (forward + returned).square().sum(1, keepdim=True)
    size = forward.square().sum(1, keepdim=True) + returned.square().sum(1, keepdim=True)
    return ((gap < 0.01 * size + 0.5) & inside).to(forward.dtype)


class DISFlow:
    """Dense Inverse Search optical flow by OpenCV (Kroeger et al., ECCV 2016), on grey 8-bit frames, no weights.

    Frames smaller than 32 pixels a side are refused by OpenCV's pyramid; they are mirrored up to that size.
    """

    name = "dis"
    smallest = 32

    def __init__(self) -> None:
        import cv2

        self._cv2: Any = cv2
        self._engine = self._cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, target: Tensor, source: Tensor) -> Tensor:
        """Flow (B, 2, H, W) in pixels, on ``target``'s device; images (B, 3, H, W) in [-1, 1]."""
        height, width = target.shape[-2:]
        pad = (0, max(0, self.smallest - width), 0, max(0, self.smallest - height))
        flows = [
            torch.from_numpy(self._engine.calc(self._grey(t, pad), self._grey(s, pad), None)).permute(2, 0, 1)
            for t, s in zip(target, source, strict=True)
        ]
        return torch.stack(flows)[..., :height, :width].to(target.device, torch.float32)

    def _grey(self, image: Tensor, pad: tuple[int, int, int, int]) -> Any:
        levels = ((image.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        grey = self._cv2.cvtColor(levels.permute(1, 2, 0).contiguous().numpy(), self._cv2.COLOR_RGB2GRAY)
        return self._cv2.copyMakeBorder(grey, pad[2], pad[3], pad[0], pad[1], self._cv2.BORDER_REFLECT)


class RAFTFlow:
    """RAFT-large by torchvision (Teed and Deng, ECCV 2020; weights C_T_SKHT_V2), the paper's flow estimator.

    Frames are padded to multiples of 8 by their edge pixels; frames larger than a tile are estimated tile by tile
    with a blended overlap, so that memory does not grow with the frame. The last of RAFT's 12 updates is the result.
    """

    name = "raft"

    def __init__(self, weights: Path | None, device: torch.device | str = "cpu", pairs: int = 1) -> None:
        """Load the network from a local ``.pth``; ``weights=None`` leaves it random (benchmarks and tests only)."""
        from torchvision.models.optical_flow import raft_large

        model = raft_large(weights=None)
        if weights is not None:
            model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.model = model.eval().requires_grad_(False).to(device)
        self.pairs = pairs

    @torch.no_grad()
    def __call__(self, target: Tensor, source: Tensor) -> Tensor:
        """Flow (B, 2, H, W) in pixels; images (B, 3, H, W), the range the caller means RAFT to see ([-1, 1])."""
        height, width = target.shape[-2:]
        total = torch.zeros(target.shape[0], 2, height, width, device=target.device)
        weight = torch.zeros(1, 1, height, width, device=target.device)
        for rows, columns, ramp in _tiles(height, width, RAFT_TILE, RAFT_OVERLAP, target.device):
            part = self._estimate(target[..., rows, columns], source[..., rows, columns])
            total[..., rows, columns] += part * ramp
            weight[..., rows, columns] += ramp
        return total / weight

    def _estimate(self, target: Tensor, source: Tensor) -> Tensor:
        height, width = target.shape[-2:]
        goal = [max(RAFT_SMALLEST, -(-side // RAFT_STRIDE) * RAFT_STRIDE) for side in (height, width)]
        pad = (0, goal[1] - width, 0, goal[0] - height)
        flows = []
        for t, s in zip(torch.split(target, self.pairs), torch.split(source, self.pairs), strict=True):
            t, s = (F.pad(image.float(), pad, mode="replicate") for image in (t, s))
            flows.append(self.model(t.contiguous(), s.contiguous())[-1][..., :height, :width])
        return torch.cat(flows)


def _tiles(
    height: int, width: int, tile: tuple[int, int], overlap: int, device: torch.device
) -> list[tuple[slice, slice, Tensor]]:
    """Cover (height, width) with tiles; each comes with a weight ramp (1, 1, h, w) that falls off over the overlap."""
    rows, columns = (_spans(size, limit, overlap) for size, limit in zip((height, width), tile, strict=True))
    return [
        (
            slice(*r),
            slice(*c),
            (_ramp(r, height, overlap)[:, None] * _ramp(c, width, overlap)[None, :])[None, None].to(device),
        )
        for r in rows
        for c in columns
    ]


def _spans(size: int, limit: int, overlap: int) -> list[tuple[int, int]]:
    if size <= limit:
        return [(0, size)]
    count = -(-(size - overlap) // (limit - overlap))
    starts = [round(i * (size - limit) / (count - 1)) for i in range(count)]
    return [(start, start + limit) for start in starts]


def _ramp(span: tuple[int, int], size: int, overlap: int) -> Tensor:
    start, stop = span
    ramp = torch.ones(stop - start)
    rise = (torch.arange(overlap) + 0.5) / overlap
    if start > 0:
        ramp[:overlap] = rise
    if stop < size:
        ramp[-overlap:] = rise.flip(0)
    return ramp
