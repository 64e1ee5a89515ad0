"""Motion estimation and compensation: ME and MC of the paper's equation 7.

A *flow estimator* is any callable ``(target, source) -> flow``: two images (B, 3, H, W), nominally in [-1, 1] but not
clamped (they are bicubic enlargements), to a flow (B, 2, H, W) in pixels, x first, such that ``source`` sampled at
``position + flow`` looks like ``target``. This module
has RAFT-large (the paper's, its weights are downloaded) and OpenCV's DIS (no weights, fast on a CPU).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from stablevsr.method.settings import Flow, Grid, RaftNorm
from stablevsr.runtime.errors import UserError

FlowEstimator = Callable[[Tensor, Tensor], Tensor]

RAFT_STRIDE = 8  # RAFT works on features at 1/8 size ...
RAFT_SMALLEST = 128  # ... and its four-level correlation pyramid needs 16 of them a side
RAFT_TILE = (720, 1280)  # the correlation volume is 0.8 GB at this size and grows with the square of the area
RAFT_OVERLAP = 64
DIS_SMALLEST = 32  # pixels a side; OpenCV refuses smaller frames


def warp(
    image: Tensor, flow: Tensor, grid: Grid = "published", padding: Literal["zeros", "border"] = "zeros"
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
    sides = (torch.arange(side, device=flow.device, dtype=flow.dtype) for side in (height, width))
    y, x = torch.meshgrid(*sides, indexing="ij")
    x, y = 2.0 * (x + flow[:, 0]) / max(width - 1, 1) - 1.0, 2.0 * (y + flow[:, 1]) / max(height - 1, 1) - 1.0
    points = torch.stack((x, y), dim=-1).to(image.dtype)
    return F.grid_sample(image, points, mode="bilinear", padding_mode=padding, align_corners=grid == "aligned")


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
    """Dense Inverse Search optical flow by OpenCV (Kroeger et al., ECCV 2016), on grey 8-bit frames; no weights."""

    def __init__(self) -> None:
        import cv2

        self._engine = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]

    def __call__(self, target: Tensor, source: Tensor) -> Tensor:
        """Flow (B, 2, H, W) in pixels, on ``target``'s device; images (B, 3, H, W) in [-1, 1]."""
        height, width = target.shape[-2:]
        pairs = zip(target, source, strict=True)
        flows = [torch.from_numpy(self._engine.calc(_grey(t), _grey(s), None)).permute(2, 0, 1) for t, s in pairs]
        return torch.stack(flows)[..., :height, :width].to(target.device, torch.float32)


def _grey(image: Tensor) -> Any:
    """An image (3, H, W) in [-1, 1] as grey levels (H, W), mirrored up to the size that DIS needs."""
    import cv2

    levels = ((image.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    grey = cv2.cvtColor(levels.permute(1, 2, 0).contiguous().numpy(), cv2.COLOR_RGB2GRAY)
    below, right = (max(0, DIS_SMALLEST - side) for side in grey.shape)
    return cv2.copyMakeBorder(grey, 0, below, 0, right, cv2.BORDER_REFLECT)


class RAFTFlow:
    """RAFT-large by torchvision (Teed and Deng, ECCV 2020; weights C_T_SKHT_V2), the paper's flow estimator.

    Frames are padded to multiples of 8 by their edge pixels. Larger frames than :data:`RAFT_TILE` are estimated in
    tiles with a blended overlap, so that memory does not grow with the square of the frame's area. The last of RAFT's
    12 updates is the result.

    The released scripts leave RAFT in training mode. Nothing but the batch normalisation of its context encoder, which
    sees the target frame alone, depends on that (the feature encoder has instance normalisation, and there is no
    dropout): it normalises by the statistics of the current batch, and the running statistics that it also updates are
    never used. Pairs are estimated one at a time, as in the released test.py and eval.py, so a flow does not depend on
    the other pairs of a call. Pixels of padding count in the statistics, and each tile has its own.
    """

    def __init__(self, weights: Path | None, device: torch.device | str = "cpu", norm: RaftNorm = "published") -> None:
        """Load the network.

        Args:
            weights: a local ``.pth``; None leaves the network random (benchmarks and tests only).
            device: where it runs.
            norm: ``published`` normalises by the statistics of the current frame, ``inference`` by the trained ones.
        """
        from torchvision.models.optical_flow import raft_large

        model = raft_large(weights=None)
        if weights is not None:
            model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        if norm == "published":
            torch.func.replace_all_batch_norm_modules_(model)  # without running statistics, the batch's are used
        self.model = model.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def __call__(self, target: Tensor, source: Tensor) -> Tensor:
        """Flow (B, 2, H, W) in pixels; images (B, 3, H, W), in [-1, 1] as published (the range is not checked)."""
        height, width = target.shape[-2:]
        total = torch.zeros(len(target), 2, height, width, device=target.device)
        weight = torch.zeros(height, width, device=target.device)
        tiles = product(_tiles(height, RAFT_TILE[0]), _tiles(width, RAFT_TILE[1]))
        for (rows, row_weights), (columns, column_weights) in tiles:
            part = self._estimate(target[..., rows, columns], source[..., rows, columns])
            share = (row_weights[:, None] * column_weights).to(part.device)
            total[..., rows, columns] += part * share
            weight[rows, columns] += share
        return total / weight

    def _estimate(self, target: Tensor, source: Tensor) -> Tensor:
        height, width = target.shape[-2:]
        goal = [max(RAFT_SMALLEST, -(-side // RAFT_STRIDE) * RAFT_STRIDE) for side in (height, width)]
        pad = (0, goal[1] - width, 0, goal[0] - height)
        target, source = (F.pad(images.float(), pad, mode="replicate").contiguous() for images in (target, source))
        # one pair at a time: the correlation volume is large
        flows = [self.model(t, s)[-1] for t, s in zip(torch.split(target, 1), torch.split(source, 1), strict=True)]
        return torch.cat(flows)[..., :height, :width]


def flow_by_name(name: str, device: torch.device | str, raft_norm: RaftNorm = "published") -> FlowEstimator:
    """``raft``, whose weights (21 MB) are downloaded if they are missing, or ``dis``.

    Raises :class:`UserError` for any other name, and if the weights can neither be found nor downloaded.
    """
    if name not in get_args(Flow):
        raise UserError(f"there is no flow estimator {name!r}: known are {', '.join(get_args(Flow))}")
    if name == "dis":
        return DISFlow()
    from stablevsr.data.downloads.fetch import fetched_weights

    return RAFTFlow(fetched_weights("raft"), device, raft_norm)


def _tiles(size: int, limit: int) -> list[tuple[slice, Tensor]]:
    """Overlapping tiles of at most ``limit`` that cover ``size`` pixels of one axis, each with its blending weights."""
    count = max(1, -(-(size - RAFT_OVERLAP) // (limit - RAFT_OVERLAP)))
    tiles = []
    for start in torch.linspace(0, max(0, size - limit), count).round().int().tolist():
        stop = min(start + limit, size)
        rise = ((torch.arange(stop - start) + 0.5) / RAFT_OVERLAP).clamp(max=1)
        weights = torch.ones(stop - start)
        if start > 0:
            weights = weights * rise
        if stop < size:
            weights = weights * rise.flip(0)
        tiles.append((slice(start, stop), weights))
    return tiles
