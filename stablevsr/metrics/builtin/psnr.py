"""PSNR: on RGB as in the published evaluation (torchmetrics 1.1.1), and on luma as in BasicSR.

Papers on Vimeo-90K-T usually report luma PSNR of the centre frame of each septuplet only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stablevsr.metrics.metric import Metric, frame_metric

if TYPE_CHECKING:
    from stablevsr.metrics.fidelity import FramePair, Image


def decibels(gt: Image, sr: Image, peak: float) -> float:
    """Peak signal-to-noise ratio in dB; infinite for identical images. Shapes equal, range [0, peak]."""
    error = float(((gt - sr) ** 2).mean())
    return math.inf if error == 0 else 10.0 * math.log10(peak * peak / error)


@frame_metric(Metric(
    "psnr", "PSNR", "fidelity", "higher", unit="dB", decimals=2, margin=0.2,
    convention="RGB in [0, 1], whole frame, dB of each frame averaged; infinite for identical frames, which "
    "means leave out and count.",
    source="StableVSR eval.py (torchmetrics 1.1.1)",
))  # fmt: skip
def psnr(pair: FramePair) -> float:
    return decibels(*pair.rgb, 1.0)


@frame_metric(Metric(
    "psnr_y", "PSNR-Y", "fidelity", "higher", unit="dB", decimals=2,
    convention="Luma of BT.601 in its 16 to 235 range (MATLAB's rgb2ycbcr, not rounded), whole frame, peak 255; "
    "infinite for identical frames, which means leave out and count.",
    source="BasicSR calculate_psnr, test_y_channel",
))  # fmt: skip
def psnr_y(pair: FramePair) -> float:
    return decibels(*pair.luma, 255.0)


@frame_metric(Metric(
    "psnr_y_centre", "PSNR-Y (centre)", "fidelity", "higher", unit="dB", decimals=2, frames="centre",
    convention="As PSNR-Y, on the fourth frame of sequences of seven; undefined on other frames and sequences.",
    source="BasicSR VideoTestVimeo90KDataset and calculate_psnr, test_y_channel: the usual protocol of Vimeo-90K-T",
))  # fmt: skip
def psnr_y_centre(pair: FramePair) -> float:
    return decibels(*pair.luma, 255.0)
