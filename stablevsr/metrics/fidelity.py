"""Fidelity of a frame to its ground truth: PSNR and SSIM on RGB and on luma, and relative sharpness.

Computed in float64 on the CPU. The RGB versions equal torchmetrics 1.1.1 (the published evaluation), the luma versions
BasicSR with ``test_y_channel`` and no border crop; both are tested against their outputs.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from stablevsr.data.frames import Frame

Image = NDArray[np.float64]

FIDELITY = ("psnr", "ssim", "psnr_y", "ssim_y", "sharpness")
WINDOW = 11
SIGMA = 1.5
BORDER = WINDOW // 2  # where the window would leave the frame
K1, K2 = 0.01, 0.03  # the stabilising constants of Wang et al.


def to_unit(frame: Frame) -> Image:
    """uint8 RGB (H, W, 3) to float64 in [0, 1]."""
    return frame.astype(np.float64) / 255.0


def luma(frame: Frame) -> Image:
    """BT.601 luma (H, W) of a uint8 RGB frame in [16, 235], not rounded, as MATLAB's rgb2ycbcr on floats."""
    weights = np.array([65.481, 128.553, 24.966]) / 255.0
    return np.asarray(frame.astype(np.float64) @ weights + 16.0)


def psnr(gt: Image, sr: Image, peak: float) -> float:
    """Peak signal-to-noise ratio in dB; infinite for identical images. Shapes equal, range [0, peak]."""
    error = float(np.mean(np.square(gt - sr)))
    return math.inf if error == 0 else 10.0 * math.log10(peak * peak / error)


def ssim(gt: Image, sr: Image, peak: float) -> float:
    """Mean structural similarity of (H, W) or (H, W, C) images in [0, peak], at least 11 pixels a side.

    Gaussian window of 11 pixels (sigma 1.5), population covariance; the 5 border pixels, whose windows leave the frame,
    are left out (Wang et al. 2004).
    """
    mean_gt, mean_sr = _blur(gt), _blur(sr)
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    product, squares = mean_gt * mean_sr, mean_gt**2 + mean_sr**2
    covariance = _blur(gt * sr) - product
    variances = _blur(gt**2 + sr**2) - squares
    similarity = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return float(similarity[BORDER:-BORDER, BORDER:-BORDER].mean())


def sharpness(gt: Image, sr: Image) -> float:
    """Mean gradient magnitude of luma image ``sr`` (H, W) divided by that of ``gt``; nan if ``gt`` has no gradient."""
    reference = _gradient(gt)
    return _gradient(sr) / reference if reference > 0 else math.nan


def _blur(image: Image) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (WINDOW, WINDOW), SIGMA))


def _gradient(image: Image) -> float:
    dx, dy = np.diff(image, axis=1)[:-1], np.diff(image, axis=0)[:, :-1]
    return float(np.hypot(dx, dy).mean())


def fidelity(gt: Frame, sr: Frame, names: tuple[str, ...]) -> dict[str, float]:
    """The named metrics of one frame pair, uint8 RGB (H, W, 3) of equal size.

    ``names`` is any of :data:`FIDELITY`; each conversion is made once.
    """
    values: dict[str, float] = {}
    if {"psnr", "ssim"} & set(names):
        rgb = to_unit(gt), to_unit(sr)
        values |= {"psnr": psnr(*rgb, 1.0)} if "psnr" in names else {}
        values |= {"ssim": ssim(*rgb, 1.0)} if "ssim" in names else {}
    if {"psnr_y", "ssim_y", "sharpness"} & set(names):
        y = luma(gt), luma(sr)
        values |= {"psnr_y": psnr(*y, 255.0)} if "psnr_y" in names else {}
        values |= {"ssim_y": ssim(*y, 255.0)} if "ssim_y" in names else {}
        values |= {"sharpness": sharpness(*y)} if "sharpness" in names else {}
    return values
