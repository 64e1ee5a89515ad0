"""A patch discriminator for decoders, as in latent diffusion (Rombach et al., 2022), with spectral normalisation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm


class PatchCritic(nn.Module):
    """Scores (B, 1, h, w) of overlapping patches of 34 pixels of an RGB batch (B, 3, H, W): high for real frames."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in ((3, width, 2), (width, 2 * width, 2), (2 * width, 4 * width, 1)):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, stride, 1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(4 * width, 1, 4, 1, 1)))

    def forward(self, images: Tensor) -> Tensor:
        """The scores of images in [-1, 1]."""
        return self.layers(images)

    def losses(self, made: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """The maker's loss, with gradients for ``made`` only, and the critic's hinge loss, for its weights only.

        Their sum can be minimised by one optimiser.
        """
        fixed = {name: value.detach() for name, value in self.state_dict(keep_vars=True).items()}
        maker = -functional_call(self, fixed, (made,)).mean()
        own = F.relu(1 - self(real)).mean() + F.relu(1 + self(made.detach())).mean()
        return maker, own
