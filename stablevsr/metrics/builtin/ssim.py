"""SSIM (Wang et al. 2004): on RGB as in the published evaluation (torchmetrics 1.1.1), and on luma as in BasicSR.

Papers on Vimeo-90K-T usually report luma SSIM of the centre frame of each septuplet only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stablevsr.metrics.metric import Metric, frame_metric

if TYPE_CHECKING:
    from stablevsr.metrics.fidelity import FramePair, Image

WINDOW = 11
SIGMA = 1.5
BORDER = WINDOW // 2  # where the window would leave the frame
K1, K2 = 0.01, 0.03  # the stabilising constants of Wang et al.


def similarity(gt: Image, sr: Image, peak: float) -> float:
    """Mean structural similarity of (H, W) or (H, W, C) images in [0, peak], at least 11 pixels a side.

    Gaussian window of 11 pixels (sigma 1.5), population covariance; the 5 border pixels, whose windows leave the frame,
    are left out.
    """
    import cv2

    def blur(image: Image) -> Image:
        return cv2.GaussianBlur(image, (WINDOW, WINDOW), SIGMA)

    mean_gt, mean_sr = blur(gt), blur(sr)
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    product, squares = mean_gt * mean_sr, mean_gt**2 + mean_sr**2
    covariance = blur(gt * sr) - product
    variances = blur(gt**2 + sr**2) - squares
    found = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return float(found[BORDER:-BORDER, BORDER:-BORDER].mean())


@frame_metric(Metric(
    "ssim", "SSIM", "fidelity", "higher", decimals=3, margin=0.005, smallest=WINDOW,
    convention="RGB in [0, 1], Gaussian window of 11 pixels (sigma 1.5), population covariance, 5 border pixels left "
    "out.",
    source="StableVSR eval.py (torchmetrics 1.1.1); Wang et al. 2004",
))  # fmt: skip
def ssim(pair: FramePair) -> float:
    return similarity(*pair.rgb, 1.0)


@frame_metric(Metric(
    "ssim_y", "SSIM-Y", "fidelity", "higher", decimals=4, smallest=WINDOW,
    convention="Luma of BT.601 in its 16 to 235 range, peak 255, window as for SSIM.",
    source="BasicSR calculate_ssim, test_y_channel",
))  # fmt: skip
def ssim_y(pair: FramePair) -> float:
    return similarity(*pair.luma, 255.0)


@frame_metric(Metric(
    "ssim_y_centre", "SSIM-Y (centre)", "fidelity", "higher", decimals=4, frames="centre", smallest=WINDOW,
    convention="As SSIM-Y, on the fourth frame of sequences of seven; undefined on other frames and sequences.",
    source="BasicSR VideoTestVimeo90KDataset and calculate_ssim, test_y_channel: the usual protocol of Vimeo-90K-T",
))  # fmt: skip
def ssim_y_centre(pair: FramePair) -> float:
    return similarity(*pair.luma, 255.0)
