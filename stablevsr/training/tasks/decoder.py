"""Distilling the small decoder of the guidance: it learns to decode as the VAE's decoder does.

It is trained on the frozen UNet's estimates x̂0 at all noise levels, because it will decode those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from stablevsr.method.small_decoder import SmallDecoder
from stablevsr.training.task import Sample, TaskInputs, TrainingTask
from stablevsr.training.tasks.unet import UNetTask, load


def build(inputs: TaskInputs) -> DistillationTask:
    """A small decoder with random weights, and the model it learns from."""
    source = load(inputs)
    torch.manual_seed(inputs.settings.seed)  # the initial weights
    decoder = SmallDecoder(int(source.model.config.out_channels), inputs.settings.width)
    return DistillationTask(decoder.to(inputs.device), source)


class DistillationTask(TrainingTask):
    """Train ``decoder`` towards the VAE of ``source``, on latents made by its frozen UNet."""

    def __init__(self, decoder: SmallDecoder, source: UNetTask) -> None:
        self.model, self.source, self.data, self.held_out = decoder, source, source.data, source.held_out
        source.model.eval().requires_grad_(False)

    def loss(self, batch: Sample, generators: Sequence[torch.Generator]) -> Tensor:
        """L1 + 2 MSE to the VAE's image; ``batch["gt"]`` (B, 1, 3, H, W), ``batch["lq"]`` (B, 1, 3, h, w) in [0, 1]."""
        sample = self.source.freeze(batch, self.source.draw(batch["lq"].shape[-1], generators))
        small, by_vae = self.decoded(sample)
        return F.l1_loss(small, by_vae) + 2 * F.mse_loss(small, by_vae)

    def figures(self) -> dict[str, dict[str, float]]:
        """PSNR (dB) of its images against the VAE's. Images span [-1, 1], so the peak is 2."""
        errors = self.by_level(lambda sample: torch.square(torch.sub(*self.decoded(sample))))
        return {"psnr": {level: 10 * math.log10(4 / error) for level, error in errors.items()}}

    def columns(self, sample: Sample) -> dict[str, Tensor]:
        """The images of the two decoders."""
        small, by_vae = self.decoded(sample)
        return {"VAE": by_vae, "small": small}

    def decoded(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """The images (B, 3, 4h, 4w), float32, that the small decoder and the VAE make of the UNet's clean estimates."""
        with torch.no_grad():
            latents = self.source.estimate(sample)
            by_vae = self.source.decode(latents)
        return self.model(latents, sample["lq"]).float(), by_vae

    def save(self, folder: Path) -> None:
        """Write the decoder into ``folder``."""
        self.model.save_pretrained(folder)
