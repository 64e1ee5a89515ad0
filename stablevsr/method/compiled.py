"""Compiled networks: ``torch.compile`` on each ResNet and transformer block, not on a network as a whole.

Blocks of one kind and shape share what is compiled, the loops over blocks stay ordinary Python, and the UNet can run in
two halves (:mod:`.unet`). Torch keeps compiled code on disk, in the folder that the environment variable
``TORCHINDUCTOR_CACHE_DIR`` names, so only the first run on a machine waits for the compiler.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D

from stablevsr.runtime.errors import UserError

BLOCKS = (ResnetBlock2D, BasicTransformerBlock)
COMPILERS = ("c++", "g++", "clang++", "cl")
#: Of one kind of block: widths times batches times frame sizes. After as many torch would leave the rest uncompiled.
SHAPES = 256


def compile_blocks(network: Any) -> None:
    """Compile the blocks of a diffusers network in place, at the first call with each shape; weights keep their names.

    Raises :class:`UserError` where there is no C++ compiler, which torch needs on a GPU too.
    """
    if not any(map(shutil.which, (*COMPILERS, os.environ.get("CXX", "")))):
        raise UserError("compiling networks needs a C++ compiler, and none was found: install g++, or do not compile")
    torch._dynamo.config.recompile_limit = SHAPES
    for module in network.modules():
        if isinstance(module, BLOCKS):
            module.compile(dynamic=False)
