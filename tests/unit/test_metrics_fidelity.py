"""PSNR, SSIM and sharpness against outside numbers and cases that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from stablevsr.metrics.builtin.psnr import decibels
from stablevsr.metrics.builtin.sharpness import gradient_ratio
from stablevsr.metrics.builtin.ssim import similarity
from stablevsr.metrics.fidelity import FramePair, luma
from stablevsr.metrics.registry import METRICS


def test_ssim_equals_scikit_image_on_an_odd_frame() -> None:
    random = np.random.default_rng(0)
    gt = random.random((23, 31, 3))
    sr = np.clip(gt + 0.2 * random.standard_normal(gt.shape), 0, 1)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    assert similarity(gt, sr, 1.0) == pytest.approx(structural_similarity(gt, sr, channel_axis=2, **settings), abs=1e-9)


def test_psnr_by_hand() -> None:
    gt = np.zeros((4, 4, 3))
    assert decibels(gt, gt + 0.1, 1.0) == pytest.approx(20.0)
    half = gt.copy()
    half[:2] = 0.1  # half of the pixels: half the squared error, 10 log10(2) more
    assert decibels(gt, half, 1.0) == pytest.approx(20.0 + 10 * math.log10(2))


def test_luma_of_white_and_black_is_in_video_range() -> None:
    frame = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0]]], np.uint8)
    np.testing.assert_allclose(luma(frame), [[235.0, 16.0, 81.481]])


def test_identical_frames() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    pair = FramePair(frame, frame.copy())
    values = {name: metric.score_frame(pair) for name, metric in METRICS.items() if metric.score_frame}
    assert values == {
        "psnr": math.inf,
        "psnr_y": math.inf,
        "psnr_y_centre": math.inf,
        "lr_consistency": math.inf,
        "ssim": pytest.approx(1),
        "ssim_y": pytest.approx(1),
        "ssim_y_centre": pytest.approx(1),
        "sharpness": 1,
    }


def test_lr_consistency_sees_only_what_is_in_the_lr_frame() -> None:
    """Detail that bicubic down-scaling removes costs PSNR and no consistency; a shift of all levels costs both."""
    score, psnr = METRICS["lr_consistency"].score_frame, METRICS["psnr"].score_frame
    grey = np.full((32, 48, 3), 100, np.uint8)
    checks = grey + 20 * (np.indices((32, 48)).sum(0) % 2)[..., None].astype(np.uint8) - 10
    assert score(FramePair(grey, checks)) == math.inf
    assert psnr(FramePair(grey, checks)) == pytest.approx(20 * math.log10(255 / 10))
    assert score(FramePair(grey, grey + 10)) == pytest.approx(20 * math.log10(255 / 10))


def test_sharpness_is_the_ratio_of_gradients() -> None:
    ramp = np.tile(np.arange(8.0), (6, 1))
    assert gradient_ratio(ramp, 0.5 * ramp) == pytest.approx(0.5)
    assert math.isnan(gradient_ratio(np.zeros((6, 8)), ramp))
