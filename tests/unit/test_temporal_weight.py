"""The target that moves towards the neighbour: how far, for which predictions, and never where the flow is wrong."""

import numpy as np
import pytest
import torch

from stablevsr.data.degradation import degrade
from stablevsr.data.frames import write_frame
from stablevsr.data.layouts import Clip
from stablevsr.method.settings import Guidance
from stablevsr.training.denoising import clean_estimate, encode
from tests.unit.test_training import frozen, published, task_for  # noqa: F401 (a fixture)

WEIGHT = 0.4


def no_motion(target, source):
    return torch.zeros(len(target), 2, *target.shape[-2:])


@pytest.mark.parametrize("model", ["model_v", "model_eps"])
def test_the_target_is_that_of_a_clean_latent_moved_towards_the_neighbour(vectors, published, model):  # noqa: F811
    task = task_for(vectors, model, flow=no_motion, temporal_weight=WEIGHT)
    sample = frozen(task, published)
    sample["to_neighbour"] = torch.randn_like(sample["latents"])  # this random model's own are too small to see
    noisy, _ = task.predict(sample)
    reached = clean_estimate(task.scheduler, noisy, task.target(sample), sample["timesteps"])
    noise_share = 1 - task.scheduler.alphas_cumprod[sample["timesteps"]][:, None, None, None]
    wanted = sample["latents"] + WEIGHT * noise_share * sample["to_neighbour"]
    torch.testing.assert_close(reached, wanted, atol=2e-4, rtol=1e-3)


def test_without_motion_it_leads_to_the_encoded_guidance_image(vectors, published):  # noqa: F811
    task = task_for(vectors, flow=no_motion, guidance=Guidance(warp="aligned"), temporal_weight=WEIGHT)
    sample = frozen(task, published)
    with torch.no_grad():
        there = encode(task.frozen.vae, sample["guidance"], None)
    torch.testing.assert_close(sample["latents"] + sample["to_neighbour"], there, atol=1e-6, rtol=1e-3)


def test_the_goal_is_the_same_whatever_the_tcm_is_shown(vectors, published):  # noqa: F811
    samples = [
        frozen(task_for(vectors, flow=no_motion, guidance=guidance, temporal_weight=WEIGHT), published)
        for guidance in (
            Guidance(warp="aligned"),
            Guidance(warp="published"),
            Guidance(source="none"),
            Guidance(source="xt"),
            Guidance(motion_compensation="none"),
        )
    ]
    for sample in samples[1:]:
        torch.testing.assert_close(sample["to_neighbour"], samples[0]["to_neighbour"])


def test_where_the_flow_leaves_the_frame_the_target_is_the_ground_truth(vectors, published):  # noqa: F811
    def away(target, source):
        flow = no_motion(target, source)
        flow[:, 0, :, flow.shape[-1] // 2 :] = 1000  # the right half has no counterpart
        return flow

    sample = frozen(task_for(vectors, flow=away, temporal_weight=WEIGHT), published)
    half = sample["to_neighbour"].shape[-1] // 2
    assert torch.count_nonzero(sample["to_neighbour"][..., half:]) == 0
    assert torch.count_nonzero(sample["to_neighbour"][..., :half]) > 0


def test_validation_is_against_the_ground_truth(vectors, tmp_path):
    files = [[tmp_path / size / f"{number}.png" for number in range(3)] for size in ("gt", "lr")]
    for gt, lr in zip(*files, strict=True):
        frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        write_frame(gt, frame)
        write_frame(lr, degrade(frame))
    clip = Clip("clip", tuple(files[0]), tuple(files[1]))
    plain, moved = (task_for(vectors, flow=no_motion, temporal_weight=weight) for weight in (0.0, WEIGHT))
    for task in (plain, moved):
        task.hold_out([clip], 3, 32, torch.device("cpu"))
    assert len(plain.held_out) == len(moved.held_out) > 0
    for of_plain, of_moved in zip(plain.held_out, moved.held_out, strict=True):
        assert torch.equal(plain.errors(of_plain), moved.errors(of_moved))
