"""A small decoder for the guidance only, distilled from the VAE's (:mod:`stablevsr.training.tasks.decoder`).

The VAE decoder takes three quarters of the method's FLOPs to make an image that the TCM reduces by two strided
convolutions. This decoder also sees the LR frame, which holds most of that image: it computes at the LR frame's size
and predicts only what the image has beyond the bicubic enlargement. The VAE still decodes the output frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from torch import Tensor, nn

from stablevsr.data.degradation import SCALE


class SmallDecoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Scaled latents (B, 4, h, w) and LR frames (B, 3, h, w) to RGB (B, 3, 4h, 4w), both nominally in [-1, 1].

    Args:
        latent_channels: of the base model.
        width: channels of every layer but the last; 0.46 TFLOP at 320x180 with 128.
        blocks: residual blocks of three convolutions.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, latent_channels: int = 4, width: int = 128, blocks: int = 8) -> None:
        super().__init__()
        residual = nn.Conv2d(width, 3 * SCALE**2, 3, padding=1)
        for weights in residual.parameters():
            nn.init.zeros_(weights)  # an untrained decoder gives the bicubic enlargement
        self.layers = nn.Sequential(
            nn.Conv2d(latent_channels + 3, width, 3, padding=1),
            *(AutoencoderTinyBlock(width, width, "relu") for _ in range(blocks)),
            residual,
            nn.PixelShuffle(SCALE),
        )

    def forward(self, latents: Tensor, lr: Tensor) -> Tensor:
        """Decode."""
        enlarged = F.interpolate(lr, scale_factor=float(SCALE), mode="bicubic")
        return enlarged + torch.as_tensor(self.layers(torch.cat([latents, lr], dim=1)))
