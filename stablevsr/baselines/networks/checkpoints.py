"""Checkpoints of mmediting (mmagic) with the layer names of this package, which are BasicSR's."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

#: mmediting's names as patterns, and the names here. SpyNet's convolutions are numbered without the ReLUs between them.
RENAMED = (
    (r"upsample([12])\.upsample_conv\.", r"upconv\1."),
    (r"\b(backward|forward)_resblocks\.", r"\1_trunk."),
)
SPYNET = re.compile(r"(spynet\.basic_module\.\d+\.basic_module)\.(\d+)\.conv\.")


def from_mmediting(checkpoint: dict[str, Any], prefix: str) -> dict[str, Tensor]:
    """The renamed layers of the network whose names begin with ``prefix``, such as ``generator.``."""
    layers: dict[str, Tensor] = checkpoint.get("state_dict", checkpoint)
    return {_renamed(name.removeprefix(prefix)): value for name, value in layers.items() if name.startswith(prefix)}


def _renamed(name: str) -> str:
    for pattern, name_here in RENAMED:
        name = re.sub(pattern, name_here, name)
    return SPYNET.sub(lambda match: f"{match[1]}.{2 * int(match[2])}.", name)
