"""Training the tiny base model: what its decoder learns texture from, and what must not change meanwhile."""

import torch
from diffusers import DDPMScheduler

from stablevsr.method.model_folder import TINY
from stablevsr.method.pipeline import load_networks
from stablevsr.training.samples import sample_generator
from stablevsr.training.task import LoopSettings
from stablevsr.training.tasks.vae import DecoderTask, texture_distance


def test_texture_is_compared_by_strength_and_place_not_by_phase():
    generator = torch.Generator().manual_seed(0)
    texture = torch.randn(1, 3, 64, 64, generator=generator)
    other = torch.randn(1, 3, 64, 64, generator=generator)
    flat = torch.zeros(1, 3, 64, 64)
    half = torch.cat([texture[..., :32], flat[..., 32:]], dim=-1)
    assert texture_distance(texture, texture) == 0
    assert texture_distance(other, texture) < 0.15 * texture_distance(flat, texture)  # the same strength, another phase
    assert texture_distance(half, texture) > 0.4 * texture_distance(flat, texture)  # the right strength, half in place
    assert texture_distance(half.flip(-1), half) > texture_distance(half, texture)


def test_the_decoder_stage_leaves_latents_as_they_are():
    torch.manual_seed(0)
    model = load_networks(TINY, with_tcm=False)
    batch = {"gt": torch.rand(2, 1, 3, 64, 64), "lq": torch.rand(2, 1, 3, 16, 16)}
    image = batch["gt"][:, 0] * 2 - 1
    before = model.vae.encode(image).latent_dist.mode()
    decoded = model.decode(before)
    task = DecoderTask(
        model.vae.requires_grad_(True), model.unet, DDPMScheduler.from_config(model.scheduler), model.prompt, []
    )
    optimizer = torch.optim.Adam(task.parameter_groups(LoopSettings())[0]["params"], 1e-3)
    task.loss(batch, [sample_generator(1, number) for number in range(2)]).backward()
    optimizer.step()
    assert torch.equal(model.vae.encode(image).latent_dist.mode(), before)
    assert not torch.allclose(model.decode(before), decoded)
