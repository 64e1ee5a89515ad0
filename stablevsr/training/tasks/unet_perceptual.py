"""The tiny UNet's second training: on its own estimates as well, and with a perceptual loss on what it decodes to.

In the first training every noisy latent is made from the ground truth, so at the middle noise levels it still holds
detail that sampling, which starts from noise, does not find there. Here half of the noisy latents are made from the
UNet's own one-step estimate at a higher level, and the estimates are compared as decoded images too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stablevsr.training.denoising import clean_estimate, training_target
from stablevsr.training.perceptual import PerceptualLoss
from stablevsr.training.samples import draw_normal
from stablevsr.training.task import Sample
from stablevsr.training.tasks.unet import UNetTask

PERCEPTUAL_WEIGHT = 1.0  #: its gradients are then about as large as those of the mean squared errors
PIXEL_WEIGHT = 0.5  #: of the L1 distance of decoded estimates and frames in [-1, 1]


class PerceptualUNetTask(UNetTask):
    """The UNet's loss, where the first half of a batch starts from own estimates and is also compared as images."""

    def __init__(self, *parts: Any, perceptual: PerceptualLoss) -> None:
        super().__init__(*parts)
        self.perceptual = perceptual

    def draw(self, side: int, generators: Sequence[torch.Generator]) -> Sample:
        """Also the level and the noise of the own estimates: ``share`` (B,) of the way up to pure noise."""
        own = {
            "share": torch.stack([torch.rand((), generator=generator) for generator in generators]),
            "noise_above": draw_normal(generators, (self.channels, side, side)),
        }
        return super().draw(side, generators) | own

    def loss(self, batch: Sample, generators: Sequence[torch.Generator]) -> Tensor:
        """``batch["gt"]`` (B, 1, 3, H, W) and ``batch["lq"]`` (B, 1, 3, h, w) in [0, 1] -> scalar."""
        sample = self.freeze(batch, self.draw(batch["lq"].shape[-1], generators))
        half = (len(batch["gt"]) + 1) // 2
        start = sample["latents"].clone()
        start[:half] = self.own_estimate({key: value[:half] for key, value in sample.items()})
        noisy, predicted = self.predict(sample | {"latents": start})
        predicted = predicted.float()
        estimate = clean_estimate(self.scheduler, noisy, predicted, sample["timesteps"])
        target = training_target(self.scheduler, sample["latents"], sample["noise"], sample["timesteps"])
        # v of an own estimate is unbounded where the noise is weak, so its error is that of the clean latent
        own, usual = F.mse_loss(estimate[:half], sample["latents"][:half]), F.mse_loss(predicted[half:], target[half:])
        image, decoded = batch["gt"][:half, 0] * 2 - 1, self.decode(estimate[:half])
        seen = PIXEL_WEIGHT * F.l1_loss(decoded, image) + PERCEPTUAL_WEIGHT * self.perceptual(decoded, image)
        return (own + usual) / 2 + seen

    @torch.no_grad()
    def own_estimate(self, sample: Sample) -> Tensor:
        """The one-step estimate of clean latents (B, 4, h, w), from a level above the sample's."""
        last = int(self.scheduler.config.num_train_timesteps) - 1
        timesteps = sample["timesteps"] + ((last - sample["timesteps"]) * sample["share"]).round().long()
        return self.estimate(sample | {"timesteps": timesteps, "noise": sample["noise_above"]})
