"""BasicVSR++ with its published weights (Chan et al., CVPR 2022; Apache-2.0), which come from OpenMMLab."""

from __future__ import annotations

from stablevsr.baselines import Upscaler, register


@register("basicvsr-pp-reds4", weights=("basicvsr_pp_reds4",), recurrent=True)
def load_reds4(device: str, precision: str) -> Upscaler:
    """Trained on REDS, training and validation clips, without the four of REDS4."""
    return _load("basicvsr_pp_reds4", device, precision)


@register("basicvsr-pp-vimeo-bi", weights=("basicvsr_pp_vimeo_bi",), recurrent=True)
def load_vimeo_bicubic(device: str, precision: str) -> Upscaler:
    """Trained on Vimeo-90K with bicubic degradation."""
    return _load("basicvsr_pp_vimeo_bi", device, precision)


@register("basicvsr-pp-vimeo-bd", weights=("basicvsr_pp_vimeo_bd",), recurrent=True)
def load_vimeo_blur(device: str, precision: str) -> Upscaler:
    """Trained on Vimeo-90K with blur and subsampling."""
    return _load("basicvsr_pp_vimeo_bd", device, precision)


def _load(weights: str, device: str, precision: str) -> Upscaler:
    from stablevsr.baselines.networks.basicvsr_pp import BasicVSRPlusPlus
    from stablevsr.baselines.networks.checkpoints import from_mmediting
    from stablevsr.baselines.networks.clips import load_state, read_weights, upscaler

    network = BasicVSRPlusPlus()
    load_state(network, from_mmediting(read_weights(weights), "generator."), weights)
    return upscaler(network, device, precision)
