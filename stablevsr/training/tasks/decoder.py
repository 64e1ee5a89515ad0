"""Distilling the small decoder of the guidance: it learns to paint what the VAE's decoder paints.

It learns on what it will be given: the frozen UNet's clean estimates x̂0 at every noise level, not clean latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from stablevsr.method.small_decoder import SmallDecoder
from stablevsr.training import validation
from stablevsr.training.loop import Job
from stablevsr.training.targets import clean_estimate
from stablevsr.training.tasks.unet import UNetJob


class DistillationJob(Job):
    """Train ``decoder`` towards the VAE of ``source``, whose UNet is frozen and makes the latents."""

    def __init__(self, decoder: SmallDecoder, source: UNetJob) -> None:
        self.model, self.source, self.data = decoder, source, source.data
        source.model.eval().requires_grad_(False)
        self.held_out: validation.Samples = []

    def loss(self, batch: dict[str, Tensor], generators: Sequence[torch.Generator]) -> Tensor:
        """L1 + 2 MSE to the VAE's image; ``batch["gt"]`` (B, 1, 3, H, W), ``batch["lq"]`` (B, 1, 3, h, w) in [0, 1]."""
        sample = self.source.freeze(batch, self.source.draw(batch["lq"].shape[-1], generators))
        latents, painted = self.pair(sample)
        own = self.model(latents).float()
        return F.l1_loss(own, painted) + 2 * F.mse_loss(own, painted)

    @torch.no_grad()
    def pair(self, sample: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Clean estimates (B, 4, h, w) of frozen samples, and the VAE's images (B, 3, 4h, 4w) of them."""
        noisy, predicted = self.source.predict(sample)
        clean = clean_estimate(self.source.scheduler, noisy, predicted.float(), sample["timesteps"])
        return clean, self.source.decode(clean)

    @torch.no_grad()
    def validate(self, picture: Path) -> dict[str, float]:
        """``val_psnr_<level>``: dB between the two decoders' images on held-out windows, by noise level."""
        return validation.decoder_figures(self, self.held_out, picture) if self.held_out else {}

    def save(self, folder: Path) -> None:
        """Write the decoder into ``folder``."""
        self.model.save_pretrained(folder)
