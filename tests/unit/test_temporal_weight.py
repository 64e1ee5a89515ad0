"""The target that moves towards the neighbour: how far, for which predictions, and never where the flow is wrong."""

import pytest
import torch

from stablevsr.method.settings import Guidance
from stablevsr.training.denoising import clean_estimate, encode
from tests.unit.test_training import frozen, published, task_for  # noqa: F401 (a fixture)

WEIGHT = 0.4


def no_motion(target, source):
    return torch.zeros(len(target), 2, *target.shape[-2:])


@pytest.mark.parametrize("model", ["model_v", "model_eps"])
def test_the_target_stands_for_a_clean_latent_moved_towards_the_neighbour(vectors, published, model):  # noqa: F811
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
            Guidance(),
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


def test_validation_stays_against_the_ground_truth(vectors, published):  # noqa: F811
    plain = task_for(vectors, flow=no_motion)
    moved = task_for(vectors, flow=no_motion, temporal_weight=WEIGHT)
    sample, other = frozen(plain, published), frozen(moved, published)
    torch.testing.assert_close(plain.errors(sample), moved.errors(other))
    assert moved.loss(other, []) != plain.loss(sample, [])
    assert "to_neighbour" not in sample
