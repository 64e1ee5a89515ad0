"""The UNet in two halves, because only the second one depends on the neighbour frame.

The TCM's residuals are added to the skip connections and to the mid block's output. The first half comes before that
and can be computed for several frames of a denoising step at once. The two halves run the modules of diffusers'
``UNet2DConditionModel`` in the order of its ``forward``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor

Residuals = tuple[tuple[Tensor, ...], Tensor]  #: of the skip connections, and of the mid block


class Encoded(NamedTuple):
    """The output of the first half for B frames."""

    embedding: Tensor  #: of the timestep, shared by all frames
    skips: tuple[Tensor, ...]  #: from the largest to the smallest
    middle: Tensor  #: the mid block's output

    def part(self, some: slice) -> Encoded:
        """The same for a slice of the batch."""
        return Encoded(self.embedding, tuple(skip[some] for skip in self.skips), self.middle[some])


@apply_forward_hook  # type: ignore[untyped-decorator]  # CPU offload hooks `forward`, which is never called: this decorator runs the hook here
def encode(unet: Any, sample: Tensor, timestep: int, prompt: Tensor) -> Encoded:
    """First half: down blocks and mid block of (B, 7, h, w) samples; ``prompt`` is (1, 77, C)."""
    prompt = prompt.expand(len(sample), -1, -1)
    embedding = unet.time_embedding(unet.get_time_embed(sample=sample[:1], timestep=timestep))
    hidden = unet.conv_in(sample)
    skips = [hidden]
    for block in unet.down_blocks:
        hidden, kept = block(hidden_states=hidden, temb=embedding, **_cross(block, prompt))
        skips += kept
    middle = unet.mid_block(hidden, embedding, **_cross(unet.mid_block, prompt))
    return Encoded(embedding, tuple(skips), middle)


def decode(unet: Any, encoded: Encoded, prompt: Tensor, residuals: Residuals | None) -> Tensor:
    """Second half: the model's output (B, 4, h, w), with the TCM's ``residuals`` if there are any."""
    prompt = prompt.expand(len(encoded.middle), -1, -1)
    skips, hidden = list(encoded.skips), encoded.middle
    if residuals is not None:
        skips = [skip + residual for skip, residual in zip(skips, residuals[0], strict=True)]
        hidden = hidden + residuals[1]
    for block in unet.up_blocks:
        taken = [skips.pop() for _ in block.resnets][::-1]
        # upsample to the size of the next skip connection: twice this one's, or one pixel less
        size = skips[-1].shape[2:] if skips else None
        hidden = block(
            hidden_states=hidden,
            res_hidden_states_tuple=tuple(taken),
            temb=encoded.embedding,
            upsample_size=size,
            **_cross(block, prompt),
        )
    return torch.as_tensor(unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden))))


def _cross(block: Any, prompt: Tensor) -> dict[str, Tensor]:
    """The prompt for blocks that attend to it."""
    return {"encoder_hidden_states": prompt} if getattr(block, "has_cross_attention", False) else {}
