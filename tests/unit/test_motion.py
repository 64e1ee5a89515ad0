"""Warps by known flows, and flow estimators on images that moved by a known amount."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.optical_flow import raft_large

from stablevsr.method.flow import DISFlow, RAFTFlow, _tiles, occlusion_mask, warp


def constant_flow(x, y, height, width):
    return torch.tensor([float(x), float(y)])[None, :, None, None].expand(1, 2, height, width).contiguous()


@given(st.integers(8, 40), st.integers(8, 40), st.integers(-4, 4), st.integers(-4, 4))
@settings(max_examples=40, deadline=None)
def test_aligned_warp_by_whole_pixels_is_a_shift(height, width, dx, dy):
    image = torch.rand(1, 3, height, width)
    out = warp(image, constant_flow(dx, dy, height, width), "aligned")
    expected = torch.zeros_like(image)
    rows = [y for y in range(height) if 0 <= y + dy < height]
    columns = [x for x in range(width) if 0 <= x + dx < width]
    for y in rows:
        for x in columns:
            expected[..., y, x] = image[..., y + dy, x + dx]
    inner = out[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    torch.testing.assert_close(
        inner, expected[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], atol=1e-4, rtol=1e-4
    )


def test_published_grid_is_half_a_pixel_off_at_the_borders():
    """Column x is read at x*W/(W-1) - 0.5, so a ramp comes back shifted by -0.5 left to +0.5 right."""
    width, height = 33, 9
    ramp = torch.arange(width, dtype=torch.float32).expand(1, 1, height, width).contiguous()
    out = warp(ramp, torch.zeros(1, 2, height, width), "published")[0, 0, height // 2]
    x = torch.arange(1, width - 1)
    torch.testing.assert_close(out[1:-1], x * width / (width - 1) - 0.5, atol=1e-4, rtol=1e-5)


def shifted_pair(shift):
    generator = torch.Generator().manual_seed(0)
    wide = torch.nn.functional.interpolate(
        torch.rand(1, 3, 24, 30, generator=generator), scale_factor=6.0, mode="bicubic"
    )
    wide = wide.clamp(0, 1) * 2 - 1
    return wide[..., 8:-8, 8 : 8 + 128], wide[..., 8:-8, 8 + shift : 8 + shift + 128]


def test_dis_finds_a_shift_and_warping_by_it_restores_the_target():
    target, source = shifted_pair(5)  # source(x) = target(x + 5), so target(x) = source(x - 5)
    flow = DISFlow()(target, source)
    middle = flow[..., 20:-20, 20:-20]
    assert (middle[:, 0] + 5).abs().mean() < 0.3 and middle[:, 1].abs().mean() < 0.3
    restored = warp(source, flow, "aligned")
    assert (restored - target)[..., 20:-20, 20:-20].abs().mean() < 0.02


def test_dis_takes_frames_below_its_pyramid():
    assert DISFlow()(torch.zeros(2, 3, 12, 20), torch.zeros(2, 3, 12, 20)).shape == (2, 2, 12, 20)


def test_occlusion_masks_what_leaves_the_frame_and_what_disagrees():
    forward, backward = constant_flow(4, 0, 24, 24), constant_flow(-4, 0, 24, 24)
    mask = occlusion_mask(forward, backward)
    assert mask[..., :20].min() == 1 and mask[..., 20:].max() == 0
    assert occlusion_mask(forward, constant_flow(4, 0, 24, 24)).max() == 0


@pytest.mark.parametrize("size", [100, 720, 721, 1500, 2600])
def test_tiles_cover_every_pixel_and_stay_within_bounds(size):
    total = torch.zeros(size)
    for tile, weights in _tiles(size, 720):
        assert tile.stop - tile.start <= 720
        total[tile] += weights
    assert total.min() > 0  # the estimate is divided by this sum, so it need not be one, but it must never vanish


@pytest.mark.parametrize("size", [(150, 140), (333, 257)])
def test_tiled_flow_equals_untiled_flow_and_no_tile_is_larger_than_allowed(monkeypatch, size):
    """An estimate that depends on the pixel alone: tiles must be put together where they were cut, weights one."""
    seen = []

    def by_pixel(self, target, source):
        seen.append(tuple(target.shape[-2:]))
        return (target - 3 * source)[:, :2]

    monkeypatch.setattr(RAFTFlow, "_estimate", by_pixel)
    target, source = torch.rand(2, 2, 3, *size, generator=torch.Generator().manual_seed(0))
    raft = RAFTFlow(None)
    untiled = raft(target, source)
    assert seen == [size]
    monkeypatch.setattr("stablevsr.method.flow.RAFT_TILE", (130, 136))
    torch.testing.assert_close(raft(target, source), untiled)
    assert len(seen) > 4 and all(height <= 130 and width <= 136 for height, width in seen[1:])


def test_raft_pads_small_and_uneven_frames_and_loads_without_the_network(tmp_path):
    torch.manual_seed(0)
    first = RAFTFlow(None, norm="inference")
    torch.save(first.model.state_dict(), tmp_path / "raft.pth")
    again = RAFTFlow(tmp_path / "raft.pth", norm="inference")
    target, source = torch.rand(1, 3, 50, 133) * 2 - 1, torch.rand(1, 3, 50, 133) * 2 - 1
    flow = again(target, source)
    assert flow.shape == (1, 2, 50, 133) and torch.isfinite(flow).all()
    assert torch.equal(flow, first(target, source))


@pytest.fixture(scope="module")
def raft_file(tmp_path_factory):
    """RAFT with random weights and running statistics that are not those of any frame."""
    torch.manual_seed(0)
    network = raft_large(weights=None)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    file = tmp_path_factory.mktemp("raft") / "raft.pth"
    torch.save(network.state_dict(), file)
    return file


def raft_left_in_training_mode(file):
    network = raft_large(weights=None)
    network.load_state_dict(torch.load(file, weights_only=True))
    return network.train()


def two_pairs():
    """Two targets and their sources (2, 3, 128, 136) in [-1, 1], one pair dark and flat, the other bright."""
    frames = torch.rand(2, 2, 3, 128, 136, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return frames[0] * torch.tensor([0.2, 1.0])[:, None, None, None] - 0.3, frames[1] * 0.5


@torch.no_grad()
def test_the_published_norm_is_that_of_a_network_left_in_training_mode(raft_file):
    target, source = two_pairs()
    found = RAFTFlow(raft_file)(target, source)
    network = raft_left_in_training_mode(raft_file)  # its statistics move from pair to pair, which changes nothing
    expected = torch.cat([network(t, s)[-1] for t, s in zip(target.split(1), source.split(1), strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    trained = RAFTFlow(raft_file, norm="inference")(target, source)
    torch.testing.assert_close(trained, network_in_inference(raft_file, target, source), rtol=1e-4, atol=1e-4)
    assert (found - trained).abs().mean() > 0.1


def network_in_inference(file, target, source):
    return raft_left_in_training_mode(file).eval()(target, source)[-1]


@torch.no_grad()
def test_the_published_norm_takes_every_pair_alone(raft_file):
    target, source = two_pairs()
    estimator = RAFTFlow(raft_file)
    together = estimator(target, source)
    alone = torch.cat([estimator(t, s) for t, s in zip(target.split(1), source.split(1), strict=True)])
    assert torch.equal(together, alone)
    over_the_batch = raft_left_in_training_mode(raft_file)(target, source)[-1]
    assert (together - over_the_batch).abs().mean() > 0.1
