"""Training the tiny base model: its tasks learn, each changes only what it may, and a second run resumes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from stablevsr.data.frames import write_frame
from stablevsr.data.layouts import Clip, load_sequences
from stablevsr.method import tcm
from stablevsr.method.model_folder import TINY
from stablevsr.method.networks import ModelParts
from stablevsr.method.pipeline import StableVSRPipeline, load_networks
from stablevsr.method.scheduler import Schedule
from stablevsr.method.settings import Guidance, Training
from stablevsr.runtime.errors import UserError
from stablevsr.training import base_model
from stablevsr.training.base_model import RECIPES, BaseTraining, steps_by_stage
from stablevsr.training.perceptual import PerceptualLoss
from stablevsr.training.samples import sample_generator
from stablevsr.training.task import LoopSettings, TrainingTask
from stablevsr.training.tasks.tcm_start import SecondViewTask
from stablevsr.training.tasks.unet_perceptual import PerceptualUNetTask
from stablevsr.training.tasks.vae import COLOUR_BLOCK, DecoderTask, VAETask, colour_distance, texture_distance


class PixelDistance(PerceptualLoss):
    """In place of VGG, whose weights no test downloads."""

    def __init__(self) -> None:
        pass

    def __call__(self, image: Tensor, target: Tensor) -> Tensor:
        return (image - target).square().mean()


def parts() -> ModelParts:
    torch.manual_seed(0)
    return load_networks(TINY, with_tcm=False)


def vae_task() -> VAETask:
    return VAETask(parts().vae.requires_grad_(True), [], PixelDistance())


def unet_task() -> PerceptualUNetTask:
    model = parts()
    scheduler = DDPMScheduler.from_config(model.scheduler)
    unet = model.unet.requires_grad_(True)
    return PerceptualUNetTask(unet, model.vae, scheduler, model.prompt, [], perceptual=PixelDistance())


def decoder_task() -> DecoderTask:
    model = parts()
    schedules = [Schedule(model.scheduler, "ddpm", 2)]
    return DecoderTask(model.vae.requires_grad_(True), model.unet, model.prompt, [], PixelDistance(), schedules)


def tcm_start_task() -> SecondViewTask:
    model = parts()
    module = tcm.from_unet(model.unet, base_model.CONDITIONING_INIT)
    for name, parameter in module.named_parameters():  # past the zeros, where a few steps are enough
        if name.startswith(("controlnet_down_blocks", "controlnet_mid_block")):
            torch.nn.init.normal_(parameter, std=0.02)
    return SecondViewTask(module, model, Training(), Guidance(), None, [])


def crops() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    low = torch.rand(2, 1, 3, 8, 8, generator=generator)
    return {"gt": torch.nn.functional.interpolate(low[:, 0], scale_factor=4.0)[:, None], "lq": low}


def learn(task: TrainingTask, steps: int) -> list[float]:
    """The losses of a few steps on one batch with the same draws."""
    optimizer = torch.optim.Adam(task.parameter_groups(LoopSettings(learning_rate=2e-4)))
    losses = []
    for _ in range(steps):
        loss = task.loss(crops(), [sample_generator(1, number) for number in range(2)])
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


@pytest.mark.parametrize("make", [vae_task, unet_task, decoder_task, tcm_start_task])
def test_the_loss_falls(make: Callable[[], TrainingTask]) -> None:
    losses = learn(make(), 6)
    assert losses[-1] < 0.97 * losses[0]


def test_the_decoder_stage_changes_the_decoder_alone() -> None:
    task = decoder_task()
    image = crops()["gt"][:, 0] * 2 - 1
    before, unet = task.model.encode(image).latent_dist.mode(), [p.clone() for p in task.unet.parameters()]
    decoded = task.decode(before)
    learn(task, 1)
    assert torch.equal(task.model.encode(image).latent_dist.mode(), before)
    assert all(torch.equal(a, b) for a, b in zip(unet, task.unet.parameters(), strict=True))
    assert not torch.allclose(task.decode(before), decoded)


def test_the_decoder_learns_on_what_the_pipeline_samples() -> None:
    task = decoder_task()
    frame = (crops()["lq"][0, 0] * 255).round().to(torch.uint8)
    pipe = StableVSRPipeline.from_pretrained(TINY, controlnet=None, device="cpu", tile=None)
    latents = task.sample(frame[None] / 127.5 - 1, [torch.Generator().manual_seed(3)], task.schedules[0])
    shown = frame.permute(1, 2, 0)[None].numpy()
    frames = pipe(shown, 2, "single_frame", generator=torch.Generator().manual_seed(3), output_type="pt").frames
    with torch.no_grad():
        torch.testing.assert_close((task.decode(latents) / 2 + 0.5).clamp(0, 1), frames, rtol=0, atol=0.005)


def test_a_frames_schedule_does_not_depend_on_what_is_sampled_with_it() -> None:
    task = decoder_task()
    task.schedules = [*task.schedules, Schedule(task.schedules[0]._scheduler.config, "ddpm", 3)]
    lr = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(row) for row in range(6)]

    together = task.sample_any(lr, generators())
    alone = [task.sample_any(lr[row : row + 1], [generators()[row]]) for row in range(6)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-4)


def test_colours_are_compared_by_block_whatever_the_texture() -> None:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    blocks = image.unfold(2, COLOUR_BLOCK, COLOUR_BLOCK).unfold(3, COLOUR_BLOCK, COLOUR_BLOCK)
    mirrored = blocks.flip(-1).permute(0, 1, 2, 4, 3, 5).reshape(image.shape)  # each block in itself
    assert not torch.equal(mirrored, image)
    assert colour_distance(mirrored, image) < 1e-6
    torch.testing.assert_close(colour_distance(image + 0.02, image), torch.tensor(0.02))
    assert colour_distance(image.flip(1), image) > 0.01  # red for blue


def test_texture_is_compared_by_strength_and_place_not_by_phase() -> None:
    generator = torch.Generator().manual_seed(0)
    texture = torch.randn(1, 3, 64, 64, generator=generator)
    other = torch.randn(1, 3, 64, 64, generator=generator)
    flat = torch.zeros(1, 3, 64, 64)
    half = torch.cat([texture[..., :32], flat[..., 32:]], dim=-1)
    assert texture_distance(texture, texture) == 0
    assert texture_distance(other, texture) < 0.15 * texture_distance(flat, texture)  # the same strength, another phase
    assert texture_distance(half, texture) > 0.4 * texture_distance(flat, texture)  # the right strength, half in place
    assert texture_distance(half.flip(-1), half) > texture_distance(half, texture)


def test_own_estimates_come_from_higher_noise_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    task = unet_task()
    drawn = task.draw(8, [sample_generator(1, number) for number in range(64)])
    seen: list[Tensor] = []
    monkeypatch.setattr(task, "estimate", lambda sample: seen.append(sample["timesteps"]))
    task.own_estimate(drawn)
    assert (seen[0] >= drawn["timesteps"]).all() and seen[0].max() <= 999
    assert (seen[0] > drawn["timesteps"] + 50).float().mean() > 0.7


def test_the_first_tcm_sees_its_own_frame_from_other_noise() -> None:
    task = tcm_start_task()
    drawn = task.draw(8, [sample_generator(1, number) for number in range(2)]) | {"timesteps": torch.tensor([5, 999])}
    frozen = task.freeze(crops(), drawn)
    decoded = task.frozen.decode(frozen["latents"])
    near, far = (frozen["guidance"] - decoded).square().mean((1, 2, 3))
    assert near < 0.1 * far  # little noise leaves the frame, pure noise leaves an estimate
    other = task.freeze(crops(), drawn | {"noise": drawn["noise_neighbour"]})
    assert torch.equal(other["guidance"], frozen["guidance"])  # the frame's own noise is not in it


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    rng = np.random.default_rng(0)
    for part, name, side in (("gt", "a", 64), ("lr", "a", 16), ("gt", "small", 48), ("lr", "small", 12)):
        write_frame(tmp_path / "data" / part / name / "0.png", rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
    return load_sequences("plain", tmp_path / "data", "train")


def test_all_stages_run_and_a_second_run_only_loads(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_model, "PerceptualLoss", PixelDistance)
    monkeypatch.setattr(base_model, "latent_std", lambda vae, windows: 2.0)
    small = {stage: recipe | {"batch": 2, "crop": 64} for stage, recipe in RECIPES.items()}  # too large for one clip
    monkeypatch.setattr(base_model, "RECIPES", small)
    steps = dict.fromkeys(RECIPES, 1)
    for out in ("first", "second"):
        BaseTraining(clips, [], tmp_path / out, tmp_path / "state", steps).run()
    for file in ("vae", "unet", "controlnet"):
        name = f"{file}/diffusion_pytorch_model.safetensors"
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert StableVSRPipeline.from_pretrained(tmp_path / "first", device="cpu").networks.vae_scale == 0.5
    with pytest.raises(UserError, match="made with"):  # the UNet's state depends on the VAE's length
        BaseTraining(clips, [], tmp_path / "third", tmp_path / "state", steps | {"vae": 2}).run()


def test_clips_that_are_all_smaller_than_the_crops_are_one_sentence(clips: list[Clip], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training clip has frames of 128x128 pixels or more"):
        BaseTraining(clips, [], tmp_path / "out", tmp_path / "state", {}).crops("vae")


@pytest.mark.parametrize("text", ["unet", "unet=0", "nothing=5", "unet=x"])
def test_wrong_steps_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"expected STAGE=STEPS"):
        steps_by_stage([text])


def test_clips_that_cannot_be_used_are_refused_before_anything_is_trained(clips: list[Clip], tmp_path: Path) -> None:
    place = (tmp_path / "out", tmp_path / "state", {})
    with pytest.raises(UserError, match=r"the validation clip small is smaller than 192x192 pixels"):
        BaseTraining(clips, clips[1:], *place)
    with pytest.raises(UserError, match=r"clip a has no LR frames: put them into lr/a, beside gt/a"):
        BaseTraining([Clip("a", clips[0].gt, ())], [], *place)
