"""BasicVSR with its published weights (Chan et al., CVPR 2021; Apache-2.0), which come from the package index."""

from __future__ import annotations

from stablevsr.baselines import Upscaler, register


@register("basicvsr-reds4", weights=("basicvsr_reds4",), recurrent=True)
def load_reds4(device: str, precision: str) -> Upscaler:
    """Trained on REDS without the four clips of REDS4."""
    return _load("basicvsr_reds4", device, precision)


@register("basicvsr-vimeo-bi", weights=("basicvsr_vimeo_bi",), recurrent=True)
def load_vimeo_bicubic(device: str, precision: str) -> Upscaler:
    """Trained on Vimeo-90K with bicubic degradation."""
    return _load("basicvsr_vimeo_bi", device, precision)


@register("basicvsr-vimeo-bd", weights=("basicvsr_vimeo_bd",), recurrent=True)
def load_vimeo_blur(device: str, precision: str) -> Upscaler:
    """Trained on Vimeo-90K with blur and subsampling."""
    return _load("basicvsr_vimeo_bd", device, precision)


def _load(weights: str, device: str, precision: str) -> Upscaler:
    from stablevsr.baselines.networks.basicvsr import BasicVSR
    from stablevsr.baselines.networks.clips import load_state, read_weights, upscaler

    network = BasicVSR()
    load_state(network, read_weights(weights)["params"], weights)
    return upscaler(network, device, precision)
