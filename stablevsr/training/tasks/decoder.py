"""Distilling the small decoder of the guidance: it learns to decode as the VAE's decoder does.

It learns on what it will decode: the frozen UNet's clean estimates x̂0 at every noise level, not clean latents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from stablevsr.method.small_decoder import SmallDecoder
from stablevsr.training import validation
from stablevsr.training.targets import clean_estimate
from stablevsr.training.task import TaskInputs, TrainingTask
from stablevsr.training.tasks.unet import UNetTask, load


def build(inputs: TaskInputs) -> DistillationTask:
    """A small decoder with random weights, and the model it learns from."""
    source = load(inputs)
    torch.manual_seed(inputs.settings.seed)  # the initial weights
    decoder = SmallDecoder(int(source.model.config.out_channels), inputs.settings.width)
    return DistillationTask(decoder.to(inputs.device), source)


class DistillationTask(TrainingTask):
    """Train ``decoder`` towards the VAE of ``source``, whose UNet is frozen and makes the latents."""

    def __init__(self, decoder: SmallDecoder, source: UNetTask) -> None:
        self.model, self.source, self.data, self.held_out = decoder, source, source.data, source.held_out
        source.model.eval().requires_grad_(False)

    def loss(self, batch: dict[str, Tensor], generators: Sequence[torch.Generator]) -> Tensor:
        """L1 + 2 MSE to the VAE's image; ``batch["gt"]`` (B, 1, 3, H, W), ``batch["lq"]`` (B, 1, 3, h, w) in [0, 1]."""
        sample = self.source.freeze(batch, self.source.draw(batch["lq"].shape[-1], generators))
        latents, by_vae = self.pair(sample)
        own = self.model(latents).float()
        return F.l1_loss(own, by_vae) + 2 * F.mse_loss(own, by_vae)

    @torch.no_grad()
    def pair(self, sample: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Clean estimates (B, 4, h, w) of frozen samples, and the VAE's images (B, 3, 4h, 4w) of them."""
        noisy, predicted = self.source.predict(sample)
        clean = clean_estimate(self.source.scheduler, noisy, predicted.float(), sample["timesteps"])
        return clean, self.source.decode(clean)

    @torch.no_grad()
    def validate(self, picture: Path) -> dict[str, float]:
        """``val_psnr_<level>``: dB between the two decoders' images on held-out windows, by noise level."""
        if not self.held_out:
            return {}
        pairs = [self.pair(chunk) for chunk in self.held_out]
        decoded = [self.model(latents).float() for latents, _ in pairs]
        errors = [(own - by_vae).square().mean((1, 2, 3)) for own, (_, by_vae) in zip(decoded, pairs, strict=True)]
        shown, timesteps = self.held_out[0], validation.joined(self.held_out, "timesteps")
        columns = {"LR": validation.enlarged(shown), "VAE": pairs[0][1], "small": decoded[0]}
        validation.strip(columns | {"ground truth": validation.truth(shown)}, picture)
        # images span [-1, 1]: a peak of 2
        return {
            f"val_psnr_{level}": 10 * math.log10(4 / error)
            for level, error in validation.by_level(torch.cat(errors), timesteps).items()
        }

    def save(self, folder: Path) -> None:
        """Write the decoder into ``folder``."""
        self.model.save_pretrained(folder)
