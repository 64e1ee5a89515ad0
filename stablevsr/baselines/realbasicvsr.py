"""RealBasicVSR with its published weights (Chan et al., CVPR 2022; Apache-2.0), which come from OpenMMLab."""

from __future__ import annotations

from stablevsr.baselines import Upscaler, register


@register("realbasicvsr", weights=("realbasicvsr",), recurrent=True)
def load(device: str, precision: str) -> Upscaler:
    """Trained on REDS with the degradations of real footage; the moving average of the generator, as in its paper."""
    from stablevsr.baselines.networks.checkpoints import from_mmediting
    from stablevsr.baselines.networks.clips import load_state, read_weights, upscaler
    from stablevsr.baselines.networks.realbasicvsr import RealBasicVSR

    network = RealBasicVSR()
    load_state(network, from_mmediting(read_weights("realbasicvsr"), "generator_ema."), "realbasicvsr")
    return upscaler(network, device, precision)
