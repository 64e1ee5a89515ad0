"""tOF and the warping error, on motions that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stablevsr.metrics.builtin.flow import ChunkFlows, dis_flows, warping_error
from stablevsr.metrics.chunks import Chunk
from stablevsr.metrics.tools import Tools


def test_tof_is_the_mean_over_components_and_pixels() -> None:
    gt = torch.zeros(2, 2, 4, 6)
    sr = gt.clone()
    sr[0, 0] = 3.0  # only x, everywhere: (3 + 0) / 2
    sr[1, :, :2] = -2.0  # both components on half of the pixels
    fields = iter((gt, sr))
    flows = ChunkFlows(lambda target, source: next(fields), "kind", Tools(torch.device("cpu")))
    black = np.zeros((3, 4, 6, 3), np.uint8)
    chunk = Chunk("clip", ("0", "1", "2"), 0, black, (black,), torch.device("cpu"))
    assert flows.difference(chunk)[0].tolist() == pytest.approx([1.5, 1.0])


def test_warping_error_of_a_panned_texture_is_zero_where_visible() -> None:
    texture = torch.rand(1, 3, 20, 40, generator=torch.Generator().manual_seed(0))
    frames = torch.cat([texture[..., 2:34], texture[..., :32]])  # content moves 2 pixels to the right
    flow = torch.zeros(1, 2, 20, 32)
    flow[:, 0] = -2.0
    visible = torch.ones(1, 1, 20, 32, dtype=torch.bool)
    visible[..., :2] = False  # comes in from the left, not in the frame before
    assert warping_error(frames, flow, visible).item() == pytest.approx(0, abs=1e-6)
    assert warping_error(frames, flow, torch.ones_like(visible)).item() > 0.01


def test_warping_error_averages_over_visible_pixels_and_channels_only() -> None:
    frames = torch.zeros(2, 3, 4, 4)
    frames[1, 0, 0] = 0.6  # one channel of one row
    frames[1, :, 3] = 1.0
    visible = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    visible[..., :2, :] = True
    still = torch.zeros(1, 2, 4, 4)
    assert warping_error(frames, still, visible).item() == pytest.approx(0.6 / 3 / 2)
    assert math.isnan(warping_error(frames, still, torch.zeros_like(visible)).item())


def test_flow_runs_from_a_frame_to_the_one_before() -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 24, 24, generator=generator)
    texture = torch.nn.functional.interpolate(coarse, size=(96, 96), mode="bicubic").clamp(0, 1)
    frames = torch.cat([texture[..., 16:80, 16:80], texture[..., 16:80, 13:77]])  # 3 pixels to the right
    levels = frames.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    chunk = Chunk("clip", ("0", "1"), 0, levels, (), torch.device("cpu"))
    flows = dis_flows(Tools(chunk.device))
    flow = flows.of_gt(chunk)
    assert flow.shape == (1, 2, 64, 64)
    inner = flow[0, :, 16:-16, 16:-16].mean((1, 2))
    assert inner.tolist() == pytest.approx([-3.0, 0.0], abs=0.2)
    visible = flows.visible(chunk)[0, 0]
    assert visible[16:-16, 16:-16].float().mean() > 0.95
    assert not visible[:, :2].any()  # what came in from the left was not there before
