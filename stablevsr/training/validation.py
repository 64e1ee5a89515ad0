"""Validation on fixed held-out windows: the loss by noise level, and a strip of what the networks make of them.

The samples are frozen once and spread evenly over the noise levels: two validations differ by the weights alone.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from stablevsr.data.frames import write_frame
from stablevsr.runtime.errors import UserError
from stablevsr.study.files import Dataset
from stablevsr.study.prepare import open_dataset
from stablevsr.training.samples import WindowDataset, sample_generator

if TYPE_CHECKING:
    from stablevsr.training.tasks.decoder import DistillationJob
    from stablevsr.training.tasks.tcm import TCMJob
    from stablevsr.training.tasks.unet import UNetJob

SAMPLES, CHUNK = 48, 8
SEED = 12345
LEVELS = {"low": (0, 333), "mid": (333, 667), "high": (667, 1000)}  #: noise levels by timestep (of 1000)
CAPTION = 14  #: rows of pixels above a strip

Samples = list[dict[str, Tensor]]  #: frozen samples in chunks, each with the windows' ``gt``


def held_out(job: Any, spec: Dataset, frames: int, crop: int, device: torch.device) -> Samples:
    """Frozen samples from the test split of a training set; none if it has none.

    Args:
        job: a job with ``draw`` and ``freeze``.
        spec: the training set; its ``split`` and ``sequences`` are replaced.
        frames: of a window.
        crop: pixels a side of the ground truth.
        device: where the job's networks are.
    """
    try:
        clips = open_dataset(spec.model_copy(update={"split": "test", "sequences": None}))
    except UserError:
        return []
    windows = WindowDataset(clips, frames, crop, SEED)
    timesteps = torch.linspace(0, int(job.scheduler.config.num_train_timesteps) - 1, SAMPLES).round().long()
    chunks = []
    for first in range(0, SAMPLES, CHUNK):
        # every sixth level in a chunk, so that the first one alone spans them all
        rows = list(range(first // CHUNK, SAMPLES, SAMPLES // CHUNK))
        items = [windows[row] for row in rows]
        window = {key: torch.stack([item[key] for item in items]).to(device) for key in items[0]}
        drawn = job.draw(window["lq"].shape[-1], [sample_generator(SEED, row) for row in rows])
        frozen = job.freeze(window, drawn | {"timesteps": timesteps[rows]})
        chunks.append(frozen | {"gt": window["gt"][:, frames // 2]})
    return chunks


def tcm_figures(job: TCMJob, samples: Samples, picture: Path) -> dict[str, float]:
    """``val_loss_<level>`` with the TCM and ``val_ratio_<level>`` of it to the loss without; a strip in ``picture``."""
    given = torch.cat([job.errors(chunk).mean((1, 2, 3)) for chunk in samples])
    for chunk in samples:
        if "without" not in chunk:  # does not change while the TCM learns
            chunk["without"] = job.errors(chunk, with_tcm=False).mean((1, 2, 3))
    without = torch.cat([chunk["without"] for chunk in samples])
    timesteps = torch.cat([chunk["timesteps"] for chunk in samples])
    shown = samples[0]
    estimates = [job.frozen.decode(job.estimate(shown, with_tcm)) for with_tcm in (False, True)]
    columns = dict(zip(("x0 without TCM", "x0 with TCM"), estimates, strict=True))
    strip({"LR": enlarged(shown), "guidance": shown["guidance"], **columns, "ground truth": truth(shown)}, picture)
    loss, alone = by_level(given, timesteps), by_level(without, timesteps)
    return {f"val_loss_{k}": v for k, v in loss.items()} | {f"val_ratio_{k}": loss[k] / alone[k] for k in loss}


def unet_figures(job: UNetJob, samples: Samples, picture: Path) -> dict[str, float]:
    """``val_loss_<level>``; a strip in ``picture``."""
    errors = torch.cat([job.errors(chunk).mean((1, 2, 3)) for chunk in samples])
    timesteps = torch.cat([chunk["timesteps"] for chunk in samples])
    shown = samples[0]
    strip({"LR": enlarged(shown), "x0": job.decode_estimate(shown), "ground truth": truth(shown)}, picture)
    return {f"val_loss_{level}": value for level, value in by_level(errors, timesteps).items()}


def decoder_figures(job: DistillationJob, samples: Samples, picture: Path) -> dict[str, float]:
    """``val_psnr_<level>`` of the small decoder's images to the VAE's; a strip in ``picture``."""
    errors, timesteps = [], torch.cat([chunk["timesteps"] for chunk in samples])
    for chunk in samples:
        latents, painted = job.pair(chunk)
        errors.append((job.model(latents).float() - painted).square().mean((1, 2, 3)))
    shown = samples[0]
    latents, painted = job.pair(shown)
    columns = {"LR": enlarged(shown), "VAE": painted, "small": job.model(latents), "ground truth": truth(shown)}
    strip(columns, picture)
    # images span [-1, 1]: a peak of 2
    return {f"val_psnr_{k}": 10 * math.log10(4 / v) for k, v in by_level(torch.cat(errors), timesteps).items()}


def by_level(errors: Tensor, timesteps: Tensor) -> dict[str, float]:
    """Mean of ``errors`` (B,) for each of :data:`LEVELS`."""
    return {
        level: float(errors[(timesteps >= low) & (timesteps < high)].mean()) for level, (low, high) in LEVELS.items()
    }


def enlarged(sample: dict[str, Tensor]) -> Tensor:
    """The LR crops in blocks of 4x4 pixels, so that one sees what the network was given."""
    return F.interpolate(sample["lq"], scale_factor=4.0, mode="nearest")


def truth(sample: dict[str, Tensor]) -> Tensor:
    """The ground truth of frozen samples in [-1, 1]."""
    return sample["gt"] * 2 - 1


def strip(columns: dict[str, Tensor], picture: Path) -> None:
    """Write one PNG: a column a name, a row a sample, noise rising downwards. Images (B, 3, H, W) in [-1, 1]."""
    frames = [_column(name, images) for name, images in columns.items()]
    write_frame(picture, np.concatenate(frames, axis=1))


def _column(name: str, images: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    stacked = (images.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).flatten(0, 1).cpu().numpy()
    title = Image.new("RGB", (stacked.shape[1], CAPTION), "white")
    ImageDraw.Draw(title).text((2, 1), name, fill="black")
    return np.concatenate([np.asarray(title), np.rint(stacked * 255).astype(np.uint8)])
