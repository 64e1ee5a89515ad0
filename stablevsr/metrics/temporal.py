"""Temporal metrics: tOF, how far the motion in the output is from that of the ground truth, and the warping error.

Flow runs from a frame to the one before it. All frames are (T, 3, H, W) in [0, 1]; results are one value for each of
the T - 1 consecutive pairs.
"""

from __future__ import annotations

from torch import Tensor

from stablevsr.method.flow import FlowEstimator, occlusion_mask, warp


def flow_difference(gt: Tensor, sr: Tensor) -> Tensor:
    """Mean absolute difference of two flow fields (B, 2, H, W) over both components and all pixels, (B,)."""
    return (gt - sr).abs().mean((1, 2, 3))


def warping_error(frames: Tensor, flow: Tensor, visible: Tensor) -> Tensor:
    """Mean |frame t - frame t-1 warped to t| over visible pixels and channels, (T-1,); nan where nothing is visible.

    ``flow`` (T-1, 2, H, W) and ``visible`` (T-1, 1, H, W; bool) come from the ground truth, so that a method cannot
    gain by moving less.
    """
    gap = (frames[1:] - warp(frames[:-1], flow, grid="aligned")).abs().mean(1, keepdim=True)
    return (gap * visible).sum((1, 2, 3)) / visible.sum((1, 2, 3))


def backward_flow(estimator: FlowEstimator, frames: Tensor) -> Tensor:
    """Flow of every frame but the first to the frame before it; the estimator is fed the frames' own range."""
    return estimator(frames[1:], frames[:-1])


def visible_pixels(estimator: FlowEstimator, frames: Tensor, flow: Tensor) -> Tensor:
    """Where ``flow`` (as of :func:`backward_flow`) agrees with the flow the other way: bool (T-1, 1, H, W)."""
    return occlusion_mask(flow, estimator(frames[:-1], frames[1:])) > 0
