"""DISTS (Ding et al., TPAMI 2020) with the DISTS-pytorch package's VGG16, at full resolution.

The package's formula is evaluated level by level: the ground truth's features are computed once for all methods, and
only one level of features is in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stablevsr.metrics.metric import ChunkScorer, Metric, chunk_metric
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import file_hash

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stablevsr.metrics.tools import Tools

TOGETHER = 64 * 64  # maps of at most so many pixels go through VGG in one batch for all methods (1.1 to 1.2x as fast)
STABILISER = 1e-6
WEIGHTS_SHA256 = "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218"  # alpha and beta
PIXELS = 2**16  # VGG's first features take 256 bytes a pixel: this many pixels at a time, or one frame


class DISTSDistance:
    """DISTS of images (B, 3, H, W) in [0, 1]."""

    def __init__(self, vgg16: Path, device: torch.device | str = "cpu") -> None:
        import torch
        from DISTS_pytorch import DISTS_pt

        from stablevsr.metrics.backbones import local_backbone

        with local_backbone(DISTS_pt, "models", "vgg16", vgg16):
            self.model: Any = DISTS_pt.DISTS(load_weights=False)
        # The package itself reads sys.prefix/weights.pt, which does not exist after pip install --user or --target.
        file = Path(DISTS_pt.__file__).with_name("weights.pt")
        if not file.is_file() or file_hash(file) != WEIGHTS_SHA256:
            raise UserError(f"{file} is not the file of DISTS-pytorch 0.1: pip install --force-reinstall DISTS-pytorch")
        channels = torch.load(file, map_location="cpu", weights_only=True)
        self.model.alpha.data, self.model.beta.data = channels["alpha"].data, channels["beta"].data
        self.model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)

    def __call__(self, gt: Tensor, outputs: Sequence[Tensor]) -> Tensor:
        """DISTS of each of the B frames of each method, (methods, B)."""
        import torch

        size = max(1, PIXELS // (gt.shape[-1] * gt.shape[-2]))
        parts = zip(*(torch.split(images, size) for images in (gt, *outputs)), strict=True)
        return torch.cat([self._compare(part) for part in parts], dim=1)

    def _compare(self, images: Sequence[Tensor]) -> Tensor:
        """``images``: ground truth, then each method."""
        import torch

        model = self.model
        total = model.alpha.sum() + model.beta.sum()
        alphas, betas = ((weights / total).split(model.chns, dim=1) for weights in (model.alpha, model.beta))
        similarity = _similarity(images, alphas[0], betas[0])
        maps = [((image - model.mean) / model.std).contiguous(memory_format=torch.channels_last) for image in images]
        stages = (model.stage1, model.stage2, model.stage3, model.stage4, model.stage5)
        for stage, alpha, beta in zip(stages, alphas[1:], betas[1:], strict=True):
            if maps[0][0, 0].numel() <= TOGETHER:
                maps = list(stage(torch.cat(maps)).chunk(len(maps)))
            else:  # one at a time, overwriting the input, which frees the previous level
                for index, level in enumerate(maps):
                    maps[index] = stage(level)
            similarity = similarity + _similarity(maps, alpha, beta)
        return 1 - similarity


def _similarity(maps: Sequence[Tensor], alpha: Tensor, beta: Tensor) -> Tensor:
    """Weighted texture and structure similarity of the first maps (B, C, H, W) with each of the others, (others, B)."""
    import torch

    x_mean, x = _centred(maps[0])
    x_variance = x.square().mean(-1)
    rows = []
    for level in maps[1:]:
        y_mean, y = _centred(level)
        texture = (2 * x_mean * y_mean + STABILISER) / (x_mean**2 + y_mean**2 + STABILISER)
        structure = (2 * (x * y).mean(-1) + STABILISER) / (x_variance + y.square().mean(-1) + STABILISER)
        rows.append((alpha.flatten() * texture + beta.flatten() * structure).sum(-1))
    return torch.stack(rows)


def _centred(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Channel means (B, C) and centred maps (B, C, HW). On a CPU this is cheaper than ``Tensor.var``."""
    flat = maps.flatten(2)
    mean = flat.mean(-1)
    return mean, flat - mean[..., None]


@chunk_metric(Metric(
    "dists", "DISTS", "perceptual", "lower", decimals=3, margin=0.01, smallest=16, needs=("vgg16",),
    package="DISTS-pytorch",
    convention="VGG16, RGB in [0, 1], full resolution (not resized to 256 pixels).",
    source="Ding et al., TPAMI 2020 (DISTS-pytorch package)",
))  # fmt: skip
def dists(tools: Tools) -> ChunkScorer:
    network = DISTSDistance(tools.find("vgg16"), tools.device)
    return lambda chunk: list(network(chunk.gt_frames, chunk.output_frames))
