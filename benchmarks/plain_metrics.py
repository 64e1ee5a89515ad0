"""The metrics in a plain loop over frames and metrics, which repeats the work on the ground truth for every method.

The published evaluation script works this way. ``metrics.py`` compares the evaluation with it, in time and in numbers:
LPIPS, DISTS and RAFT are called as their packages document it, SSIM is scikit-image's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stablevsr.data.degradation import degrade
from stablevsr.data.frames import Frame, read_frame
from stablevsr.method.flow import RAFT_SMALLEST, RAFT_STRIDE, DISFlow, RAFTFlow, occlusion_mask
from stablevsr.method.settings import RaftNorm
from stablevsr.metrics.builtin.dists import DISTSDistance
from stablevsr.metrics.builtin.flow import warping_error
from stablevsr.metrics.builtin.iqa import load_iqa
from stablevsr.metrics.builtin.lpips import LPIPSDistance
from stablevsr.metrics.fidelity import luma
from stablevsr.metrics.folders import FramePaths
from stablevsr.metrics.metric import Metric
from stablevsr.metrics.registry import METRICS
from stablevsr.metrics.tools import FindWeights

Timer = Callable[[str], None]  #: called with the name of a metric when its value is computed


class View:
    """One frame of one side: uint8 (H, W, 3), and as torchvision's ToTensor makes it, (1, 3, H, W) in [0, 1]."""

    def __init__(self, frame: Frame, device: torch.device) -> None:
        self.levels = frame.copy()  # the array of a Pillow image is read-only
        self.tensor = torch.from_numpy(self.levels).to(device).permute(2, 0, 1)[None].float().div(255)


class PlainMetric(Protocol):
    """One metric of one frame, before its scale: this frame and the one before it, of both sides."""

    def __call__(self, gt: View, sr: View, gt_before: View | None, sr_before: View | None) -> float: ...


def plain_metrics(names: Sequence[str], device: torch.device, find: FindWeights) -> dict[str, PlainMetric]:
    """The metrics of these names as single calls; networks are loaded once from the files that ``find`` names."""
    chosen = set(names)
    found: dict[str, PlainMetric] = {
        "psnr": lambda gt, sr, *_: _psnr(gt.levels / 255.0, sr.levels / 255.0, 1.0),
        "ssim": lambda gt, sr, *_: _ssim(gt.levels / 255.0, sr.levels / 255.0, 1.0, channel_axis=2),
        "psnr_y": lambda gt, sr, *_: _psnr(luma(gt.levels), luma(sr.levels), 255.0),
        "ssim_y": lambda gt, sr, *_: _ssim(luma(gt.levels), luma(sr.levels), 255.0),
        "lr_consistency": lambda gt, sr, *_: _psnr(degrade(gt.levels) / 255.0, degrade(sr.levels) / 255.0, 1.0),
        "sharpness": lambda gt, sr, *_: _gradient(luma(sr.levels)) / _gradient(luma(gt.levels)),
    }
    if chosen & {"lpips", "tlp"}:
        found |= _lpips(LPIPSDistance(find("alexnet"), device).model)
    if "dists" in chosen:
        dists = DISTSDistance(find("vgg16"), device).model
        found["dists"] = lambda gt, sr, *_: dists(gt.tensor, sr.tensor).item()
    for name in (name for name in chosen if METRICS[name].package == "pyiqa"):
        found[name] = _without_reference(load_iqa(name, find(METRICS[name].needs[0]), device))
    if chosen & {"tof", "tof_raft_std"}:
        models = {norm: RAFTFlow(find("raft"), device, norm).model for norm in get_args(RaftNorm)}
        found |= _raft(models["published"], models["inference"])
    found |= _dis(DISFlow())
    return {name: found[name] for name in names}


