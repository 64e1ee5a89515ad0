"""BasicVSR with its published weights (Chan et al., CVPR 2021): the video super-resolution baseline.

The weights come from the package index. A side of 32 pixels or less is too small for SpyNet's coarsest
level: it is padded to 64 by repeating the edge, and the result is cropped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stablevsr.baselines import Upscaler, register
from stablevsr.data.degradation import SCALE

TOO_SMALL, EXTENDED = 32, 64  #: pixels a side


@register("basicvsr-reds4", weights=("basicvsr_reds4",))
def load_reds4(device: str) -> Upscaler:
    """Trained on REDS without the four clips of REDS4."""
    return _upscaler("basicvsr_reds4", device)


@register("basicvsr-vimeo-bi", weights=("basicvsr_vimeo_bi",))
def load_vimeo_bicubic(device: str) -> Upscaler:
    """Trained on Vimeo-90K with bicubic degradation."""
    return _upscaler("basicvsr_vimeo_bi", device)


@register("basicvsr-vimeo-bd", weights=("basicvsr_vimeo_bd",))
def load_vimeo_blur(device: str) -> Upscaler:
    """Trained on Vimeo-90K with blur and subsampling."""
    return _upscaler("basicvsr_vimeo_bd", device)


def _upscaler(weights: str, device: str) -> Upscaler:
    import torch
    import torch.nn.functional as F

    from stablevsr.baselines.networks.basicvsr import BasicVSR
    from stablevsr.data.downloads.fetch import fetch
    from stablevsr.data.downloads.record import is_present
    from stablevsr.data.downloads.weights import weight_file

    if not is_present(weights, Path("data")):
        fetch([weights], Path("data"))
    network = BasicVSR().eval()
    network.load_state_dict(torch.load(weight_file(weights), map_location="cpu", weights_only=True)["params"])
    network.to(device)

    def upscale(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        clip = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
        height, width = clip.shape[-2:]
        down, right = (EXTENDED - side if side <= TOO_SMALL else 0 for side in (height, width))
        clip = F.pad(clip, (0, right, 0, down), mode="replicate").to(device)
        result = network(clip)[..., : SCALE * height, : SCALE * width].clamp(0, 1)
        return np.asarray(result.permute(0, 2, 3, 1).cpu())

    return upscale
