"""LPIPS (Zhang et al., CVPR 2018) and tLP, its change from frame to frame (Chu et al. 2020).

The network is the lpips package's; its distance is taken apart from its features, so that a frame passes AlexNet once
for both metrics. The changes of the ground truth are cached for all methods.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stablevsr.metrics.metric import ChunkScorer, Metric, chunk_metric

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stablevsr.metrics.chunks import Chunk
    from stablevsr.metrics.tools import Tools


class LPIPSDistance:
    """LPIPS with AlexNet and the version 0.1 linear weights, features and distance apart; images in [0, 1]."""

    def __init__(self, alexnet: Path, device: torch.device | str = "cpu") -> None:
        import lpips

        from stablevsr.metrics.backbones import replaced_backbone

        with replaced_backbone(lpips.pretrained_networks, "tv", "alexnet", alexnet):
            self.model: Any = lpips.LPIPS(net="alex", verbose=False).eval().requires_grad_(False).to(device)

    def features(self, images: Tensor) -> list[Tensor]:
        """Five levels of features of (B, 3, H, W), each position scaled to unit length."""
        levels = self.model.net.forward(self.model.scaling_layer(2 * images - 1))
        return [level / (level.square().sum(1, keepdim=True).sqrt() + 1e-10) for level in levels]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """LPIPS of each of the B image pairs, (B,)."""
        squares = [(one - other).square().mean((2, 3), keepdim=True) for one, other in zip(a, b, strict=True)]
        levels = [linear(square).flatten() for linear, square in zip(self.model.lins, squares, strict=True)]
        return sum(levels[1:], start=levels[0])

    def changes(self, features: list[Tensor]) -> Tensor:
        """LPIPS of each image but the first to the one before it, (B - 1,)."""
        return self.distance([level[1:] for level in features], [level[:-1] for level in features])


class _Scores:
    """Both metrics of a chunk, as far as the run wants them."""

    def __init__(self, tools: Tools) -> None:
        self.chosen, self.cache = tools.chosen, tools.cache
        self.network = LPIPSDistance(tools.find("alexnet"), tools.device)
        self.kind = tools.cache_kind("lpips", "alexnet")

    def of_chunk(self, chunk: Chunk) -> dict[str, list[Tensor]]:
        network, pairs = self.network, "tlp" in self.chosen and len(chunk.gt) > 1
        known = self.cache.peek(self.kind, chunk.pair_keys, chunk.device) if pairs else None
        gt = network.features(chunk.gt_tensor) if "lpips" in self.chosen or known is None else []
        if pairs and known is None:
            known = self.cache.pairs(self.kind, chunk.pair_keys, lambda: network.changes(gt), chunk.device)
        scores: dict[str, list[Tensor]] = {"lpips": [], "tlp": []}
        for output in chunk.output_tensors:
            features = network.features(output)
            if "lpips" in self.chosen:
                scores["lpips"].append(network.distance(gt, features))
            if known is not None:
                scores["tlp"].append((network.changes(features) - known).abs())
        return scores


@chunk_metric(Metric(
    "lpips", "LPIPS", "perceptual", "lower", decimals=3, margin=0.01, smallest=32, needs=("alexnet",), package="lpips",
    convention="AlexNet, version 0.1 linear weights, frames mapped to [-1, 1], full resolution.",
    source="Zhang et al., CVPR 2018 (lpips package)",
))  # fmt: skip
def lpips(tools: Tools) -> ChunkScorer:
    scores = tools.once(_Scores)
    return lambda chunk: chunk.once(scores.of_chunk)["lpips"]


@chunk_metric(Metric(
    "tlp", "tLP", "temporal", "lower", scale=1e3, decimals=2, rewards_blur=True, margin=1.0, smallest=32,
    needs=("alexnet",), package="lpips",
    convention="1000 |LPIPS(GT t, GT t-1) - LPIPS(SR t, SR t-1)|, every consecutive pair, no crop.",
    source="StableVSR eval.py after Chu et al. 2020 (TecoGAN reports x100)",
))  # fmt: skip
def tlp(tools: Tools) -> ChunkScorer:
    scores = tools.once(_Scores)
    return lambda chunk: chunk.once(scores.of_chunk)["tlp"]
