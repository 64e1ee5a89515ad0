"""The networks of one model on one device, as the sampler uses them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stablevsr.method import decoding
from stablevsr.method.compiled import compile_blocks
from stablevsr.method.dtypes import DTYPES
from stablevsr.method.loading import keep_finite
from stablevsr.method.settings import Precision, Sampling


@dataclass
class ModelParts:
    """The networks of one model, ready to run on one device."""

    unet: Any
    vae: Any
    tcm: Any | None
    scheduler: dict[str, Any]  #: the scheduler's configuration (the sampling settings choose its class)
    prompt: Tensor  #: (1, 77, C), the empty prompt's encoding
    device: torch.device
    guidance_decoder: Any | None = None  #: decodes the guidance; None = the VAE
    tile: int | None = None  #: side of the decoder's tiles in latent pixels; None = whole frames
    may_tile: bool = False  #: when memory runs out, switch to (smaller) tiles
    one_by_one: bool = False  #: frames are decoded one by one; set when memory runs out for several

    @property
    def vae_scale(self) -> float:
        """Latents are divided by this before decoding (0.08333 for the released model)."""
        return float(self.vae.config.scaling_factor)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode scaled latents (B, 4, h, w) to RGB (B, 3, 4h, 4w), nominally in [-1, 1], not clamped.

        When the GPU's memory runs out, frames are decoded one by one from then on. When it runs out for one frame and
        :attr:`may_tile` is set, smaller tiles are used from then on, with a message on stderr. Raises
        :class:`UserError` if the smallest do not fit either.
        """
        unscaled = (latents / self.vae_scale).to(self.vae.dtype)
        while True:
            try:
                return decoding.decode(self.vae, unscaled, self.tile, self.one_by_one).float()
            except torch.OutOfMemoryError:
                several = len(unscaled) > 1 and not self.one_by_one
                if not (several or self.may_tile):
                    raise
            # outside the handler: the exception keeps the allocated memory alive
            torch.cuda.empty_cache()
            if several:
                self.one_by_one = True
            else:
                self.tile = decoding.smaller(self.tile, unscaled)
                print(f"the GPU's memory ran out: decoding in tiles of {self.tile} latent pixels", file=sys.stderr)

    def decode_guidance(self, latents: Tensor, lr: Tensor) -> Tensor:
        """As :meth:`decode`, for the guidance alone; the small decoder, if there is one, sees ``lr`` (B, 3, h, w)."""
        if self.guidance_decoder is None:
            return self.decode(latents)
        dtype = self.guidance_decoder.dtype
        return torch.as_tensor(self.guidance_decoder(latents.to(dtype), lr.to(dtype))).float()

    def prepare(self, sampling: Sampling, channels_last: bool) -> None:
        """Set the loaded networks up for ``sampling``: tiles, storage of the weights, compiled blocks."""
        self.tile = sampling.tile
        if channels_last:
            self.channels_last()
        if sampling.weights == "fp8":
            self.pack()
        if sampling.compile:
            self.compile()

    def pack(self) -> None:
        """Store the weights of UNet and TCM in 8 bits (e4m3); each layer is unpacked for its computation.

        This takes half of bf16's memory, is slower, and changes numbers. Normalisation layers keep their precision.
        """
        for network in (self.unet, self.tcm):
            if network is not None:
                network.enable_layerwise_casting(torch.float8_e4m3fn, compute_dtype=network.dtype)

    def channels_last(self) -> None:
        """Store weights, and so activations, in channels-last order: faster on the CPU (docs/performance.md)."""
        for network in (self.unet, self.vae, self.tcm, self.guidance_decoder):
            if network is not None:
                network.to(memory_format=torch.channels_last)

    def compile(self) -> None:
        """Compile the blocks of UNet, VAE and TCM; results differ by rounding (:mod:`stablevsr.method.compiled`)."""
        for network in (self.unet, self.vae, self.tcm):
            if network is not None:
                compile_blocks(network)

    def freeze_in(self, precision: Precision) -> None:
        """Move the frozen UNet and VAE to ``precision`` (the VAE stays in float32 if it would overflow)."""
        for network in (self.unet, self.vae):
            # torch's `to`: diffusers' would warn about layers to keep in float32 that these networks do not have
            torch.nn.Module.to(network, DTYPES[precision])
        keep_finite(self.vae)
