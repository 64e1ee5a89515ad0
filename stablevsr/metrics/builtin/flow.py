"""tOF, how far the optical flow of the output is from that of the ground truth, and the warping error.

Flow runs from a frame to the one before it. tOF comes with RAFT, whose range of input has two readings, and with
OpenCV's DIS, which needs no weights; the warping error follows the ground truth's DIS flow. What depends on the ground
truth alone is cached for all methods. Frames are (T, 3, H, W) in [0, 1], results a value for each of the T - 1 pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stablevsr.metrics.metric import ChunkScorer, Metric, chunk_metric

if TYPE_CHECKING:
    from torch import Tensor

    from stablevsr.method.flow import FlowEstimator, RAFTFlow
    from stablevsr.metrics.chunks import Chunk
    from stablevsr.metrics.tools import Tools


def flow_difference(gt: Tensor, sr: Tensor) -> Tensor:
    """Mean absolute difference of two flow fields (B, 2, H, W) over both components and all pixels, (B,)."""
    return (gt - sr).abs().mean((1, 2, 3))


def warping_error(frames: Tensor, flow: Tensor, visible: Tensor) -> Tensor:
    """Mean |frame t - frame t-1 warped to t| over visible pixels and channels, (T-1,); nan where nothing is visible.

    ``flow`` (T-1, 2, H, W) and ``visible`` (T-1, 1, H, W; bool) come from the ground truth, so that a method cannot
    gain by moving less.
    """
    from stablevsr.method.flow import warp

    gap = (frames[1:] - warp(frames[:-1], flow, grid="aligned")).abs().mean(1, keepdim=True)
    return (gap * visible).sum((1, 2, 3)) / visible.sum((1, 2, 3))


class Flows:
    """Flow of every frame but the first to the one before, by one estimator that is fed [-1, 1] or (``raw``) [0, 1]."""

    def __init__(self, estimator: FlowEstimator, kind: str, tools: Tools, *, raw: bool = False) -> None:
        self.estimator, self.kind, self.cache, self.raw = estimator, kind, tools.cache, raw

    def estimate(self, frames: Tensor) -> Tensor:
        """(T-1, 2, H, W) in pixels."""
        frames = self._fed(frames)
        return self.estimator(frames[1:], frames[:-1])

    def of_gt(self, chunk: Chunk) -> Tensor:
        """:meth:`estimate` of the ground truth."""
        return self.cache.pairs(self.kind, chunk.pair_keys, lambda: self.estimate(chunk.gt_tensor), chunk.device)

    def visible(self, chunk: Chunk) -> Tensor:
        """Where :meth:`of_gt` agrees with the flow the other way: bool (T-1, 1, H, W)."""
        from stablevsr.method.flow import occlusion_mask

        def compute() -> Tensor:
            frames = self._fed(chunk.gt_tensor)
            return occlusion_mask(chunk.once(self.of_gt), self.estimator(frames[:-1], frames[1:])) > 0

        return self.cache.pairs(f"{self.kind}-visible", chunk.pair_keys, compute, chunk.device)

    def difference(self, chunk: Chunk) -> list[Tensor]:
        """tOF of each method, without its factor."""
        gt = chunk.once(self.of_gt)
        return [flow_difference(gt, self.estimate(output)) for output in chunk.output_tensors]

    def _fed(self, frames: Tensor) -> Tensor:
        return frames if self.raw else 2 * frames - 1


def dis_flows(tools: Tools) -> Flows:
    """By OpenCV's DIS."""
    import cv2

    from stablevsr.method.flow import DISFlow

    return Flows(DISFlow(), f"dis-opencv{cv2.__version__}", tools)


def _raft(tools: Tools) -> RAFTFlow:
    from stablevsr.method.flow import RAFTFlow

    return RAFTFlow(tools.find("raft"), tools.device)


@chunk_metric(Metric(
    "tof", "tOF", "temporal", "lower", decimals=3, unit="pixels", scale=1e1, rewards_blur=True, margin=0.1,
    convention="10 x mean |flow SR - flow GT| over both components and all pixels, current to previous frame, "
    "RAFT-large fed frames in [0, 1] as the published script does.",
    source="StableVSR eval.py after Chu et al. 2020",
    needs=("raft",),
))  # fmt: skip
def tof(tools: Tools) -> ChunkScorer:
    return Flows(tools.once(_raft), f"{tools.cache_kind('raft', 'raft')}-tof", tools, raw=True).difference


@chunk_metric(Metric(
    "tof_raft_std", "tOF (RAFT range)", "temporal", "lower", decimals=3, unit="pixels", scale=1e1, rewards_blur=True,
    convention="As tOF, with RAFT fed [-1, 1], the range it was trained on.",
    source="torchvision's optical-flow preset, in the formula of StableVSR eval.py",
    needs=("raft",),
))  # fmt: skip
def tof_raft_std(tools: Tools) -> ChunkScorer:
    return Flows(tools.once(_raft), f"{tools.cache_kind('raft', 'raft')}-tof_raft_std", tools).difference


@chunk_metric(Metric(
    "tof_dis", "tOF (DIS)", "temporal", "lower", decimals=3, unit="pixels", scale=1e1, rewards_blur=True, margin=0.1,
    convention="As tOF, with OpenCV's DIS optical flow (medium preset, grey frames) in place of RAFT; needs no "
    "weights.",
    source="Kroeger et al., ECCV 2016, in the formula of StableVSR eval.py",
))  # fmt: skip
def tof_dis(tools: Tools) -> ChunkScorer:
    return tools.once(dis_flows).difference


@chunk_metric(Metric(
    "warp_error", "Warping error", "temporal", "lower", decimals=4, unit="grey level in [0, 1]", rewards_blur=True,
    margin=0.001,
    convention="Mean |SR t - SR t-1 warped by the ground truth's DIS flow| in [0, 1] over unoccluded pixels; rewards "
    "blur, so compare it between methods of like sharpness only.",
    source="Lai et al., ECCV 2018; occlusions after Sundaram et al., ECCV 2010",
))  # fmt: skip
def warp_error(tools: Tools) -> ChunkScorer:
    flows = tools.once(dis_flows)

    def score(chunk: Chunk) -> list[Tensor]:
        flow, visible = chunk.once(flows.of_gt), flows.visible(chunk)
        return [warping_error(output, flow, visible) for output in chunk.output_tensors]

    return score
