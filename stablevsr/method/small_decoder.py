"""A small decoder for the guidance only, distilled from the VAE's (:mod:`stablevsr.training.tasks.decoder`).

The VAE decoder takes three quarters of the method's FLOPs to make an image that the TCM reduces by two strided
convolutions. This decoder needs a thirtieth of them at full size; the VAE still decodes the output frames.
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderTiny
from torch import Tensor


class SmallDecoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Scaled latents (B, 4, h, w) to RGB (B, 3, 4h, 4w), nominally in [-1, 1]: TAESD's decoder, at x4.

    Args:
        latent_channels: of the base model.
        width: channels of every layer, 64 at full size.
        blocks: residual blocks at the latents' size, at twice and at four times it.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, latent_channels: int = 4, width: int = 64, blocks: tuple[int, int, int] = (3, 3, 1)) -> None:
        super().__init__()
        self.layers = DecoderTiny(latent_channels, 3, tuple(blocks), (width,) * 3, 2, "relu", "nearest")

    def forward(self, latents: Tensor) -> Tensor:
        """Decode."""
        return torch.as_tensor(self.layers(latents))
