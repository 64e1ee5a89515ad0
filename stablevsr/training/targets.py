"""What a denoiser is trained to predict, and the clean latent that a prediction stands for."""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from stablevsr.method.scheduler import clean_latent


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
