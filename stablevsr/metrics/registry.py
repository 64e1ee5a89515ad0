"""The metrics by name: direction, unit, rounding, convention, needs and source, as data.

Whatever changes a number has its own name here: ``psnr`` (RGB, the published convention) and ``psnr_y`` are two
metrics, and so are ``tof`` (RAFT fed [0, 1], as the authors' script does) and ``tof_raft_std`` (RAFT's own range).
Tables, claims and plots take label, direction and decimals from here. Nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stablevsr.runtime.errors import UserError, near_miss

Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class Metric:
    """One metric as it is reported.

    ``scale`` is the factor already applied to the values in CSV files; ``decimals`` the rounding in tables only;
    ``temporal`` metrics compare a frame with the one before it and are undefined on the first; ``needs`` names weight
    files (see :mod:`stablevsr.metrics.weights`), ``extra`` the pip extra; ``smallest`` is the shortest frame side in
    pixels for which the metric is defined.
    """

    name: str
    label: str
    direction: Direction
    scale: float
    decimals: int
    convention: str
    source: str
    temporal: bool = False
    needs: tuple[str, ...] = ()
    extra: str | None = None
    smallest: int = 1


_TABLE = (
    Metric(
        "psnr", "PSNR", "higher", 1.0, 2,
        "RGB in [0, 1], whole frame, dB of each frame averaged; infinite for identical frames.",
        "StableVSR eval.py (torchmetrics 1.1.1)",
    ),
    Metric(
        "ssim", "SSIM", "higher", 1.0, 3,
        "RGB in [0, 1], Gaussian window of 11 pixels (sigma 1.5), population covariance, 5 border pixels left out.",
        "StableVSR eval.py (torchmetrics 1.1.1); Wang et al. 2004",
        smallest=11,
    ),
    Metric(
        "psnr_y", "PSNR-Y", "higher", 1.0, 2,
        "Luma of BT.601 in its 16 to 235 range (MATLAB's rgb2ycbcr, not rounded), whole frame, peak 255.",
        "BasicSR calculate_psnr, test_y_channel; usual for Vimeo-90K-T",
    ),
    Metric(
        "ssim_y", "SSIM-Y", "higher", 1.0, 4,
        "Luma of BT.601 in its 16 to 235 range, peak 255, window as for SSIM.",
        "BasicSR calculate_ssim, test_y_channel; usual for Vimeo-90K-T",
        smallest=11,
    ),
    Metric(
        "lpips", "LPIPS", "lower", 1.0, 3,
        "AlexNet, version 0.1 linear weights, frames mapped to [-1, 1], full resolution.",
        "Zhang et al., CVPR 2018 (lpips package)",
        needs=("alexnet",), smallest=32,
    ),
    Metric(
        "dists", "DISTS", "lower", 1.0, 3,
        "VGG16, RGB in [0, 1], full resolution (not resized to 256 pixels).",
        "Ding et al., TPAMI 2020 (DISTS-pytorch package)",
        needs=("vgg16",), smallest=16,
    ),
    Metric(
        "musiq", "MUSIQ", "higher", 1.0, 2,
        "KonIQ-10k weights, multi-scale patches; the output alone, no reference.",
        "Ke et al., ICCV 2021 (pyiqa, non-commercial licence)",
        needs=("musiq",), extra="iqa", smallest=32,
    ),
    Metric(
        "clipiqa", "CLIP-IQA", "higher", 1.0, 3,
        "CLIP RN50 without position embedding, mean over five prompt pairs; the output alone, no reference.",
        "Wang et al., AAAI 2023 (pyiqa, non-commercial licence)",
        needs=("clip_rn50",), extra="iqa", smallest=32,
    ),
    Metric(
        "niqe", "NIQE", "lower", 1.0, 2,
        "Luma of YIQ, blocks of 96 pixels, no border crop; the output alone, no reference.",
        "Mittal et al., SPL 2013 (pyiqa, non-commercial licence)",
        needs=("niqe",), extra="iqa", smallest=192,
    ),
    Metric(
        "tlp", "tLP", "lower", 1e3, 2,
        "1000 |LPIPS(GT t, GT t-1) - LPIPS(SR t, SR t-1)|, every consecutive pair, no crop.",
        "StableVSR eval.py after Chu et al. 2020 (TecoGAN reports x100)",
        temporal=True, needs=("alexnet",), smallest=32,
    ),
    Metric(
        "tof", "tOF", "lower", 1e1, 3,
        "10 x mean |flow SR - flow GT| over both components and all pixels, current to previous frame, RAFT-large fed "
        "frames in [0, 1] as the published script does.",
        "StableVSR eval.py after Chu et al. 2020",
        temporal=True, needs=("raft",),
    ),
    Metric(
        "tof_dis", "tOF (DIS)", "lower", 1e1, 3,
        "As tOF, with OpenCV's DIS optical flow (medium preset, grey frames) in place of RAFT; needs no weights.",
        "Kroeger et al., ECCV 2016, in the formula of StableVSR eval.py",
        temporal=True,
    ),
    Metric(
        "warp_error", "Warping error", "lower", 1.0, 4,
        "Mean |SR t - SR t-1 warped by the ground truth's DIS flow| in [0, 1] over unoccluded pixels; rewards blur, so "
        "compare it between methods of like sharpness only.",
        "Lai et al., ECCV 2018; occlusions after Sundaram et al., ECCV 2010",
        temporal=True,
    ),
    Metric(
        "tof_raft_std", "tOF (RAFT range)", "lower", 1e1, 3,
        "As tOF, with RAFT fed [-1, 1], the range it was trained on.",
        "torchvision's optical-flow preset, in the formula of StableVSR eval.py",
        temporal=True, needs=("raft",),
    ),
    Metric(
        "sharpness", "Sharpness", "none", 1.0, 3,
        "Mean gradient magnitude of the luma, output divided by ground truth; 1 is ideal, below 1 is blur, above 1 "
        "noise or over-sharpening.",
        "this project",
    ),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}


def resolve(names: Sequence[str]) -> list[Metric]:
    """The metrics of these names, in this order, each once. Raises :class:`UserError` for an unknown name or none."""
    if not names:
        raise UserError(f"no metric is named: choose from {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            raise UserError(f"unknown metric '{name}'{near_miss(name, METRICS)}: choose from {', '.join(METRICS)}")
    return [METRICS[name] for name in dict.fromkeys(names)]