def _psnr(gt: np.ndarray, sr: np.ndarray, peak: float) -> float:
    error = float(((gt - sr) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


def _ssim(gt: np.ndarray, sr: np.ndarray, peak: float, **axis: int) -> float:
    from skimage.metrics import structural_similarity

    window: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(gt, sr, data_range=peak, **window, **axis))


def _gradient(image: np.ndarray) -> float:
    dx, dy = image[:-1, 1:] - image[:-1, :-1], image[1:, :-1] - image[:-1, :-1]
    return float(np.sqrt(dx**2 + dy**2).mean())


def _lpips(model: Any) -> dict[str, PlainMetric]:
    def lpips(a: View, b: View) -> float:
        return model(a.tensor, b.tensor, normalize=True).item()

    def tlp(gt: View, sr: View, gt_before: View | None, sr_before: View | None) -> float:
        if gt_before is None or sr_before is None:
            return math.nan
        return abs(lpips(gt, gt_before) - lpips(sr, sr_before))

    return {"lpips": lambda gt, sr, *_: lpips(gt, sr), "tlp": tlp}


def _without_reference(metric: Callable[[Tensor], Tensor]) -> PlainMetric:
    return lambda gt, sr, *_: metric(sr.tensor).item()


def _raft(released: Any, trained: Any) -> dict[str, PlainMetric]:
    def flow(model: Any, target: Tensor, source: Tensor) -> Tensor:
        height, width = target.shape[-2:]
        goal = [max(RAFT_SMALLEST, math.ceil(side / RAFT_STRIDE) * RAFT_STRIDE) for side in (height, width)]
        pad = (0, goal[1] - width, 0, goal[0] - height)
        target, source = (F.pad(image, pad, mode="replicate") for image in (target, source))
        return model(target, source)[-1][..., :height, :width]

    return {
        "tof": _flow_gap(partial(flow, released)),
        "tof_raft_std": _flow_gap(lambda t, s: flow(trained, 2 * t - 1, 2 * s - 1)),
    }


def _dis(estimator: DISFlow) -> dict[str, PlainMetric]:
    def warp_error(gt: View, sr: View, gt_before: View | None, sr_before: View | None) -> float:
        if gt_before is None or sr_before is None:
            return math.nan
        pair = 2 * torch.cat((gt_before.tensor, gt.tensor)) - 1
        flow = estimator(pair[1:], pair[:-1])
        visible = occlusion_mask(flow, estimator(pair[:-1], pair[1:])) > 0
        return warping_error(torch.cat((sr_before.tensor, sr.tensor)), flow, visible).item()

    return {"tof_dis": _flow_gap(lambda t, s: estimator(2 * t - 1, 2 * s - 1)), "warp_error": warp_error}


def _flow_gap(flow: Callable[[Tensor, Tensor], Tensor]) -> PlainMetric:
    def gap(gt: View, sr: View, gt_before: View | None, sr_before: View | None) -> float:
        if gt_before is None or sr_before is None:
            return math.nan
        return (flow(sr.tensor, sr_before.tensor) - flow(gt.tensor, gt_before.tensor)).abs().mean().item()

    return gap


def plain_scores(
    paths: FramePaths,
    method: int,
    metrics: dict[str, PlainMetric],
    chosen: Sequence[Metric],
    device: torch.device,
    done: Timer,
) -> np.ndarray:
    """One method on one sequence, a row a frame and a column a metric, as in CSV files.

    ``done`` is called with each metric's name when it is finished.
    """
    rows: list[list[float]] = []
    gt_before = sr_before = None
    with torch.inference_mode():
        for gt_file, sr_file in zip(paths.reference, paths.outputs[method], strict=True):
            gt, sr = View(read_frame(gt_file), device), View(read_frame(sr_file), device)
            done("reading and checking frames")
            cells = []
            for metric in chosen:
                cells.append(metrics[metric.name](gt, sr, gt_before, sr_before) * metric.scale)
                done(metric.name)
            rows.append(cells)
            gt_before, sr_before = gt, sr
    return np.array(rows)
