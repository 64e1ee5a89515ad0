"""How good a base model is: bicubic, the VAE and single-frame samples against the ground truth of validation scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stablevsr.data.degradation import bicubic_upscale
from stablevsr.data.downloads.weights import weight_file
from stablevsr.data.frames import Frame, read_frame, write_frame
from stablevsr.data.layouts import Clip
from stablevsr.method.pipeline import StableVSRPipeline
from stablevsr.method.sampler import to_uint8
from stablevsr.metrics.builtin.dists import DISTSDistance
from stablevsr.metrics.builtin.lpips import LPIPSDistance
from stablevsr.metrics.builtin.psnr import decibels
from stablevsr.metrics.builtin.sharpness import gradient_ratio
from stablevsr.metrics.fidelity import FramePair
from stablevsr.runtime.io import write_text

SAMPLING_STEPS = 10


def measure(model: Path, scenes: list[Clip], out: Path) -> str:
    """LPIPS (AlexNet), DISTS, PSNR and sharpness of the middle frame of every scene, for the model in ``model``.

    The frame is made by bicubic, by the VAE (which reconstructs the ground truth) and by single-frame sampling.
    Needs the weights of alexnet and vgg16. Writes ``out/quality.csv`` and ``out/quality.png`` (a row a scene, the
    ground truth last) and returns the means over scenes as CSV text.
    """
    scores = FrameScores()
    pipe = StableVSRPipeline.from_pretrained(model, controlnet=None, device="cpu", tile=None)
    pipe.set_progress_bar_config(disable=True)
    rows, pictures = [], []
    for scene in scenes:
        gt, images = frame_images(pipe, scene, len(scene.gt) // 2)
        rows += [{"scene": scene.name, "image": name} | scores(gt, image) for name, image in images.items()]
        pictures.append(np.concatenate([*images.values(), gt], axis=1))
    table = pd.DataFrame(rows)
    write_text(out / "quality.csv", table.round(4).to_csv(index=False, lineterminator="\n"))
    widest = max(picture.shape[1] for picture in pictures)
    padded = [np.pad(picture, ((0, 0), (0, widest - picture.shape[1]), (0, 0))) for picture in pictures]
    write_frame(out / "quality.png", np.concatenate(padded, axis=0))
    means = table.drop(columns="scene").groupby("image", sort=False).mean().round(4)
    return str(means.to_csv(lineterminator="\n"))


class FrameScores:
    """The four scores of one image."""

    def __init__(self) -> None:
        self.lpips, self.dists = LPIPSDistance(weight_file("alexnet")), DISTSDistance(weight_file("vgg16"))

    @torch.no_grad()
    def __call__(self, gt: Frame, image: Frame) -> dict[str, float]:
        """LPIPS, DISTS, PSNR in dB and sharpness (mean gradient as a share of the ground truth's)."""
        pair, wanted, made = FramePair(gt, image), _tensor(gt), _tensor(image)
        return {
            "lpips": float(self.lpips.distance(self.lpips.features(wanted), self.lpips.features(made))),
            "dists": float(self.dists(wanted, [made])),
            "psnr": decibels(*pair.rgb, 1.0),
            "sharpness": gradient_ratio(*pair.luma),
        }


@torch.no_grad()
def frame_images(pipe: StableVSRPipeline, scene: Clip, number: int) -> tuple[Frame, dict[str, Frame]]:
    """The ground truth of frame ``number``, and what three methods make of it."""
    gt, lr = read_frame(scene.gt[number]), read_frame(scene.lr[number])
    latents = pipe.vae.encode(_tensor(gt) * 2 - 1).latent_dist.mode() * pipe.networks.vae_scale
    generator = torch.Generator().manual_seed(0)
    sample = pipe(lr[None], SAMPLING_STEPS, "single_frame", generator=generator, output_type="pt")
    return gt, {
        "bicubic": bicubic_upscale(lr),
        "vae": to_uint8(((pipe.networks.decode(latents)[0] + 1) / 2).clamp(0, 1)),
        "single_frame": to_uint8(sample.frames[0]),
    }


def _tensor(frame: Frame) -> Tensor:
    """A frame as (1, 3, H, W) in [0, 1]."""
    return torch.tensor(frame).permute(2, 0, 1)[None].float() / 255
