"""Two tasks for the tiny base model: the VAE, and its decoder once more on the estimates of the trained UNet.

The VAE learns to reconstruct HR crops, which leaves fine texture out; the second task gives decoded estimates the
texture of real frames. The UNet between them is trained by the task of the full-size one (:mod:`.unet`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.utils.data import Dataset

from stablevsr.training.denoising import clean_estimate
from stablevsr.training.samples import draw_integers, draw_normal
from stablevsr.training.task import TrainingTask

LATENT_NOISE = 0.05  #: std of the noise added to latents (std near 1), which the decoder must tolerate
LATENT_PENALTY = 1e-3
TEXTURE_WEIGHT = 8.0  #: of the texture term against the L1 term, both in image units of [-1, 1]
#: Timesteps of the estimates that the decoder learns on: their missing texture is that of the tiny UNet's samples.
ESTIMATE_STEPS = (400, 1000)


class VAETask(TrainingTask):
    """Reconstruction: L1 + 2 MSE of the decoded latent mode, with a light pull of the latents to unit scale."""

    def __init__(self, vae: AutoencoderKL, data: Dataset[dict[str, Tensor]]) -> None:
        self.model, self.data = vae, data

    def loss(self, batch: dict[str, Tensor], generators: Sequence[torch.Generator]) -> Tensor:
        """``batch["gt"]`` (B, 1, 3, H, W) in [0, 1] -> scalar."""
        image = batch["gt"][:, 0] * 2 - 1
        latents = self.model.encode(image).latent_dist.mode()
        noise = draw_normal(generators, latents.shape[1:]).to(latents)
        decoded = self.model.decode(latents + LATENT_NOISE * noise).sample
        penalty = LATENT_PENALTY * latents.square().mean()
        return F.l1_loss(decoded, image) + 2 * F.mse_loss(decoded, image) + penalty

    def save(self, folder: Path) -> None:
        """Write ``folder/vae``; the unused variance head is set to 'no noise', so that sampling equals the mode."""
        conv = self.model.quant_conv
        with torch.no_grad():
            conv.weight[conv.out_channels // 2 :] = 0
            conv.bias[conv.out_channels // 2 :] = -20
        self.model.save_pretrained(folder / "vae")


class DecoderTask(TrainingTask):
    """Texture: the frozen UNet's one-step estimates, decoded, with the local gradient energy of the ground truth."""

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler: DDPMScheduler,
        prompt: Tensor,
        data: Dataset[dict[str, Tensor]],
    ) -> None:
        self.model, self.data, self.scheduler, self.prompt = vae, data, scheduler, prompt
        self.unet = unet.eval().requires_grad_(False)
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)

    def loss(self, batch: dict[str, Tensor], generators: Sequence[torch.Generator]) -> Tensor:
        """``batch["gt"]`` (B, 1, 3, H, W) and ``batch["lq"]`` (B, 1, 3, h, w) in [0, 1] -> scalar."""
        image, lr = batch["gt"][:, 0] * 2 - 1, batch["lq"][:, 0] * 2 - 1
        self.unet.to(image.device)
        with torch.no_grad():
            estimate = self._estimate(image, lr, generators)
        decoded = self.model.decode(estimate / self.model.config.scaling_factor).sample.float()
        return F.l1_loss(decoded, image) + TEXTURE_WEIGHT * texture_distance(decoded, image)

    def _estimate(self, image: Tensor, lr: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        latents = self.model.encode(image).latent_dist.mode() * self.model.config.scaling_factor
        noise = draw_normal(generators, latents.shape[1:]).to(latents)
        timesteps = draw_integers(generators, *ESTIMATE_STEPS).to(latents.device)
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        prompt = self.prompt.to(latents).expand(len(latents), -1, -1)
        predicted = self.unet(torch.cat([noisy, lr], dim=1), timesteps, encoder_hidden_states=prompt).sample
        return clean_estimate(self.scheduler, noisy, predicted, timesteps)

    def save(self, folder: Path) -> None:
        """Write ``folder/vae``."""
        self.model.save_pretrained(folder / "vae")


def texture_distance(image: Tensor, target: Tensor) -> Tensor:
    """Mean difference of the local gradient magnitudes of two RGB batches (B, 3, H, W), at full and at half size.

    Magnitudes are averaged over 8x8 windows before they are compared: texture must have the strength and the place of
    the target's, but not its phase. Two sizes, so that texture of a single frequency does not suffice.
    """
    total = image.new_zeros(())
    for _ in range(2):
        total = total + F.l1_loss(_local_gradient(image), _local_gradient(target))
        image, target = F.avg_pool2d(image, 2), F.avg_pool2d(target, 2)
    return total


def _local_gradient(image: Tensor) -> Tensor:
    grey = image.mean(dim=1, keepdim=True)
    across, down = grey[..., :-1, 1:] - grey[..., :-1, :-1], grey[..., 1:, :-1] - grey[..., :-1, :-1]
    return F.avg_pool2d((across.square() + down.square() + 1e-6).sqrt(), 8, stride=4)
