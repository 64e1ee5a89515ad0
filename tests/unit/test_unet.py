"""The UNet in two halves is the UNet."""

import pytest
import torch

from stablevsr.method import tcm, unet
from stablevsr.method.flow import DISFlow
from stablevsr.method.model_folder import TINY
from stablevsr.method.pipeline import load_networks
from stablevsr.method.sampler import Sampler
from stablevsr.method.settings import Guidance, Sampling


@pytest.fixture(scope="module")
def model():
    return load_networks(TINY)


@pytest.mark.parametrize("size", [(16, 16), (45, 52), (9, 13)])
@pytest.mark.parametrize("guided", [True, False])
@torch.no_grad()
def test_two_halves_equal_diffusers_forward(model, size, guided):
    """Also for sides that no power of two divides, where each level must grow back to the size it came from."""
    draw = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 7, *size, generator=draw)
    image = torch.randn(2, 3, 4 * size[0], 4 * size[1], generator=draw)
    down, mid = tcm.residuals(model.tcm, sample, 400, model.prompt, image) if guided else (None, None)
    whole = model.unet(
        sample, 400, encoder_hidden_states=model.prompt.expand(2, -1, -1),
        down_block_additional_residuals=down, mid_block_additional_residual=mid,
    ).sample  # fmt: skip
    encoded = unet.encode(model.unet, sample, 400, model.prompt)
    halves = unet.decode(model.unet, encoded, model.prompt, (down, mid) if guided else None)
    assert halves.shape == whole.shape
    assert (halves - whole).abs().max() < 1e-4 * whole.abs().max()


@pytest.mark.parametrize("strategy", ["bidirectional", "single_frame"])
def test_working_ahead_changes_nothing_but_rounding(model, strategy):
    """Three sequences of four frames: all frames at once, two at once and one by one."""
    lr = torch.rand(3, 4, 3, 12, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def sampled(at_once):
        sampling, guidance = Sampling(steps=3, strategy=strategy), Guidance(flow="dis")
        generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
        return Sampler(model, sampling, guidance, DISFlow(), at_once)(lr, generators)

    frame_by_frame = sampled(1)
    for at_once in (2 * 3 * 12 * 16, 10**9):
        assert (sampled(at_once) - frame_by_frame).abs().max() < 1e-4 * frame_by_frame.abs().max()
