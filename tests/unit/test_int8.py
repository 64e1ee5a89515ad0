"""8-bit arithmetic: its error is that of 8 bits, and a frame does not depend on the others of its batch."""

import pytest
import torch
from torch import nn

from stablevsr.bench import int8
from stablevsr.bench.int8 import to_int8
from stablevsr.method.loading import load_network
from stablevsr.method.model_folder import TINY
from stablevsr.runtime.errors import UserError

needs_int8 = pytest.mark.skipif(not int8.has_int8(), reason="this CPU has no 8-bit arithmetic")
LAYERS = {
    "3x3": (nn.Conv2d(48, 32, 3, padding=1), (2, 48, 12, 10)),
    "halving": (nn.Conv2d(16, 24, 3, stride=2, padding=1), (2, 16, 12, 10)),
    "1x1": (nn.Conv2d(16, 24, 1), (2, 16, 7, 5)),
    "linear": (nn.Linear(48, 96), (2, 20, 48)),
    "no bias": (nn.Linear(48, 96, bias=False), (2, 20, 48)),
}


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@needs_int8
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("offset", [-3.0, 0.0, 3.0])
@torch.no_grad()
def test_a_layer_is_off_by_the_rounding_of_its_factors(name, offset):
    """In float64 with the factors rounded to 8 bits by hand, it is exact."""
    layer, shape = LAYERS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + offset
    made = int8._KINDS[type(layer)](layer)(x)
    assert made.dtype == torch.float32
    assert 1e-4 < relative(made, layer(x)) < 0.03
    scales = layer.weight.flatten(1).double().abs().amax(1).view(-1, *(1,) * (layer.weight.ndim - 1)) / 127
    weight = (layer.weight / scales).round() * scales
    rows = []
    for frame in x.double().split(1):
        low, high = min(frame.min().item(), 0), max(frame.max().item(), 0)
        step = (high - low) / 255
        zero = round(-low / step)
        rows.append(((frame / step).round() + zero).clamp(0, 255).sub(zero) * step)
    bias = None if layer.bias is None else layer.bias.double()
    if isinstance(layer, nn.Linear):
        exact = nn.functional.linear(torch.cat(rows), weight, bias)
    else:
        exact = nn.functional.conv2d(torch.cat(rows), weight, bias, layer.stride, layer.padding)
    assert relative(made.double(), exact) < 2e-3


@needs_int8
@torch.no_grad()
def test_a_network_is_close_and_its_frames_independent():
    unet, whole = (load_network("unet", TINY / "unet", torch.float32) for _ in range(2))
    to_int8(unet)
    sample = torch.randn(2, 7, 16, 16, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 5]).view(
        2, 1, 1, 1
    )
    prompt = torch.zeros(2, 77, 32)
    made, expected = (network(sample, 300, prompt).sample for network in (unet, whole))
    assert 1e-3 < relative(made, expected) < 0.1
    # float32 rounding moves single activations by a level; scales shared by the frames would differ by 0.016
    assert relative(made[:1], unet(sample[:1], 300, prompt[:1]).sample) < 3e-3
    left = [type(m) for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks) for m in block.modules()]
    assert nn.Conv2d not in left and left.count(nn.Linear) == 11  # a time embedding for each ResNet block


def test_where_there_is_none_it_is_refused(monkeypatch):
    unet = load_network("unet", TINY / "unet", torch.bfloat16)
    with pytest.raises(UserError, match="not cpu in bfloat16"):
        to_int8(unet)
    monkeypatch.setattr(int8, "has_int8", lambda: False)
    with pytest.raises(UserError, match="needs a CPU with VNNI"):
        to_int8(unet.float())
