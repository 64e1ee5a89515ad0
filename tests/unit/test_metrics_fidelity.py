"""PSNR, SSIM and sharpness against outside numbers and cases that can be worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from stablevsr.metrics.fidelity import FIDELITY, fidelity, luma, psnr, sharpness, ssim

VECTORS = Path(__file__).parents[1] / "vectors" / "metrics_bunny" / "metrics.npz"


@pytest.mark.parametrize(
    ("name", "outside", "bar"),
    [("psnr", "psnr_rgb", 1e-3), ("ssim", "ssim_rgb", 1e-4), ("psnr_y", "psnr_y", 1e-3), ("ssim_y", "ssim_y", 1e-4)],
)
def test_equal_to_the_published_evaluation_and_to_basicsr(name: str, outside: str, bar: float) -> None:
    data = np.load(VECTORS)
    ours = [fidelity(gt, sr, (name,))[name] for gt, sr in zip(data["gt"], data["sr_matlab_bicubic"], strict=True)]
    np.testing.assert_allclose(ours, data[outside], rtol=0, atol=bar)


def test_ssim_equals_scikit_image_on_an_odd_frame() -> None:
    random = np.random.default_rng(0)
    gt = random.random((23, 31, 3))
    sr = np.clip(gt + 0.2 * random.standard_normal(gt.shape), 0, 1)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    assert ssim(gt, sr, 1.0) == pytest.approx(structural_similarity(gt, sr, channel_axis=2, **settings), abs=1e-9)


def test_psnr_by_hand() -> None:
    gt = np.zeros((4, 4, 3))
    assert psnr(gt, gt + 0.1, 1.0) == pytest.approx(20.0)
    half = gt.copy()
    half[:2] = 0.1  # half of the pixels: half the squared error, 10 log10(2) more
    assert psnr(gt, half, 1.0) == pytest.approx(20.0 + 10 * math.log10(2))


def test_luma_of_white_and_black_is_in_video_range() -> None:
    frame = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0]]], np.uint8)
    np.testing.assert_allclose(luma(frame), [[235.0, 16.0, 81.481]])


def test_identical_frames() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    values = fidelity(frame, frame.copy(), FIDELITY)
    assert values == {
        "psnr": math.inf,
        "psnr_y": math.inf,
        "ssim": pytest.approx(1),
        "ssim_y": pytest.approx(1),
        "sharpness": 1,
    }


def test_sharpness_is_the_ratio_of_gradients() -> None:
    ramp = np.tile(np.arange(8.0), (6, 1))
    assert sharpness(ramp, 0.5 * ramp) == pytest.approx(0.5)
    assert math.isnan(sharpness(np.zeros((6, 8)), ramp))
