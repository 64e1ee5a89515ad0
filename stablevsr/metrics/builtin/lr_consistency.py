"""Consistency with the LR input: a result, down-scaled again, against the LR frame that it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stablevsr.metrics.builtin.psnr import decibels
from stablevsr.metrics.metric import Metric, frame_metric

if TYPE_CHECKING:
    from stablevsr.metrics.fidelity import FramePair


@frame_metric(Metric(
    "lr_consistency", "LR consistency", "fidelity", "higher", unit="dB", decimals=2, reference="lr",
    convention="PSNR (RGB, 8 bits) of the output after MATLAB-compatible bicubic x1/4 against the LR frame: the ground "
    "truth made small in the same way (the BI x4 protocol), or with --lr the frame given. Infinite for identical LR "
    "frames, which means leave out and count.",
    source="LR-PSNR of the NTIRE 2021 challenge on the super-resolution space (Lugmayr et al.)",
))  # fmt: skip
def lr_consistency(pair: FramePair) -> float:
    return decibels(*pair.low, 1.0)
