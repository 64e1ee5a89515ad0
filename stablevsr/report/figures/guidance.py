"""The guidance figure: the estimated flow with its colour wheel, and the neighbour's output warped along it.

Drawn for methods that estimate flow by OpenCV's DIS between the bicubic frames, because that is repeated here exactly
and without a network. The warped output is what the TCM sees at the end of sampling, when the predicted clean latent
is the output itself.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import hsv_to_rgb
from numpy.typing import NDArray

from stablevsr.data.frames import Frame
from stablevsr.report.clip_frames import find_clips
from stablevsr.report.figures.crops_and_profiles import show_picture
from stablevsr.report.figures.style import save
from stablevsr.report.scores import ScoreBook
from stablevsr.study.methods import REFERENCE

Flow = NDArray[np.float32]  #: (H, W, 2) in pixels, x first
MAX_CLIPS = 3
WHEEL = "colour wheel"
HEADS = ("bicubic, t", "flow t to t-1", WHEEL, "output, t-1", "guidance for t:\nt-1 warped", "output, t", "GT, t")
Rows = list[tuple[str, list[Frame], float]]  #: clip, pictures, and the flow's length in pixels at full colour


def draw(book: ScoreBook, folder: Path) -> list[Path]:
    """``guidance_<dataset>``."""
    guidance = book.study.methods[REFERENCE].guidance
    if guidance is None or guidance.flow != "dis" or guidance.motion_compensation == "none":
        return []
    files: list[Path] = []
    for dataset in book.study.main_datasets():
        rows = _rows(book, dataset)
        files += _figure(rows, folder, f"guidance_{dataset}") if rows else []
    return files


def _rows(book: ScoreBook, dataset: str) -> Rows:
    """A row for each of the first clips that has all frames."""
    rows: Rows = []
    for clip in find_clips(book.paths, dataset, MAX_CLIPS):
        gt, output = clip.ground_truth(), clip.output(book.study.methods[REFERENCE])
        base = clip.output(book.bicubic) if book.bicubic else None
        if gt is None or base is None or output is None or len(gt) < 2 or min(gt.shape[1:3]) < 32:
            continue
        t = len(gt) // 2
        flow = dis_flow(base[t], base[t - 1])
        largest = float(np.quantile(np.hypot(flow[..., 0], flow[..., 1]), 0.99))
        pictures = [
            base[t], flow_picture(flow, largest), _wheel(), output[t - 1], warped(output[t - 1], flow), output[t], gt[t]
        ]  # fmt: skip
        rows.append((clip.name, pictures, largest))
    return rows


def dis_flow(target: Frame, source: Frame) -> Flow:
    """Flow such that ``source`` sampled at ``position + flow`` looks like ``target`` (uint8, at least 32 x 32)."""
    engine = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (target, source))
    return np.asarray(engine.calc(*grey, None), np.float32)  # type: ignore[call-overload]


def warped(frame: Frame, flow: Flow) -> Frame:
    """``frame`` warped along ``flow``: out(p) = frame(p + flow(p)), bilinear, black outside."""
    y, x = np.mgrid[: frame.shape[0], : frame.shape[1]].astype(np.float32)
    return np.asarray(cv2.remap(frame, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR), np.uint8)


def flow_picture(flow: Flow, largest: float) -> Frame:
    """Direction as hue, length as saturation: white is no motion, full colour is ``largest`` pixels or more."""
    hue = (np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi)) % 1.0
    length = np.clip(np.hypot(flow[..., 0], flow[..., 1]) / max(largest, 1e-6), 0, 1)
    colours = hsv_to_rgb(np.stack([hue, length, np.ones_like(hue)], axis=-1))
    return np.asarray(np.rint(colours * 255), np.uint8)


def _figure(rows: Rows, folder: Path, name: str) -> list[Path]:
    figure, axes = plt.subplots(len(rows), len(HEADS), figsize=(9, 1.5 * len(rows) + 0.5), squeeze=False)
    for axes_row, (clip, pictures, largest) in zip(axes, rows, strict=True):
        for axis, picture in zip(axes_row, pictures, strict=True):
            show_picture(axis, picture)
        axes_row[0].set_ylabel(f"clip {clip}", fontsize=7)
        axes_row[HEADS.index(WHEEL)].set_xlabel(f"rim: {largest:.1f} px", fontsize=7)
    for axis, head in zip(axes[0], HEADS, strict=True):
        axis.set_title(head, fontsize=7)
    return save(figure, folder, name)


def _wheel() -> Frame:
    """The meaning of the flow's colours: the direction from the centre, full colour at the rim."""
    y, x = np.mgrid[-1:1:101j, -1:1:101j].astype(np.float32)
    wheel = flow_picture(np.stack([x, y], axis=-1), 1.0)
    wheel[np.hypot(x, y) > 1] = 255
    return wheel
