"""Every metric once: frames, their value by other people's code or by hand, and the tolerance.

Values of networks with published weights were computed by the packages themselves, called as their documentation shows;
they are compared if these weights are on the machine. Where the published weights could not be downloaded, the metric
is compared with the package that defines it, on random weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

VECTORS = Path(__file__).parents[1] / "vectors" / "metrics_bunny" / "metrics.npz"
NAN = math.nan  # temporal metrics on the first frame

Frames = np.ndarray  #: uint8 (T, H, W, 3)


def bunny() -> tuple[Frames, Frames]:
    """Three frames of a film and their MATLAB-compatible bicubic x4."""
    data = np.load(VECTORS)
    return data["gt"], data["sr_matlab_bicubic"]


def still_and_panned() -> tuple[Frames, Frames]:
    """A static texture, and one whose content moves 3 pixels to the right from frame to frame."""
    wide = texture(96, 105)
    return np.stack([wide[:, 9:]] * 3), np.stack([wide[:, 9 - 3 * t : 105 - 3 * t] for t in range(3)])


def still_and_brightening() -> tuple[Frames, Frames]:
    """A static texture, and one that gets 10 levels brighter from frame to frame."""
    frame = 20 + texture(64, 64) // 2
    return np.stack([frame] * 3), np.stack([frame, frame + 10, frame + 20])


def half_contrast() -> tuple[Frames, Frames]:
    """A grey texture of even levels, and the half of every level."""
    gt = 2 * (texture(24, 24)[..., :1] // 2).repeat(3, axis=2)
    return gt[None], gt[None] // 2


def moving(side: int = 128) -> tuple[Frames, Frames]:
    """A panning texture, and the same with noise."""
    wide = texture(side, side + 4)
    gt = np.stack([wide[:, 2 * t : side + 2 * t] for t in range(3)])
    noise = np.random.default_rng(1).normal(0, 10, gt.shape)
    return gt, np.clip(np.rint(gt + noise), 0, 255).astype(np.uint8)


def texture(height: int, width: int) -> np.ndarray:
    """A smooth colour texture, uint8 (height, width, 3)."""
    coarse = torch.rand(1, 3, height // 4, width // 4, generator=torch.Generator().manual_seed(0))
    fine = nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return (255 * fine[0]).round().to(torch.uint8).permute(1, 2, 0).numpy()


def to_tensor(frames: Frames) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


Outside = Callable[[Frames, Frames, Path], list[float]]  #: of ground truth, output and weight file


def raft_directly(released: bool) -> Outside:
    """tOF in numpy on the flow of torchvision's network; both components, all pixels, factor 10.

    ``released``: as eval.py calls it, in training mode with one pair of frames in [0, 1] at a time.
    """

    def score(gt: Frames, sr: Frames, file: Path) -> list[float]:
        from torchvision.models.optical_flow import raft_large

        network = raft_large(weights=None).train(released)
        network.load_state_dict(torch.load(file, weights_only=True))

        def flow(frames: Frames) -> np.ndarray:
            fed = to_tensor(frames) if released else 2 * to_tensor(frames) - 1
            pairs = zip(fed[1:].split(1), fed[:-1].split(1), strict=True)
            return torch.cat([network(target, source)[-1] for target, source in pairs]).numpy()

        return [NAN, *(10 * np.abs(flow(gt) - flow(sr)).mean((1, 2, 3)))]

    return score


def lr_psnr_by_pillow(gt: Frames, sr: Frames, file: Path) -> list[float]:
    """PSNR of both made small by Pillow, whose bicubic kernel is MATLAB's, on frames with mirrored borders."""
    from PIL import Image

    def small(frame: Frames) -> np.ndarray:
        padded = np.pad(frame, ((16, 16), (16, 16), (0, 0)), mode="symmetric").astype(np.float32)
        size = (padded.shape[1] // 4, padded.shape[0] // 4)
        channels = [Image.fromarray(np.ascontiguousarray(padded[..., c])) for c in range(3)]
        made = np.stack([c.resize(size, Image.Resampling.BICUBIC) for c in channels], axis=-1)
        return np.clip(np.rint(made[4:-4, 4:-4]), 0, 255)

    pairs = zip(gt, sr, strict=True)
    return [20 * math.log10(255 / np.sqrt(np.square(small(one) - small(other)).mean())) for one, other in pairs]


def random_raft(folder: Path) -> Path:
    from torchvision.models.optical_flow import raft_large

    torch.save(raft_large(weights=None).state_dict(), folder / "raft.pth")
    return folder / "raft.pth"


def musiq_directly(gt: Frames, sr: Frames, file: Path) -> list[float]:
    """pyiqa, one frame at a time."""
    import pyiqa

    metric = pyiqa.create_metric("musiq", device="cpu", pretrained=False)
    metric.net.load_state_dict(torch.load(file, weights_only=True))
    return [metric(frame[None]).item() for frame in to_tensor(sr)]


def pyiqa_directly(name: str, option: str) -> Outside:
    """pyiqa, one frame at a time."""

    def score(gt: Frames, sr: Frames, file: Path) -> list[float]:
        import pyiqa

        from stablevsr.metrics.builtin.iqa import _pkg_resources

        with _pkg_resources():
            metric = pyiqa.create_metric(name, device="cpu", **{option: str(file)})
        return [metric(frame[None]).item() for frame in to_tensor(sr)]

    return score


def random_musiq(folder: Path) -> Path:
    import pyiqa

    network = pyiqa.create_metric("musiq", device="cpu", pretrained=False).net
    torch.save(network.state_dict(), folder / "musiq.pth")
    return folder / "musiq.pth"


def random_niqe(folder: Path) -> Path:
    from scipy.io import savemat

    random = np.random.default_rng(0)
    root = random.standard_normal((36, 36))
    parameters = {"mu_prisparam": random.standard_normal((1, 36)), "cov_prisparam": root @ root.T + np.eye(36)}
    savemat(folder / "niqe.mat", parameters)
    return folder / "niqe.mat"


def random_clip(folder: Path) -> Path:
    """CLIP of the published shape; the published file is TorchScript."""
    from stablevsr.metrics.builtin.iqa import _pkg_resources

    with _pkg_resources():
        from pyiqa.archs.clip_model import CLIP
    network = CLIP(1024, 224, (3, 4, 6, 3), 64, None, 77, 49408, 512, 8, 12)
    example = (torch.zeros(1, 3, 224, 224), torch.zeros(1, 77, dtype=torch.int64))
    torch.jit.save(torch.jit.trace(network.eval(), example), folder / "RN50.pt")
    return folder / "RN50.pt"


@dataclass(frozen=True)
class Row:
    """``expected``: a value a frame, or a function that computes them from the same random weights (``make``)."""

    metric: str
    frames: Callable[[], tuple[Frames, Frames]]
    expected: Any
    tolerance: float
    source: str
    reason: str
    make: Callable[[Path], Path] | None = None
    package: str | None = None


TORCHMETRICS = "torchmetrics 1.1.1 as in StableVSR's eval.py (tests/vectors/README.md)"
BASICSR = "BasicSR with test_y_channel, crop_border 0 (tests/vectors/README.md)"
ROUNDING = "float32 against float32: another order of sums"

TABLE = (
    Row("psnr", bunny, [26.74362946, 26.59851265, 26.59509277], 1e-3, TORCHMETRICS, "float32 there, float64 here"),
    Row("ssim", bunny, [0.61061549, 0.61114568, 0.61109513], 1e-4, TORCHMETRICS, "float32 there, float64 here"),
    Row("psnr_y", bunny, [27.8106324, 27.67829167, 27.6749009], 1e-3, BASICSR, "float32 there, float64 here"),
    Row("ssim_y", bunny, [0.65011538, 0.65064942, 0.65058473], 1e-4, BASICSR, "float32 there, float64 here"),
    Row("psnr_y_centre", bunny, [NAN, 27.67829167, NAN], 1e-3, BASICSR, "float32 there, float64 here"),
    Row("ssim_y_centre", bunny, [NAN, 0.65064942, NAN], 1e-4, BASICSR, "float32 there, float64 here"),
    Row(
        "lr_consistency", bunny, lr_psnr_by_pillow, 0.02, "Pillow's bicubic with antialiasing, and numpy",
        "a pixel may be rounded to another level",
    ),
    Row("sharpness", half_contrast, [0.5], 1e-12, "by hand: all gradients are halved", "exact"),
    Row(
        "lpips", bunny, [0.491466373, 0.486221462, 0.486179441], 1e-5,
        "lpips 0.1.4, LPIPS(net='alex'), normalize=True, torchvision's AlexNet", ROUNDING,
    ),
    Row(
        "tlp", bunny, [NAN, 0.331133604, 0.042771578], 2e-3,
        "1000 |difference| of lpips 0.1.4 between consecutive frames, torchvision's AlexNet",
        "a difference of two distances of 0.01, times 1000",
    ),
    Row(
        "dists", bunny, [0.278233349, 0.276524723, 0.276062608], 1e-5,
        "DISTS-pytorch 0.1, DISTS(), torchvision's VGG16", ROUNDING,
    ),
    Row(
        "musiq", moving, musiq_directly, 1e-4, "pyiqa on random weights",
        "the published weights could not be downloaded", random_musiq, "pyiqa",
    ),
    Row(
        "clipiqa", moving, pyiqa_directly("clipiqa", "backbone"), 1e-5, "pyiqa on random weights",
        "the published weights could not be downloaded", random_clip, "pyiqa",
    ),
    Row(
        "niqe", lambda: moving(192), pyiqa_directly("niqe", "pretrained_model_path"), 1e-5, "pyiqa on random weights",
        "the published weights could not be downloaded", random_niqe, "pyiqa",
    ),
    Row(
        "tof", moving, raft_directly(released=True), 1e-3, "torchvision's raft_large and numpy, on random weights",
        "the published weights could not be downloaded; rounding grows over RAFT's 12 updates", random_raft,
    ),
    Row(
        "tof_raft_std", moving, raft_directly(released=False), 1e-3,
        "torchvision's raft_large and numpy, on random weights",
        "the published weights could not be downloaded; rounding grows over RAFT's 12 updates", random_raft,
    ),
    Row(
        "tof_dis", still_and_panned, [NAN, 15.0, 15.0], 1.0,
        "by hand: flows (0, 0) and (-3, 0), 10 x the mean over both components",
        "DIS is off by more where content enters the frame",
    ),
    Row(
        "warp_error", still_and_brightening, [NAN, 10 / 255, 10 / 255], 1e-6,
        "by hand: no motion, so every pixel is off by the change of brightness", "float32",
    ),
)  # fmt: skip
