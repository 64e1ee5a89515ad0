"""The cheaper convolutions: the library's numbers where they apply, the library itself where they do not."""

from __future__ import annotations

import pytest
import torch

from stablevsr.metrics import convolutions
from stablevsr.metrics.convolutions import WinogradConvolutions


@pytest.mark.parametrize(("count", "side"), [(1, 40), (3, 24), (2, 150), (1, 8)])
def test_winograd_convolutions_are_the_direct_ones_to_rounding(
    count: int, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not torch._nnpack_available():
        pytest.skip("torch has no NNPACK for this processor")
    taken = []
    winograd = convolutions._winograd
    monkeypatch.setattr(convolutions, "_winograd", lambda *given: taken.append(1) or winograd(*given))
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(16, 24, 3, padding=1).eval()
    images = torch.rand(count, 16, side, side + 3)
    with torch.inference_mode():
        direct = layer(images)
        with WinogradConvolutions():
            fast = layer(images)
    assert bool(taken) == (side > 20)  # small images are left to the usual way
    assert fast.shape == direct.shape
    torch.testing.assert_close(fast, direct, atol=2e-5, rtol=0)


@pytest.mark.parametrize("options", [{"stride": 2, "padding": 1}, {"padding": 0}, {"padding": 2, "dilation": 2}])
def test_other_convolutions_are_left_alone(options: dict[str, int]) -> None:
    layer = torch.nn.Conv2d(8, 8, 3, **options)
    images = torch.rand(2, 8, 32, 32)
    with torch.inference_mode():
        direct = layer(images)
        with WinogradConvolutions():
            assert torch.equal(layer(images), direct)
            named = torch.nn.functional.conv2d(images, layer.weight, layer.bias, padding=1, groups=1)
    torch.testing.assert_close(named, torch.nn.functional.conv2d(images, layer.weight, layer.bias, padding=1))


def test_a_torch_without_nnpack_computes_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "_nnpack_spatial_convolution")
    layer, images = torch.nn.Conv2d(8, 8, 3, padding=1), torch.rand(1, 8, 32, 32)
    with torch.inference_mode():
        direct = layer(images)
        with WinogradConvolutions():
            assert torch.equal(layer(images), direct)
