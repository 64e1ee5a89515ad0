"""The Temporal Conditioning Module: a ControlNet made from the UNet's encoder (paper, section 4.1).

Its inputs are the UNet's (noisy latent and LR frame, 7 channels; the timestep) and the motion-compensated RGB of the
neighbour frame. It adds residuals to the UNet's skip connections and mid block. The class is diffusers'
``ControlNetModel``, so a TCM loads anywhere diffusers does.
"""

from __future__ import annotations

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn


def from_unet(unet: UNet2DConditionModel, conditioning_init: float = 0.0) -> ControlNetModel:
    """A TCM whose encoder is copied from ``unet``; its output convolutions are zero, so at first it changes nothing.

    The image embedding has widths (1/4, 1/2, 1) of the UNet's first block, (64, 128, 256) at full size, and
    two stride-2 stages that bring the x4 image to the latents' size. ``conditioning_init`` above zero draws the
    embedding's last convolution with that standard deviation instead of zeros; the tiny model needs it to learn.
    """
    width = unet.config.block_out_channels[0]
    tcm = ControlNetModel.from_unet(
        unet, conditioning_channels=3, conditioning_embedding_out_channels=(width // 4, width // 2, width)
    )
    if conditioning_init > 0:
        nn.init.normal_(tcm.controlnet_cond_embedding.conv_out.weight, std=conditioning_init)
    return tcm


def split_parameters(tcm: ControlNetModel) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(copied from the UNet, new) parameters, for learning rates by group.

    New are the image embedding and the zero convolutions, whose names begin with ``controlnet_``.
    """
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for name, parameter in tcm.named_parameters():
        groups[name.startswith("controlnet_")].append(parameter)
    return groups


def residuals(
    tcm: ControlNetModel, sample: Tensor, timestep: Tensor | int, prompt: Tensor, image: Tensor
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Run the TCM: (residuals of the skip connections, residual of the mid block).

    ``sample`` (B, 7, h, w) is [noisy latent, LR frame in [-1, 1]], ``prompt`` (1, 77, C) the empty prompt's encoding,
    ``image`` (B, 3, 4h, 4w) the guidance, nominally in [-1, 1], unclamped as published.
    """
    down, mid = tcm(
        sample,
        timestep,
        encoder_hidden_states=prompt.expand(len(sample), -1, -1),
        controlnet_cond=image.to(sample.dtype),
        return_dict=False,
    )
    return tuple(down), torch.as_tensor(mid)
