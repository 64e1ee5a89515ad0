"""What all trainings on noisy latents share: the target, the loss, and held-out samples for validation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor

from stablevsr.data.layouts import Clip
from stablevsr.method.scheduler import clean_latent
from stablevsr.training.samples import WindowDataset, draw_integers, draw_normal, sample_generator
from stablevsr.training.task import Sample, TrainingTask

SAMPLES, CHUNK = 48, 8  #: held-out windows
SEED = 12345


class DenoisingTask(TrainingTask):
    """A network that learns v (or the noise). Inputs without gradients are computed before the step (``freeze``).

    A frozen sample holds ``latents``, ``noise`` (B, 4, h, w), ``timesteps`` (B,) and ``lq`` (B, 3, h, w) in [-1, 1].
    """

    scheduler: DDPMScheduler
    channels: int  #: of the latents
    sample_latents = False  #: clean latents are samples of the VAE's distribution instead of its mode

    @abstractmethod
    def freeze(self, window: Sample, drawn: Sample) -> Sample:
        """The frozen sample of a window (``gt`` (B, frames, 3, H, W), ``lq``, both in [0, 1]) and of drawn values."""

    @abstractmethod
    def predict(self, sample: Sample, **how: Any) -> tuple[Tensor, Tensor]:
        """The noisy latents of frozen samples and the UNet's output for them, both (B, 4, h, w)."""

    def draw(self, side: int, generators: Sequence[torch.Generator]) -> Sample:
        """All random values of a step for latents of ``side`` pixels, on the CPU; one generator for each sample.

        The noise of sampled latents comes last, so that with their mode the other values are the same.
        """
        drawn = self.draw_diffusion(side, generators)
        if self.sample_latents:
            names = [name.replace("noise", "noise_latents") for name in drawn if name.startswith("noise")]
            drawn |= {name: draw_normal(generators, (self.channels, side, side)) for name in names}
        return drawn

    def draw_diffusion(self, side: int, generators: Sequence[torch.Generator]) -> Sample:
        """Timesteps and noise."""
        return {
            "timesteps": draw_integers(generators, 0, int(self.scheduler.config.num_train_timesteps)),
            "noise": draw_normal(generators, (self.channels, side, side)),
        }

    def loss(self, batch: Sample, generators: Sequence[torch.Generator]) -> Tensor:
        """Mean squared error of the prediction; ``batch`` holds a window (``gt``, ``lq``) or a frozen sample."""
        if "latents" not in batch:
            batch = self.freeze(batch, self.draw(batch["lq"].shape[-1], generators))
        return self.errors(batch).mean()

    def errors(self, sample: Sample, **how: Any) -> Tensor:
        """Squared errors (B, 4, h, w) of the prediction on frozen samples."""
        _, predicted = self.predict(sample, **how)
        return F.mse_loss(predicted.float(), self.target(sample).float(), reduction="none")

    def target(self, sample: Sample) -> Tensor:
        """What predictions are compared with, (B, 4, h, w): v or the noise of frozen samples."""
        return training_target(self.scheduler, sample["latents"], sample["noise"], sample["timesteps"])

    def estimate(self, sample: Sample, **how: Any) -> Tensor:
        """The one-step estimates x̂0 (B, 4, h, w) of frozen samples."""
        noisy, predicted = self.predict(sample, **how)
        return clean_estimate(self.scheduler, noisy, predicted.float(), sample["timesteps"])

    def hold_out(self, clips: Sequence[Clip], frames: int, crop: int, device: torch.device) -> None:
        """Validate on windows of ``clips``, ``frames`` long and ``crop`` pixels large; no validation without clips."""
        if not clips:
            return
        windows = WindowDataset(clips, frames, crop, SEED)
        timesteps = torch.linspace(0, int(self.scheduler.config.num_train_timesteps) - 1, SAMPLES).round().long()
        chunks = []
        for first in range(0, SAMPLES, CHUNK):
            # every sixth timestep in a chunk, so that the strip of the first one shows all noise levels
            rows = list(range(first // CHUNK, SAMPLES, SAMPLES // CHUNK))
            items = [windows[row] for row in rows]
            window = {key: torch.stack([item[key] for item in items]).to(device) for key in items[0]}
            drawn = self.draw(window["lq"].shape[-1], [sample_generator(SEED, row) for row in rows])
            frozen = self.freeze(window, drawn | {"timesteps": timesteps[rows]})
            chunks.append(frozen | {"gt": window["gt"][:, frames // 2]})
        self.held_out = chunks


def encode(vae: Any, images: Tensor, noise: Tensor | None) -> Tensor:
    """Scaled latents (B, 4, h, w), float32, of images (B, 3, 4h, 4w) in [-1, 1].

    With ``noise`` (B, 4, h, w) they are the sample of the VAE's distribution that this noise gives, else the mode.
    """
    distribution = vae.encode(images.to(next(vae.parameters()).dtype)).latent_dist
    latents = distribution.mode()
    if noise is not None:
        latents = latents + distribution.std * noise.to(latents)
    return torch.as_tensor(latents.float() * vae.config.scaling_factor)


def training_target(scheduler: DDPMScheduler, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """v or the noise, as the scheduler's ``prediction_type`` says."""
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        return torch.as_tensor(scheduler.get_velocity(latents, noise, timesteps))
    if kind == "epsilon":
        return noise
    raise ValueError(f"prediction_type {kind!r} is neither v_prediction nor epsilon")


def clean_estimate(scheduler: DDPMScheduler, noisy: Tensor, predicted: Tensor, timesteps: Tensor) -> Tensor:
    """x̂0 (B, 4, h, w) of a batch in which every row has its own timestep; right for v- and epsilon-prediction."""
    alpha_bar = scheduler.alphas_cumprod.to(noisy.device)[timesteps][:, None, None, None]
    return clean_latent(scheduler.config.prediction_type, alpha_bar, noisy, predicted)
