"""Decoding latents within the available memory: together, one by one, or in overlapping tiles.

The published code runs out of memory in the full-size decoder. Tiles are those of diffusers, cross-faded over a
quarter of their side. They change the image a little, because the decoder's normalisation sees a tile and not the frame
(docs/performance.md), so they are used only on request or when memory runs out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stablevsr.method.settings import SMALLEST_TILE
from stablevsr.runtime.errors import UserError

TILES = (192, 128, 96, 64, 48, SMALLEST_TILE)  #: sides in latent pixels (a quarter of the image's), from good to small


def decode(vae: Any, latents: Tensor, tile: int | None, one_by_one: bool) -> Tensor:
    """RGB (B, 3, 4h, 4w) of unscaled latents (B, 4, h, w).

    Args:
        vae: the network.
        latents: of the frames.
        tile: side of the tiles in latent pixels; None decodes whole frames.
        one_by_one: decode one frame at a time, which needs less memory; results differ by rounding.
    """
    vae.use_tiling = tile is not None
    if tile is not None:
        vae.tile_latent_min_size = tile
        vae.tile_sample_min_size = tile * 2 ** (len(vae.config.block_out_channels) - 1)
    parts = torch.split(latents, 1 if one_by_one else len(latents))
    return torch.cat([vae.decode(part, return_dict=False)[0] for part in parts])


def smaller(tile: int | None, latents: Tensor) -> int:
    """The next smaller tile when ``latents`` did not fit into memory; :class:`UserError` after the smallest."""
    side = max(latents.shape[-2:])
    for candidate in TILES:
        if candidate < min(side, tile or side):
            return candidate
    height, width = latents.shape[-2:]
    raise UserError(
        f"the GPU has too little memory for frames of {width}x{height}, even in tiles of {tile or side} latent pixels: "
        "use --precision bf16, a GPU with more memory, or --device cpu"
    )
