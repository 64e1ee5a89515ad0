"""Compiled networks: ``torch.compile`` on each ResNet and transformer block, not on a network as a whole.

Blocks of one kind and shape share what is compiled, the loops over blocks stay ordinary Python, and the UNet can run in
two halves (:mod:`.unet`). Compiling takes minutes. Torch keeps the code on disk, in the folder that the environment
variable ``TORCHINDUCTOR_CACHE_DIR`` names, so that later runs start sooner.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D

from stablevsr.runtime.errors import UserError

BLOCKS = (ResnetBlock2D, BasicTransformerBlock)
#: Compilations that torch keeps for a kind of block: one for each width, batch, frame and tile size. It runs further
#: ones uncompiled.
RECOMPILE_LIMIT = 1024


def check_compiler() -> None:
    """Raise :class:`UserError` where there is no C++ compiler, which torch needs on a GPU too."""
    from torch._inductor.cpp_builder import get_cpp_compiler  # slow, and seldom needed

    try:
        get_cpp_compiler()
    except RuntimeError as error:
        raise UserError(
            "compiling networks needs a C++ compiler, and torch found none: install g++, let the environment variable "
            "CXX name one, or do not compile"
        ) from error


def compile_blocks(network: Any) -> None:
    """Compile the blocks of a diffusers network in place, at the first call with each shape; weights keep their names.

    This raises the limits of compilations in the whole process.
    """
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = RECOMPILE_LIMIT
    for module in network.modules():
        if isinstance(module, BLOCKS):
            module.compile(dynamic=False)
