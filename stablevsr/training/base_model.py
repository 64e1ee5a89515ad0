"""Making the embedded tiny model with random initial weights: VAE, UNet, then the decoder once more; and its quality.

``stablevsr train base`` runs this, and made ``stablevsr/assets/tiny`` (docs/tiny-model.md), from which it reads the
architectures, the noise schedule and the tokenizer. Weights are stored as float16 and loaded as float32.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch.utils.data import DataLoader, Subset

from stablevsr.data.degradation import bicubic_upscale
from stablevsr.data.frames import Frame, read_frame, write_frame
from stablevsr.data.layouts import Sequence, load_sequences
from stablevsr.method.loading import load_prompt
from stablevsr.method.model_folder import TINY
from stablevsr.method.pipeline import StableVSRPipeline
from stablevsr.method.sampler import to_uint8
from stablevsr.metrics.builtin.psnr import decibels
from stablevsr.metrics.builtin.sharpness import gradient_ratio
from stablevsr.metrics.fidelity import FramePair
from stablevsr.runtime.io import write_text
from stablevsr.training.loop import train
from stablevsr.training.samples import WindowDataset
from stablevsr.training.state import write_history
from stablevsr.training.task import LoopSettings, TrainingTask
from stablevsr.training.tasks.unet import UNetTask
from stablevsr.training.tasks.vae import DecoderTask, VAETask

RECIPES: dict[str, dict[str, Any]] = {
    "vae": dict(seed=1, batch=8, learning_rate=2e-3, warmup_steps=200, ema=0.999),
    "unet": dict(seed=2, batch=6, learning_rate=6e-4, warmup_steps=300, ema=0.9995),
    "decoder": dict(seed=3, batch=6, learning_rate=5e-4, warmup_steps=100, ema=0.999),
}
SAMPLING_STEPS = 10  #: of the quality measurement, as in the mini study


def make_base_model(data: Path, out: Path, state: Path, steps: dict[str, int]) -> None:
    """Train the tiny VAE and UNet on the training split of ``data`` (REDS layout) and write the model folder ``out``.

    Resumes from ``state``; ``steps`` are those of vae, unet and decoder. The TCM (``out/controlnet``) is not made here:
    the mini study trains it.
    """
    _write_untrained_parts(out)
    clips = load_sequences("reds", data, "train")
    if not (out / "vae").exists():
        crops = WindowDataset(clips, frames=1, crop=64, seed=1)
        vae_task = VAETask(_random_weights(AutoencoderKL, "vae"), crops)
        _train(vae_task, "vae", steps["vae"], state, out)
        vae_task.model.register_to_config(scaling_factor=1.0 / latent_std(vae_task.model, crops))
        vae_task.save(out)
    vae = AutoencoderKL.from_pretrained(out / "vae", torch_dtype=torch.float32)
    fixed = (DDPMScheduler.from_config(DDPMScheduler.load_config(TINY / "scheduler")), load_prompt(out))
    if not (out / "unet").exists():
        crops = WindowDataset(clips, frames=1, crop=96, seed=2)
        unet_task = UNetTask(_random_weights(UNet2DConditionModel, "unet"), vae, *fixed, crops)
        _train(unet_task, "unet", steps["unet"], state, out)
        unet_task.save(out)
    unet = UNet2DConditionModel.from_pretrained(out / "unet", torch_dtype=torch.float32)
    crops = WindowDataset(clips, frames=1, crop=96, seed=3)
    decoder_task = DecoderTask(vae.requires_grad_(True), unet, *fixed, crops)
    _train(decoder_task, "decoder", steps["decoder"], state, out)
    decoder_task.save(out)
    for part in ("vae", "unet", "text_encoder"):
        store_as_half(out / part)


def _write_untrained_parts(out: Path) -> None:
    """The scheduler, the tokenizer, and a text encoder with random weights, because the prompt is always empty."""
    from transformers import CLIPTextConfig, CLIPTextModel

    for part in ("scheduler", "tokenizer"):
        shutil.copytree(TINY / part, out / part, dirs_exist_ok=True)
    shutil.copy(TINY / "model_index.json", out)
    torch.manual_seed(0)
    CLIPTextModel(CLIPTextConfig.from_pretrained(TINY / "text_encoder")).save_pretrained(out / "text_encoder")


def _random_weights(kind: Any, part: str) -> Any:
    """A network of the embedded model's architecture with random weights."""
    torch.manual_seed(0)
    return kind.from_config(kind.load_config(TINY / part))


def _train(task: TrainingTask, part: str, steps: int, state: Path, out: Path) -> None:
    settings = LoopSettings(
        steps=steps, schedule="warmup_cosine", precision="bf16", weight_decay=1e-3, workers=0, save_every=250,
        **RECIPES[part],
    )  # fmt: skip
    outcome = train(task, settings, state / part, {"part": part, **settings.model_dump()})
    write_history(outcome.history, out / f"{part}_history.csv")


@torch.no_grad()
def latent_std(vae: AutoencoderKL, windows: WindowDataset, count: int = 256) -> float:
    """Standard deviation of the latents over training crops; its inverse becomes the VAE's scaling factor."""
    latents = [
        vae.encode(batch["gt"][:, 0] * 2 - 1).latent_dist.mode()
        for batch in DataLoader(Subset(windows, range(count)), batch_size=16)
    ]
    return float(torch.cat(latents).std())


def store_as_half(folder: Path) -> None:
    """Rewrite a folder's safetensors in float16."""
    from safetensors.torch import load_file, save_file

    for file in folder.glob("*.safetensors"):
        weights = {key: value.half() for key, value in load_file(file).items()}
        save_file(weights, file.with_suffix(".part"), metadata={"format": "pt"})
        shutil.move(file.with_suffix(".part"), file)


def measure(model: Path, data: Path, out: Path) -> str:
    """Is the model in the folder ``model`` good enough for the ablations? Measured on the test clips of ``data``.

    The middle frame of every clip is made by bicubic, the VAE (which reconstructs the ground truth) and single-frame
    sampling. Wanted on the clips in focus (bicubic below 34 dB): the VAE at least 2 dB above bicubic, the sample within
    2.5 dB of bicubic, and its mean gradient within 15 % of the ground truth's.

    Writes ``out/quality.csv`` and ``out/quality.png`` (a row a clip, the ground truth last) and returns the CSV's text.
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
    text = str(pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    write_text(out / "quality.csv", text)
    write_frame(out / "quality.png", np.concatenate(pictures, axis=0))
    return text


@torch.no_grad()
def _images(pipe: StableVSRPipeline, clip: Sequence) -> tuple[Frame, dict[str, Frame]]:
    """The middle frame's ground truth, and what three methods make of it."""
    middle = len(clip.gt) // 2
    gt, lr = read_frame(clip.gt[middle]), read_frame(clip.lr[middle])
    image = torch.from_numpy(gt).permute(2, 0, 1)[None].float() / 127.5 - 1
    latents = pipe.vae.encode(image).latent_dist.mode() * pipe.networks.vae_scale
    generator = torch.Generator().manual_seed(0)
    sample = pipe(lr[None], SAMPLING_STEPS, "single_frame", generator=generator, output_type="pt")
    return gt, {
        "bicubic": bicubic_upscale(lr),
        "vae": to_uint8(((pipe.networks.decode(latents)[0] + 1) / 2).clamp(0, 1)),
        "single_frame": to_uint8(sample.frames[0]),
    }
