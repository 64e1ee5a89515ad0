"""LPIPS (Zhang et al., CVPR 2018) and tLP, its change from frame to frame (Chu et al. 2020).

The network is the lpips package's, called in two steps (features, distance), so that a frame passes AlexNet once for
both metrics. The changes of the ground truth are cached for all methods.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stablevsr.metrics.metric import ChunkScorer, Metric, chunk_metric

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stablevsr.metrics.chunks import Chunk
    from stablevsr.metrics.tools import Tools


class LPIPSDistance:
    """LPIPS (linear weights 0.1), split into features (of images in [0, 1]) and their distance.

    ``weights`` are those of ``net``: AlexNet's for the metric, VGG16's for a loss.
    """

    def __init__(
        self, weights: Path, device: torch.device | str = "cpu", net: Literal["alexnet", "vgg16"] = "alexnet"
    ) -> None:
        import lpips

        from stablevsr.metrics.backbones import local_backbone

        with local_backbone(lpips.pretrained_networks, "tv", net, weights):
            name = {"alexnet": "alex", "vgg16": "vgg"}[net]  # as the package calls them
            self.model: Any = lpips.LPIPS(net=name, verbose=False).eval().requires_grad_(False).to(device)

    def features(self, images: Tensor) -> list[Tensor]:
        """Five levels of features of (B, 3, H, W), each position scaled to unit length."""
        levels = [level.float() for level in self.model.net.forward(self.model.scaling_layer(2 * images - 1))]
        return [level / (level.square().sum(1, keepdim=True).sqrt() + 1e-10) for level in levels]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """LPIPS of each of the B image pairs, (B,)."""
        squares = [(one - other).square().mean((2, 3), keepdim=True) for one, other in zip(a, b, strict=True)]
        levels = [linear(square).flatten() for linear, square in zip(self.model.lins, squares, strict=True)]
        return sum(levels[1:], start=levels[0])

    def changes(self, features: list[Tensor]) -> Tensor:
        """LPIPS of each image but the first to the one before it, (B - 1,)."""
        return self.distance([level[1:] for level in features], [level[:-1] for level in features])

    def of_gt(self, chunk: Chunk) -> list[Tensor]:
        """The features of the ground truth."""
        return self.features(chunk.gt_tensor)

    def of_outputs(self, chunk: Chunk) -> list[list[Tensor]]:
        """The features of each method."""
        return [self.features(output) for output in chunk.output_tensors]


def _network(tools: Tools) -> LPIPSDistance:
    return LPIPSDistance(tools.find("alexnet"), tools.device)


@chunk_metric(Metric(
    "lpips", "LPIPS", "perceptual", "lower", decimals=3, margin=0.01, smallest=32, needs=("alexnet",), package="lpips",
    convention="AlexNet, version 0.1 linear weights, frames mapped to [-1, 1], full resolution.",
    source="Zhang et al., CVPR 2018 (lpips package)",
))  # fmt: skip
def lpips(tools: Tools) -> ChunkScorer:
    network = tools.once(_network)

    def score(chunk: Chunk) -> list[Tensor]:
        gt = chunk.once(network.of_gt)
        return [network.distance(gt, output) for output in chunk.once(network.of_outputs)]

    return score


@chunk_metric(Metric(
    "tlp", "tLP", "temporal", "lower", scale=1e3, decimals=2, rewards_blur=True, margin=1.0, smallest=32,
    needs=("alexnet",), package="lpips",
    convention="1000 |LPIPS(GT t, GT t-1) - LPIPS(SR t, SR t-1)|, every consecutive pair, no crop.",
    source="StableVSR eval.py after Chu et al. 2020 (TecoGAN reports x100)",
))  # fmt: skip
def tlp(tools: Tools) -> ChunkScorer:
    network, kind = tools.once(_network), tools.cache_kind("lpips", "alexnet")

    def score(chunk: Chunk) -> list[Tensor]:
        gt = tools.cached(kind, chunk.pair_keys, lambda: network.changes(chunk.once(network.of_gt)))
        return [(network.changes(output) - gt).abs() for output in chunk.once(network.of_outputs)]

    return score
