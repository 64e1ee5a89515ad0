"""Relative sharpness: tells blur from detail where a metric rewards blur."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stablevsr.metrics.metric import Metric, frame_metric

if TYPE_CHECKING:
    from stablevsr.metrics.fidelity import FramePair, Image


def gradient_ratio(gt: Image, sr: Image) -> float:
    """Mean gradient magnitude of luma image ``sr`` (H, W) divided by that of ``gt``; nan if ``gt`` has no gradient."""
    reference = _gradient(gt)
    return _gradient(sr) / reference if reference > 0 else math.nan


def _gradient(image: Image) -> float:
    import numpy as np

    dx, dy = np.diff(image, axis=1)[:-1], np.diff(image, axis=0)[:, :-1]
    return float(np.hypot(dx, dy).mean())


@frame_metric(Metric(
    "sharpness", "Sharpness", "fidelity", "none", decimals=3,
    convention="Mean gradient magnitude of the luma, output divided by ground truth; 1 is ideal, below 1 is blur, "
    "above 1 noise or over-sharpening.",
    source="this project",
))  # fmt: skip
def sharpness(pair: FramePair) -> float:
    return gradient_ratio(*pair.luma)
