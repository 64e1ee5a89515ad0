"""How well the two views of a stereo pair still agree after super-resolution, by the pair's true disparity.

    python benchmarks/stereo.py --model tiny --tcm FOLDER --steps 6

The pair is scikit-image's ``motorcycle`` (Middlebury 2014). Its two views are the two frames of a clip. The right
view is warped onto the left one by the true disparity, where a point is seen in both; the difference that is left is
compared with that of the ground truth. A blurred view differs less, so sharpness is shown beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stablevsr import StableVSRPipeline
from stablevsr.baselines import load
from stablevsr.data.degradation import SCALE, degrade, rounded
from stablevsr.data.downloads.weights import weight_file
from stablevsr.data.frames import read_frame
from stablevsr.data.mini.sources import wheel_file
from stablevsr.method.flow import warp
from stablevsr.metrics.builtin.lpips import LPIPSDistance
from stablevsr.metrics.builtin.psnr import decibels
from stablevsr.metrics.builtin.sharpness import gradient_ratio
from stablevsr.metrics.fidelity import FramePair

BASELINES = ("bicubic", "realesrgan-x4plus", "basicvsr-reds4")
STRATEGIES = ("single_frame", "bidirectional")
COLUMNS = ("between views", "PSNR", "LPIPS", "sharpness")

Views = NDArray[np.uint8]  #: (2, H, W, 3): left, right


def stereo_pair() -> tuple[Views, NDArray[np.float32]]:
    """The views, and the left one's disparity (H, W) in pixels, infinite where unknown; sides are multiples of 4."""
    views = np.stack(
        [read_frame(wheel_file("skimage", "data", f"motorcycle_{side}.png")) for side in ("left", "right")]
    )
    with np.load(wheel_file("skimage", "data", "motorcycle_disp.npz"), allow_pickle=False) as file:
        disparity = file["arr_0"]
    height, width = (side - side % SCALE for side in disparity.shape)
    return views[:, :height, :width], disparity[:height, :width]


def seen_in_both(disparity: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the disparity is known, inside the right view, and not of a point that a nearer one hides there."""
    height, width = disparity.shape
    known = np.isfinite(disparity)
    shift = np.where(known, disparity, 0)
    target = np.arange(width) - shift
    known &= target >= 0
    column = np.clip(np.rint(target), 0, width - 1).astype(int)
    nearest = np.zeros_like(shift)
    rows = np.broadcast_to(np.arange(height)[:, None], column.shape)
    np.maximum.at(nearest, (rows[known], column[known]), shift[known])
    return known & (shift > nearest[rows, column] - 1)


def view_difference(views: Views, disparity: NDArray[np.float32]) -> float:
    """Mean absolute difference (8-bit levels) of the left view and the right one warped onto it, where seen in both."""
    mask = seen_in_both(disparity)
    flow = torch.from_numpy(np.stack([-np.where(mask, disparity, 0), np.zeros_like(disparity)])[None])
    left, right = (torch.from_numpy(view).permute(2, 0, 1)[None].float() for view in views)
    difference = (warp(right, flow, grid="aligned", padding="border") - left).abs().mean(1)[0].numpy()
    return float(difference[mask].mean())


def row(name: str, gt: Views, made: Views, disparity: NDArray[np.float32], lpips: LPIPSDistance) -> str:
    """A line of the table: the difference between the views, and metrics as means of both."""
    pairs = [FramePair(*images) for images in zip(gt, made, strict=True)]
    images = (torch.from_numpy(views).permute(0, 3, 1, 2) / 255 for views in (gt, made))
    values = (
        view_difference(made, disparity),
        np.mean([decibels(*pair.rgb, 1.0) for pair in pairs]),
        float(lpips.distance(*map(lpips.features, images)).mean()),
        np.mean([gradient_ratio(*pair.luma) for pair in pairs]),
    )
    return f"{name:<20}" + "".join(f"{value:>16.3f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="hub id, folder, or tiny")
    parser.add_argument("--tcm", type=Path, help="folder of a trained TCM in place of the model's")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    gt, disparity = stereo_pair()
    lpips = LPIPSDistance(weight_file("alexnet"))
    lr = np.stack([degrade(view) for view in gt])
    print(f"{'':<20}" + "".join(f"{head:>16}" for head in COLUMNS))
    print(row("ground truth", gt, gt, disparity, lpips))
    for name in BASELINES:
        made = load(name, chosen.device)(lr)
        print(row(name, gt, np.stack([rounded(255 * frame) for frame in made]), disparity, lpips), flush=True)
    pipeline = StableVSRPipeline.from_pretrained(chosen.model, tcm=chosen.tcm, device=chosen.device)
    for strategy in STRATEGIES:
        generator = torch.Generator().manual_seed(chosen.seed)
        made = pipeline(lr, chosen.steps, strategy, generator=generator).frames
        print(row(strategy, gt, np.stack([rounded(255 * frame) for frame in made]), disparity, lpips), flush=True)


if __name__ == "__main__":
    main()
