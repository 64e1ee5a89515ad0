"""The guidance figure: the estimated flow with its colour wheel, and the neighbour's output warped along it.

It is drawn only if the reference method estimates flow by OpenCV's DIS, which is recomputed here without a network.
The warped output is what the TCM gets at the end of sampling, when the predicted clean latent is the output.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from matplotlib.colors import hsv_to_rgb
from numpy.typing import NDArray

from stablevsr.data.frames import Frame
from stablevsr.report.clip_frames import find_clips
from stablevsr.report.figures.crops_and_profiles import picture_grid
from stablevsr.report.figures.style import save
from stablevsr.report.scores import ScoreBook
from stablevsr.study.methods import REFERENCE

Flow = NDArray[np.float32]  #: (H, W, 2) in pixels, x first
MAX_CLIPS = 3
HEADS = (
    "bicubic, t",
    "flow t to t-1",
    "colour wheel",
    "output, t-1",
    "guidance for t: t-1 warped",
    "output, t",
    "GT, t",
)


def draw(book: ScoreBook, folder: Path) -> None:
    """``guidance_<dataset>``."""
    method, bicubic = book.study.methods[REFERENCE], book.bicubic
    guidance = method.guidance
    if guidance is None or guidance.flow != "dis" or guidance.motion_compensation == "none" or bicubic is None:
        return
    for dataset in book.study.main_datasets():
        rows: dict[str, list[Frame | None]] = {}
        lengths = []  # of the flow, in pixels, at full colour
        for clip in find_clips(book.paths, dataset, MAX_CLIPS):
            pair = clip.middle(2)
            gt, base, output = pair.truth(), pair.output(bicubic), pair.output(method)
            if gt is None or base is None or output is None or len(gt) < 2 or min(gt.shape[1:3]) < 32:
                continue
            flow = dis_flow(base[1], base[0])
            lengths.append(float(np.quantile(np.hypot(flow[..., 0], flow[..., 1]), 0.99)))
            colours, guide = flow_picture(flow, lengths[-1]), warped(output[0], flow)
            rows[clip.name] = [base[1], colours, _wheel(), output[0], guide, output[1], gt[1]]
        if rows:
            figure, axes = picture_grid(HEADS, rows, (9, 1.5 * len(rows) + 0.5))
            for axis, length in zip(axes[:, HEADS.index("colour wheel")], lengths, strict=True):
                axis.set_xlabel(f"rim: {length:.1f} px", fontsize=7)
            save(figure, folder, f"guidance_{dataset}")


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


def _wheel() -> Frame:
    """The legend of the flow's colours: the hue of each direction from the centre, full colour at the rim."""
    y, x = np.mgrid[-1:1:101j, -1:1:101j].astype(np.float32)
    wheel = flow_picture(np.stack([x, y], axis=-1), 1.0)
    wheel[np.hypot(x, y) > 1] = 255
    return wheel
