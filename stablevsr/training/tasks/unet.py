"""Fine-tuning the UNet as single-image SR with the empty prompt, and training the tiny model's from random weights.

The authors did this on REDS and on Vimeo-90K before they trained any TCM; the code is lost (their issues #14, #21).
Without it the released REDS weights cannot be rebuilt, and for Vimeo-90K there is no model at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.utils.data import Dataset

from stablevsr.method.dtypes import DTYPES
from stablevsr.method.loading import load_network, load_prompt, load_scheduler
from stablevsr.method.model_folder import check_model
from stablevsr.training.denoising import DenoisingTask, encode
from stablevsr.training.samples import WindowDataset
from stablevsr.training.task import Sample, TaskInputs


def build(inputs: TaskInputs) -> UNetTask:
    """The task of fine-tuning a UNet. It writes a whole base model: all other parts but the TCM are copied.

    A UNet with class labels (the x4 upscaler's noise level) loses them: the released UNet has none and the released
    code passes none.
    """
    check_model(inputs.model, without={"controlnet"})
    task = load(inputs)
    if inputs.settings.gradient_checkpointing:
        task.model.enable_gradient_checkpointing()
    task.copied = [inputs.model / part for part in ("vae", "text_encoder", "tokenizer", "scheduler")]
    return task


def load(inputs: TaskInputs) -> UNetTask:
    """The task on the networks and data of ``inputs``, with its held-out samples."""
    settings, folder = inputs.settings, inputs.model
    task = UNetTask(
        load_network("unet", folder / "unet", torch.float32).train().requires_grad_(True).to(inputs.device),
        load_network("vae", folder / "vae", DTYPES[settings.precision]),
        DDPMScheduler.from_config(load_scheduler(folder / "scheduler").config),
        load_prompt(folder).to(inputs.device),
        WindowDataset(inputs.clips, 1, settings.crop, settings.seed, settings.order),
    )
    task.sample_latents = settings.latents == "sample"
    task.hold_out(inputs.held_out, 1, settings.crop, inputs.device)
    return task


class UNetTask(DenoisingTask):
    """Predict v (or epsilon) from [noisy latent, LR frame] with the empty prompt; the VAE is frozen."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        scheduler: DDPMScheduler,
        prompt: Tensor,
        data: Dataset[Sample],
    ) -> None:
        self.model, self.data, self.scheduler, self.prompt = unet, data, scheduler, prompt
        self.vae = vae.eval().requires_grad_(False)
        self.channels = int(unet.config.out_channels)

    @torch.no_grad()
    def freeze(self, batch: Sample, drawn: Sample) -> Sample:
        """Scaled ``latents``, ``noise``, ``timesteps`` and ``lq`` in [-1, 1], computed without gradients."""
        image = batch["gt"][:, 0] * 2 - 1
        drawn = {key: value.to(image.device) for key, value in drawn.items()}
        with torch.autocast(image.device.type, enabled=False):  # the VAE keeps the precision it was loaded in
            latents = encode(self.vae.to(image.device), image, drawn.pop("noise_latents", None))
        return {"latents": latents, "lq": batch["lq"][:, 0] * 2 - 1, **drawn}

    def predict(self, sample: Sample, **_: Any) -> tuple[Tensor, Tensor]:
        """The noisy latents of frozen samples and the UNet's output for them, both (B, 4, h, w)."""
        noisy = self.scheduler.add_noise(sample["latents"], sample["noise"], sample["timesteps"])
        prompt = self.prompt.to(noisy).expand(len(noisy), -1, -1)
        both = torch.cat([noisy, sample["lq"]], dim=1)
        return noisy, self.model(both, sample["timesteps"], encoder_hidden_states=prompt).sample

    def decode(self, latents: Tensor) -> Tensor:
        """RGB (B, 3, H, W), nominally in [-1, 1], float32, of scaled latents."""
        unscaled = latents / self.vae.config.scaling_factor
        with torch.autocast(latents.device.type, enabled=False):  # as in :meth:`freeze`
            return torch.as_tensor(self.vae.decode(unscaled.to(next(self.vae.parameters()).dtype)).sample).float()

    def figures(self) -> dict[str, dict[str, float]]:
        """The loss."""
        return {"loss": self.by_level(self.errors)}

    def columns(self, sample: Sample) -> Sample:
        """The one-step estimates."""
        return {"x0": self.decode(self.estimate(sample))}

    def save(self, folder: Path) -> None:
        """Write ``folder/unet``."""
        self.model.save_pretrained(folder / "unet")
