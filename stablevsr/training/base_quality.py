"""Is the tiny base model good enough for the ablations to mean something? Measured on the held-out clips.

For the middle frame of every test clip: bicubic, the VAE's reconstruction of the ground truth, and a single-frame
sample of the UNet. Wanted, on the clips in focus (bicubic below 34 dB): reconstruction at least 2 dB above bicubic,
the sample within 2.5 dB of bicubic and its mean gradient within 15 % of the ground truth's.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import torch

from stablevsr.data.degradation import bicubic_upscale
from stablevsr.data.frames import Frame, read_frame, write_frame
from stablevsr.data.layouts import Sequence, load_sequences
from stablevsr.method.pipeline import StableVSRPipeline
from stablevsr.method.sampler import to_uint8
from stablevsr.metrics.builtin.psnr import decibels
from stablevsr.metrics.builtin.sharpness import gradient_ratio
from stablevsr.metrics.fidelity import FramePair
from stablevsr.runtime.io import write_text

STEPS = 10  #: as in the mini study


def measure(model: Path, data: Path, out: Path) -> str:
    """Write ``out/quality.csv`` and ``out/quality.png`` (a row a clip: bicubic, VAE, sample, ground truth).

    Args:
        model: the model folder.
        data: a set in the layout of REDS, as ``stablevsr data mini`` writes it.
        out: where to.

    Returns:
        The CSV's text.
    """
    pipe = StableVSRPipeline.from_pretrained(model, controlnet=None, device="cpu", tile=None)
    rows, pictures = [], []
    for clip in load_sequences("reds", data, "test"):
        gt, images = _images(pipe, clip)
        row: dict[str, object] = {"clip": clip.name}
        for name, image in images.items():
            pair = FramePair(gt, image)
            row[f"{name}_psnr"] = round(decibels(*pair.rgb, 1.0), 2)
            row[f"{name}_sharpness"] = round(gradient_ratio(*pair.luma), 3)
        rows.append(row)
        pictures.append(np.concatenate([*images.values(), gt], axis=1))
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(out / "quality.csv", text.getvalue())
    write_frame(out / "quality.png", np.concatenate(pictures, axis=0))
    return text.getvalue()


def _images(pipe: StableVSRPipeline, clip: Sequence) -> tuple[Frame, dict[str, Frame]]:
    """The middle frame's ground truth, and what three methods make of it."""
    middle = len(clip.gt) // 2
    gt, lr = read_frame(clip.gt[middle]), read_frame(clip.lr[middle])
    sample = pipe(lr[None], STEPS, "single_frame", generator=torch.Generator().manual_seed(0), output_type="pt")
    return gt, {
        "bicubic": bicubic_upscale(lr),
        "vae": _reconstruction(pipe, gt),
        "single_frame": to_uint8(sample.frames[0]),
    }


@torch.no_grad()
def _reconstruction(pipe: StableVSRPipeline, gt: Frame) -> Frame:
    image = torch.from_numpy(gt).permute(2, 0, 1)[None].float() / 127.5 - 1
    latents = pipe.vae.encode(image).latent_dist.mode() * pipe.networks.vae_scale
    return to_uint8(((pipe.networks.decode(latents)[0] + 1) / 2).clamp(0, 1))
