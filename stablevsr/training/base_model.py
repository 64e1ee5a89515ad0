"""Making the embedded tiny model from random weights: text encoder, VAE, UNet, decoder, scheduler, in the hub layout.

``stablevsr train base`` runs this; it is how ``stablevsr/assets/tiny`` was made (docs/tiny-model.md). The weights are
kept in float16 to stay small and are loaded as float32.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch.utils.data import DataLoader, Subset

from stablevsr.data.layouts import load_sequences
from stablevsr.method.loading import load_prompt
from stablevsr.runtime.io import write_text
from stablevsr.training.loop import accelerator_for, train
from stablevsr.training.samples import WindowDataset
from stablevsr.training.state import Row, write_history
from stablevsr.training.task import LoopSettings, TrainingTask
from stablevsr.training.tasks.unet import UNetTask
from stablevsr.training.tasks.vae import DecoderTask, VAETask, base_settings, tiny_unet, tiny_vae

TEXT_WIDTH = 32
VOCABULARY = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "a": 3}
#: The released model's schedule (DDIM is declared there, its script uses DDPM), v-prediction.
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "_diffusers_version": "0.21.0.dev0",
    "beta_end": 0.02,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0001,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
MODEL_INDEX = {
    "_class_name": "StableVSRPipeline",
    "_diffusers_version": "0.21.0.dev0",
    "controlnet": ["diffusers", "ControlNetModel"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def make_base_model(data: Path, out: Path, state: Path, vae_steps: int, unet_steps: int, decoder_steps: int) -> None:
    """Train the tiny VAE and UNet on the training split of ``data`` (REDS layout) and write the model folder ``out``.

    Resumes from ``state``. The TCM (``out/controlnet``) is not made here: the mini study trains it.
    """
    make_text_encoder(out)
    write_text(out / "scheduler" / "scheduler_config.json", json.dumps(SCHEDULER, indent=2) + "\n")
    write_text(out / "model_index.json", json.dumps(MODEL_INDEX, indent=2) + "\n")
    if not (out / "vae").exists():
        _train_vae(data, out, state / "vae", base_settings("vae", vae_steps, seed=1))
    if not (out / "unet").exists():
        _train_unet(data, out, state / "unet", base_settings("unet", unet_steps, seed=2))
    _train_decoder(data, out, state / "decoder", base_settings("decoder", decoder_steps, seed=3))
    for part in ("vae", "unet", "text_encoder"):
        store_as_half(out / part)


def make_text_encoder(out: Path) -> None:
    """A two-layer CLIP text encoder with random weights and a four-word tokenizer: the prompt is always empty."""
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(VOCABULARY), hidden_size=TEXT_WIDTH, intermediate_size=2 * TEXT_WIDTH, num_hidden_layers=2,
        num_attention_heads=4, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    CLIPTextModel(config).save_pretrained(out / "text_encoder")
    tokens = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>", **tokens}
    write_text(out / "tokenizer" / "vocab.json", json.dumps(VOCABULARY))
    write_text(out / "tokenizer" / "merges.txt", "#version: 0.2\n")
    write_text(out / "tokenizer" / "tokenizer_config.json", json.dumps(settings))
    write_text(out / "tokenizer" / "special_tokens_map.json", json.dumps({**tokens, "pad_token": tokens["eos_token"]}))


def _train_vae(data: Path, out: Path, state: Path, settings: LoopSettings) -> None:
    torch.manual_seed(0)
    windows = WindowDataset(load_sequences("reds", data, "train"), frames=1, crop=64, seed=1)
    task = VAETask(tiny_vae(), windows)
    history = _trained(task, settings, state, {"part": "vae", **settings.model_dump()})
    task.model.register_to_config(scaling_factor=1.0 / latent_std(task.model, windows))
    task.save(out)
    write_history(history, out / "vae" / "history.csv")


def _train_unet(data: Path, out: Path, state: Path, settings: LoopSettings) -> None:
    torch.manual_seed(0)
    windows = WindowDataset(load_sequences("reds", data, "train"), frames=1, crop=96, seed=2)
    vae = AutoencoderKL.from_pretrained(out / "vae", torch_dtype=torch.float32)
    scheduler = DDPMScheduler.from_config(SCHEDULER)
    unet: UNet2DConditionModel = tiny_unet(TEXT_WIDTH)
    task = UNetTask(unet, vae, scheduler, load_prompt(out), windows)
    history = _trained(task, settings, state, {"part": "unet", **settings.model_dump()})
    task.save(out)
    write_history(history, out / "unet" / "history.csv")


def _train_decoder(data: Path, out: Path, state: Path, settings: LoopSettings) -> None:
    windows = WindowDataset(load_sequences("reds", data, "train"), frames=1, crop=96, seed=3)
    vae = AutoencoderKL.from_pretrained(out / "vae", torch_dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(out / "unet", torch_dtype=torch.float32)
    task = DecoderTask(vae, unet, DDPMScheduler.from_config(SCHEDULER), load_prompt(out), windows)
    history = _trained(task, settings, state, {"part": "decoder", **settings.model_dump()})
    task.save(out)
    write_history(history, out / "vae" / "decoder_history.csv")


def _trained(task: TrainingTask, settings: LoopSettings, state: Path, identity: dict[str, Any]) -> list[Row]:
    return train(task, settings, state, identity, accelerator_for(settings.precision, "cpu")).history


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
