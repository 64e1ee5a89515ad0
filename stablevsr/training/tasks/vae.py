"""Two tasks for the tiny base model: the VAE, and its decoder once more on samples of the trained UNet.

The VAE learns to reconstruct HR crops. Samples of the UNet have less detail and other errors than encoded crops, so the
second task trains the decoder on samples. The UNet between them is trained by the task of the full-size one
(:mod:`.unet`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from torch.utils.data import Dataset

from stablevsr.data.layouts import Clip
from stablevsr.method.scheduler import Schedule
from stablevsr.training.perceptual import PerceptualLoss
from stablevsr.training.samples import WindowDataset, draw_integers, draw_normal, sample_generator
from stablevsr.training.task import Sample, TrainingTask

LATENT_NOISE = 0.05  #: std of the noise added to latents (std near 1), which the decoder must tolerate
LATENT_PENALTY = 1e-3
HELD_OUT, SEED = 6, 12345  #: crops to validate on
PERCEPTUAL_WEIGHT = 0.5
DECODER_PERCEPTUAL_WEIGHT = 1.0
TEXTURE_WEIGHT = 1.5  #: of the local gradients, against L1, both of images in [-1, 1]
COLOUR_WEIGHT = 4.0  #: of the colours averaged over blocks
COLOUR_BLOCK = 16  #: pixels


class ImageTask(TrainingTask):
    """A task that makes images; it is validated on a few held-out crops, by their L1 distance in [-1, 1]."""

    @abstractmethod
    def made(self, sample: Sample) -> Tensor:
        """The images (B, 3, H, W) in [-1, 1] for a sample of :attr:`held_out`."""

    def hold_out(self, clips: Sequence[Clip], frames: int, crop: int, device: torch.device) -> None:
        """Validate on single ``frames`` of ``clips``, ``crop`` pixels large; no validation without clips."""
        if clips:
            windows = WindowDataset(clips, frames, crop, SEED)
            items = [windows[row] for row in range(HELD_OUT)]
            crops = {key: torch.cat([item[key] for item in items]).to(device) for key in items[0]}
            self.held_out = [crops | {"lq": crops["lq"] * 2 - 1}]

    def figures(self) -> dict[str, dict[str, float]]:
        """The L1 distance."""
        (crops,) = self.held_out
        return {"l1": {"image": float(F.l1_loss(self.made(crops), crops["gt"] * 2 - 1))}}

    def columns(self, sample: Sample) -> Sample:
        """The images."""
        return {"image": self.made(sample)}


class VAETask(ImageTask):
    """Reconstruction from the latent mode, with a light pull of the latents to unit scale.

    The loss is L1 + 2 MSE; with ``perceptual``, L1 + :data:`PERCEPTUAL_WEIGHT` times that distance.
    """

    def __init__(self, vae: AutoencoderKL, data: Dataset[Sample], perceptual: PerceptualLoss | None = None) -> None:
        self.model, self.data, self.perceptual = vae, data, perceptual

    def loss(self, batch: Sample, generators: Sequence[torch.Generator]) -> Tensor:
        """``batch["gt"]`` (B, 1, 3, H, W) in [0, 1] -> scalar."""
        image = batch["gt"][:, 0] * 2 - 1
        latents = self.model.encode(image).latent_dist.mode()
        noise = draw_normal(generators, latents.shape[1:]).to(latents)
        decoded = self.model.decode(latents + LATENT_NOISE * noise).sample.float()
        loss = F.l1_loss(decoded, image) + LATENT_PENALTY * latents.square().mean()
        if self.perceptual is None:
            return loss + 2 * F.mse_loss(decoded, image)
        return loss + PERCEPTUAL_WEIGHT * self.perceptual(decoded, image)

    def made(self, sample: Sample) -> Tensor:
        """The reconstruction."""
        return torch.as_tensor(self.model.decode(self.model.encode(sample["gt"] * 2 - 1).latent_dist.mode()).sample)

    def save(self, folder: Path) -> None:
        """Write ``folder/vae``; the unused variance head is set to 'no noise', so that sampling equals the mode."""
        conv = self.model.quant_conv
        with torch.no_grad():
            conv.weight[conv.out_channels // 2 :] = 0
            conv.bias[conv.out_channels // 2 :] = -20
        self.model.save_pretrained(folder / "vae")


class DecoderTask(ImageTask):
    """The decoder on samples of the frozen UNet: L1, the perceptual distance, strength of the texture, and colours."""

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        prompt: Tensor,
        data: Dataset[Sample],
        perceptual: PerceptualLoss,
        schedules: Sequence[Schedule],
    ) -> None:
        self.model, self.prompt, self.data, self.perceptual, self.schedules = vae, prompt, data, perceptual, schedules
        self.unet = unet.eval().requires_grad_(False)
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)

    def loss(self, batch: Sample, generators: Sequence[torch.Generator]) -> Tensor:
        """``batch["gt"]`` (B, 1, 3, H, W) and ``batch["lq"]`` (B, 1, 3, h, w) in [0, 1] -> scalar."""
        image, lr = batch["gt"][:, 0] * 2 - 1, batch["lq"][:, 0] * 2 - 1
        decoded = self.decode(self.sample_any(lr, generators))
        loss = F.l1_loss(decoded, image) + DECODER_PERCEPTUAL_WEIGHT * self.perceptual(decoded, image)
        loss = loss + TEXTURE_WEIGHT * texture_distance(decoded, image)
        return loss + COLOUR_WEIGHT * colour_distance(decoded, image)

    def made(self, sample: Sample) -> Tensor:
        """The decoded samples, always from the same noise."""
        generators = [sample_generator(SEED, row) for row in range(len(sample["lq"]))]
        return self.decode(self.sample(sample["lq"], generators, self.schedules[0]))

    def decode(self, latents: Tensor) -> Tensor:
        """Images in [-1, 1], float32, of scaled latents."""
        return torch.as_tensor(self.model.decode(latents / self.model.config.scaling_factor).sample).float()

    def sample_any(self, lr: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """As :meth:`sample`, each row by one of the schedules, which its generator draws."""
        drawn = draw_integers(generators, 0, len(self.schedules)).tolist()
        latents: dict[int, Tensor] = {}
        for index, schedule in enumerate(self.schedules):
            rows = [row for row, choice in enumerate(drawn) if choice == index]
            if rows:
                made = self.sample(lr[rows], [generators[row] for row in rows], schedule)
                latents |= dict(zip(rows, made, strict=True))
        return torch.stack([latents[row] for row in range(len(lr))])

    @torch.no_grad()
    def sample(self, lr: Tensor, generators: Sequence[torch.Generator], schedule: Schedule) -> Tensor:
        """Scaled latents (B, 4, h, w) sampled for LR frames in [-1, 1], from the empty prompt."""
        self.unet.to(lr.device)
        shape = (int(self.unet.config.out_channels), *lr.shape[-2:])
        noisy = draw_normal(generators, shape).to(lr)
        prompt = self.prompt.to(lr).expand(len(lr), -1, -1)
        for index, timestep in enumerate(schedule.timesteps):
            predicted = self.unet(torch.cat([noisy, lr], dim=1), timestep, encoder_hidden_states=prompt).sample
            noisy = schedule.step(index, noisy, predicted.float(), draw_normal(generators, shape).to(lr))
        return noisy

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


def colour_distance(image: Tensor, target: Tensor) -> Tensor:
    """Mean difference of colours, averaged over blocks, of two RGB batches (B, 3, H, W).

    Without it a shift of all colours by one per cent, which L1 hardly notices beside the texture, remains.
    """
    return F.l1_loss(F.avg_pool2d(image, COLOUR_BLOCK), F.avg_pool2d(target, COLOUR_BLOCK))


def _local_gradient(image: Tensor) -> Tensor:
    grey = image.mean(dim=1, keepdim=True)
    across, down = grey[..., :-1, 1:] - grey[..., :-1, :-1], grey[..., 1:, :-1] - grey[..., :-1, :-1]
    return F.avg_pool2d((across.square() + down.square() + 1e-6).sqrt(), 8, stride=4)
