"""The tiny model's own TCM: a ControlNet that reads an image, before it has seen any neighbour frame.

A TCM that starts as a copy of the UNet has no effect for its first few hundred steps, because its zero convolutions and
its random image embedding must adapt to each other. A study in miniature trains for hardly more steps than that, so the
tiny model has a TCM that is past this phase. It learned from single frames, where the guidance image is the frame's own
x̂0 from other noise, so it knows nothing of neighbours, motion or flow: every variant of a study starts from the same
place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stablevsr.training.denoising import encode
from stablevsr.training.task import Sample
from stablevsr.training.tasks.tcm import TCMTask


class SecondViewTask(TCMTask):
    """Train a TCM on frames whose guidance image is their own x̂0, estimated from independent noise."""

    @torch.no_grad()
    def freeze(self, window: Sample, drawn: Sample) -> dict[str, Tensor]:
        """As in :class:`TCMTask`, for ``window`` with ``gt`` (B, 1, 3, H, W) and ``lq`` (B, 1, 3, H/4, W/4)."""
        image, lq = window["gt"][:, 0] * 2 - 1, window["lq"][:, 0] * 2 - 1
        drawn = {key: value.to(image.device) for key, value in drawn.items()}
        timesteps, other_noise = drawn["timesteps"], drawn["noise_neighbour"]
        with torch.autocast(image.device.type, enabled=False):  # frozen networks keep the precision they were loaded in
            latents = encode(self.frozen.vae, image, None)
            seen = self.clean(self.scheduler.add_noise(latents, other_noise, timesteps), lq, timesteps)
            guidance = self.frozen.decode(seen)
        return {"latents": latents, "noise": drawn["noise"], "timesteps": timesteps, "lq": lq, "guidance": guidance}
