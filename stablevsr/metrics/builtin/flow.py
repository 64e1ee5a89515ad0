"""tOF, the difference between the optical flows of output and ground truth, and the warping error.

Flow is from a frame to the one before it: by RAFT, as the published script uses it or as it was trained, or by OpenCV's
DIS, which needs no weights. Frames are (T, 3, H, W) in [0, 1]; each of the T - 1 pairs has a value. Flow of the ground
truth is cached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stablevsr.metrics.metric import ChunkScorer, Metric, chunk_metric

if TYPE_CHECKING:
    from torch import Tensor

    from stablevsr.method.flow import FlowEstimator, RAFTFlow
    from stablevsr.metrics.chunks import Chunk
    from stablevsr.metrics.tools import Tools


def warping_error(frames: Tensor, flow: Tensor, visible: Tensor) -> Tensor:
    """Mean |frame t - frame t-1 warped to t| over visible pixels and channels, (T-1,); nan where nothing is visible.

    ``flow`` (T-1, 2, H, W) and ``visible`` (T-1, 1, H, W; bool) come from the ground truth, so that a method cannot
    gain by moving less.
    """
    from stablevsr.method.flow import warp

    gap = (frames[1:] - warp(frames[:-1], flow, grid="aligned")).abs().mean(1, keepdim=True)
    return (gap * visible).sum((1, 2, 3)) / visible.sum((1, 2, 3))


class ChunkFlows:
    """Flow from every frame but the first to the one before; the estimator gets [-1, 1] or (``raw``) [0, 1].

    ``kind`` is the name of the results in the cache of ``tools``.
    """

    def __init__(self, estimator: FlowEstimator, kind: str, tools: Tools, *, raw: bool = False) -> None:
        self.estimator, self.kind, self.tools, self.raw = estimator, kind, tools, raw

    def estimate(self, frames: Tensor, *, backward: bool = True) -> Tensor:
        """(T-1, 2, H, W) in pixels; not ``backward``: from each frame but the last to the one after."""
        frames = frames if self.raw else 2 * frames - 1
        before, after = frames[:-1], frames[1:]
        return self.estimator(after, before) if backward else self.estimator(before, after)

    def of_gt(self, chunk: Chunk) -> Tensor:
        """:meth:`estimate` of the ground truth."""
        return self.tools.cached(self.kind, chunk.pair_keys, lambda: self.estimate(chunk.gt_tensor))

    def visible(self, chunk: Chunk) -> Tensor:
        """Where :meth:`of_gt` agrees with the flow in the other direction: bool (T-1, 1, H, W)."""
        from stablevsr.method.flow import occlusion_mask

        def compute() -> Tensor:
            return occlusion_mask(chunk.once(self.of_gt), self.estimate(chunk.gt_tensor, backward=False)) > 0

        return self.tools.cached(f"{self.kind}-visible", chunk.pair_keys, compute)

    def difference(self, chunk: Chunk) -> list[Tensor]:
        """tOF of each method, without its factor: mean |difference| over both components and all pixels, (T-1,)."""
        gt = chunk.once(self.of_gt)
        return [(gt - self.estimate(output)).abs().mean((1, 2, 3)) for output in chunk.output_tensors]


def dis_flows(tools: Tools) -> ChunkFlows:
    """Flows by OpenCV's DIS."""
    import cv2

    from stablevsr.method.flow import DISFlow

    return ChunkFlows(DISFlow(), f"dis-opencv{cv2.__version__}", tools)


def _raft_as_released(tools: Tools) -> RAFTFlow:
    from stablevsr.method.flow import RAFTFlow

    return RAFTFlow(tools.find("raft"), tools.device, "published")


def _raft_in_inference(tools: Tools) -> RAFTFlow:
    from stablevsr.method.flow import RAFTFlow

    return RAFTFlow(tools.find("raft"), tools.device, "inference")


@chunk_metric(Metric(
    "tof", "tOF", "temporal", "lower", decimals=3, unit="pixels", scale=1e1, rewards_blur=True, margin=0.1,
    convention="10 x mean |flow SR - flow GT| over both components and all pixels, current to previous frame, "
    "RAFT-large as the published script uses it: frames in [0, 1], batch normalisation by the current frame.",
    source="StableVSR eval.py after Chu et al. 2020",
    needs=("raft",),
))  # fmt: skip
def tof(tools: Tools) -> ChunkScorer:
    kind = f"{tools.cache_kind('raft', 'raft')}-tof-published_norm"
    return ChunkFlows(tools.once(_raft_as_released), kind, tools, raw=True).difference


@chunk_metric(Metric(
    "tof_raft_std", "tOF (RAFT as trained)", "temporal", "lower", decimals=3, unit="pixels", scale=1e1,
    rewards_blur=True,
    convention="As tOF, with RAFT as it was trained: frames in [-1, 1], batch normalisation by the trained statistics.",
    source="torchvision's optical-flow preset, in the formula of StableVSR eval.py",
    needs=("raft",),
))  # fmt: skip
def tof_raft_std(tools: Tools) -> ChunkScorer:
    kind = f"{tools.cache_kind('raft', 'raft')}-tof_raft_std"
    return ChunkFlows(tools.once(_raft_in_inference), kind, tools).difference


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
    convention="Mean |SR t - SR t-1 warped by the ground truth's DIS flow| in [0, 1] over unoccluded pixels; not 0 "
    "for the ground truth itself; rewards blur, so compare it between methods of like sharpness only.",
    source="Lai et al., ECCV 2018; occlusions after Sundaram et al., ECCV 2010",
))  # fmt: skip
def warp_error(tools: Tools) -> ChunkScorer:
    flows = tools.once(dis_flows)

    def score(chunk: Chunk) -> list[Tensor]:
        flow, visible = chunk.once(flows.of_gt), flows.visible(chunk)
        return [warping_error(output, flow, visible) for output in chunk.output_tensors]

    return score
