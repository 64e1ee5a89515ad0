"""Consistency with the LR input: whether a result, made small again, is the frame that it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stablevsr.metrics.builtin.psnr import decibels
from stablevsr.metrics.metric import Metric, frame_metric

if TYPE_CHECKING:
    from stablevsr.metrics.fidelity import FramePair


@frame_metric(Metric(
    "lr_consistency", "LR consistency", "fidelity", "higher", unit="dB", decimals=2,
    convention="PSNR (RGB, 8 bits) of output and ground truth after MATLAB-compatible bicubic x1/4 of both; that of "
    "the ground truth is the LR input of the BI x4 protocol. Infinite for identical LR frames, which means leave "
    "out and count.",
    source="LR-PSNR of the NTIRE 2021 challenge on the super-resolution space (Lugmayr et al.)",
))  # fmt: skip
def lr_consistency(pair: FramePair) -> float:
    return decibels(*pair.low, 1.0)
