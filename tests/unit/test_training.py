"""The TCM's training step against the published one, and the loop's promises: resume, accumulation, frozen parts."""

import io
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

from stablevsr.data.degradation import degrade
from stablevsr.data.frames import write_frame
from stablevsr.data.layouts import Clip
from stablevsr.method import tcm
from stablevsr.method.pipeline import load_networks
from stablevsr.method.settings import Guidance, Sampling, Training
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import read_sealed
from stablevsr.training.loop import rate_factor, train
from stablevsr.training.samples import NEXT, PAST, WindowDataset, draw_normal, sample_generator, sample_numbers
from stablevsr.training.state import EMA, restore, save
from stablevsr.training.task import LoopSettings, TrainingTask
from stablevsr.training.tasks.tcm import TCMTask


def task_for(vectors, model="model_v", guidance=None, flow=None, **settings):
    networks = load_networks(vectors / model, device="cpu")
    module = networks.tcm.requires_grad_(True)
    return TCMTask(
        module, networks, Training(**{"latents": "mode"} | settings), guidance or Guidance(), flow, data=None
    )


@pytest.fixture(scope="module")
def published(vectors):
    return {
        key: torch.from_numpy(np.asarray(value)) for key, value in np.load(vectors / "training_v/train.npz").items()
    }


def frozen(task, published, **changed):
    drawn = {key: published[key] for key in ("neighbour", "timesteps", "noise", "noise_neighbour")} | changed
    return task.freeze({"gt": published["gt"], "lq": published["lq"]}, drawn)


def test_one_step_equals_the_published_one(vectors, published):
    task = task_for(vectors, flow=lambda t, s: published["flow"].permute(0, 3, 1, 2))
    sample = frozen(task, published)
    torch.testing.assert_close(sample["latents"], published["latents"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sample["guidance"], published["guidance"], rtol=1e-4, atol=1e-4)
    loss = task.errors(sample).mean()
    loss.backward()
    norm = torch.sqrt(sum(p.grad.double().square().sum() for p in task.model.parameters() if p.grad is not None))
    assert loss.item() == pytest.approx(published["loss"].item(), rel=1e-4)
    assert float(norm) == pytest.approx(float(published["grad_norm"]), rel=1e-4)


def test_defaults_are_those_of_the_released_scripts():
    """train.sh and train.py (four GPUs with eight crops each), test.py and flow_utils.py at c8a165f."""
    released = {
        "steps": 20_000, "batch": 4 * 8, "crop": 256, "optimizer": "adamw", "learning_rate": 5e-5, "max_grad_norm": 1.0,
        "schedule": "constant", "warmup_steps": 0, "order": "epochs", "latents": "sample", "neighbour": "both",
        "start": "unet", "conditioning_init": 0.0, "temporal_weight": 0.0, "precision": "fp32", "tf32": False,
    }  # fmt: skip
    assert Training().model_dump(include=set(released)) == released
    assert LoopSettings().weight_decay == 1e-2
    guidance = {"source": "x0", "motion_compensation": "pixel", "warp": "published", "flow": "raft"}
    assert Guidance().model_dump() == guidance | {"raft_norm": "published"}
    sampling = {"strategy": "bidirectional", "scheduler": "ddpm", "steps": 50, "precision": "fp32", "tf32": False}
    assert Sampling().model_dump(include=set(sampling)) == sampling


def test_released_latents_are_samples_of_the_vae_and_the_mode_is_their_mean(vectors, published):
    task = task_for(vectors, guidance=Guidance(source="none"), latents="sample")
    mode = frozen(task_for(vectors, guidance=Guidance(source="none")), published)["latents"]
    zero = torch.zeros_like(mode)
    latents = {
        sign: frozen(task, published, noise_latents=zero + sign, noise_latents_neighbour=zero)["latents"]
        for sign in (-1, 0, 1)
    }
    assert torch.equal(latents[0], mode)
    torch.testing.assert_close((latents[1] + latents[-1]) / 2, mode, rtol=1e-4, atol=1e-5)
    image = published["gt"][:, 1] * 2 - 1
    with torch.no_grad():
        spread = task.frozen.vae.encode(image).latent_dist.std * task.frozen.vae_scale
    torch.testing.assert_close(latents[1] - mode, spread, rtol=1e-3, atol=1e-5)
    drawn = task.draw(8, [sample_generator(1, 0)])
    assert drawn["noise_latents"].shape == drawn["noise_latents_neighbour"].shape == (1, 4, 8, 8)
    assert not torch.equal(drawn["noise_latents"], drawn["noise_latents_neighbour"])
    # nothing else of a training differs
    of_mode = task_for(vectors, guidance=Guidance(source="none")).draw(8, [sample_generator(1, 0)])
    assert set(drawn) - set(of_mode) == {"noise_latents", "noise_latents_neighbour"}
    assert all(torch.equal(drawn[name], value) for name, value in of_mode.items())


def test_epsilon_models_get_the_right_clean_latent(vectors):
    """The published script applies the v formula to every model; an epsilon model must return to its clean latent."""
    task = task_for(vectors, "model_eps")
    clean, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    t = torch.tensor([100, 700])
    noisy = task.scheduler.add_noise(clean, noise, t)
    task._unet = lambda *_: noise  # a perfect prediction
    torch.testing.assert_close(task.clean(noisy, None, t), clean, atol=1e-4, rtol=1e-4)


def test_variants_change_the_guidance_image_and_nothing_else(vectors, published):
    flow = lambda t, s: published["flow"].permute(0, 3, 1, 2)  # noqa: E731
    base = frozen(task_for(vectors, flow=flow), published)
    for guidance in (Guidance(source="xt"), Guidance(source="none"), Guidance(motion_compensation="latent"),
                     Guidance(motion_compensation="none"), Guidance(warp="aligned")):  # fmt: skip
        sample = frozen(task_for(vectors, guidance=guidance, flow=flow), published)
        assert not torch.allclose(sample["guidance"], base["guidance"], atol=1e-3)
        for key in ("latents", "noise", "timesteps", "lq"):
            assert torch.equal(sample[key], base[key])
    assert torch.count_nonzero(frozen(task_for(vectors, guidance=Guidance(source="none")), published)["guidance"]) == 0


def test_unidirectional_training_sees_the_past_only_and_differs_in_nothing_else(vectors):
    past, both = (
        task_for(vectors, neighbour=name).draw(4, [sample_generator(0, index) for index in range(64)])
        for name in ("past", "both")
    )
    assert set(past.pop("neighbour").tolist()) == {PAST} and set(both.pop("neighbour").tolist()) == {PAST, NEXT}
    assert past.keys() == both.keys() == {"timesteps", "noise", "noise_neighbour"}
    assert all(torch.equal(past[key], both[key]) for key in past)


def test_learning_rates_by_group_and_frozen_parts(vectors, published):
    task = task_for(vectors, flow=lambda t, s: published["flow"].permute(0, 3, 1, 2))
    rates = {g["lr"] for g in task.parameter_groups(LoopSettings(learning_rate=1e-4, learning_rate_new=1e-3))}
    assert rates == {1e-4, 1e-3}
    before = {k: v.clone() for k, v in task.frozen.unet.state_dict().items()}
    task.errors(frozen(task, published)).mean().backward()
    assert all(torch.equal(v, before[k]) for k, v in task.frozen.unet.state_dict().items())
    assert all(p.grad is None for p in (*task.frozen.unet.parameters(), *task.frozen.vae.parameters()))


class Line(TrainingTask):
    """Fit y = w x + b to random points: the smallest task with data, noise and state."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = torch.nn.Linear(3, 1)
        self.data = [{"x": torch.randn(3, generator=sample_generator(9, i))} for i in range(400)]

    def loss(self, batch, generators):
        noise = draw_normal(generators, batch["x"].shape[1:])
        return (self.model(batch["x"] + 0.1 * noise) - batch["x"].sum(1, keepdim=True)).square().mean()

    def save(self, folder):
        torch.save(self.model.state_dict(), folder / "w.pt")


def settings(**changed):
    return LoopSettings(**({"steps": 20, "batch": 8, "learning_rate": 0.05, "warmup_steps": 3, "workers": 0,
                            "save_every": 5, "log_every": 5, "ema": 0.9} | changed))  # fmt: skip


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path):
    whole, first, second = Line(), Line(), Line()
    history = train(whole, settings(), tmp_path / "whole", {}).history
    with pytest.raises(KeyboardInterrupt):
        count = iter(range(100))

        def interrupted(batch, generators, loss=first.loss):
            if next(count) == 12:  # between two saved states
                raise KeyboardInterrupt
            return loss(batch, generators)

        first.loss = interrupted
        train(first, settings(), tmp_path / "cut", {})
    assert train(second, settings(), tmp_path / "cut", {}).history == history
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_seconds_a_step_are_those_of_steps_alone(tmp_path, monkeypatch):
    """By a clock that a step moves by 2 seconds, validation by 100 and saving by 1,000."""
    now = [0.0]
    monkeypatch.setattr("stablevsr.training.loop.time.monotonic", lambda: now[0])

    def takes(seconds, call):
        def run(*given):
            now[0] += seconds
            return call(*given)

        return run

    task = Line()
    task.loss = takes(2, task.loss)
    task.validate = takes(100, task.validate)
    monkeypatch.setattr("stablevsr.training.loop.save", takes(1000, save))
    first = train(task, settings(steps=10), tmp_path, {})
    assert (first.seconds_per_step, first.data_wait) == (2, 0)
    assert train(Line(), settings(steps=10), tmp_path, {}).seconds_per_step is None  # nothing was left to do


def test_the_result_is_the_average_of_the_weights_after_each_step_and_training_does_not_see_it(tmp_path):
    """Averaged by hand from a training without an average, whose history must be the same."""
    plain, averaged = Line(), Line()
    loss, weights = plain.loss, []

    def watched(batch, generators):
        weights.append(plain.model.weight.detach().clone())  # as they are before the step
        return loss(batch, generators)

    plain.loss = watched
    history = train(plain, settings(ema=0.0), tmp_path / "plain", {}).history
    assert train(averaged, settings(ema=0.9), tmp_path / "averaged", {}).history == history
    start, *after = [*weights, plain.model.weight.detach()]
    expected = start
    for number, now in enumerate(after, start=1):
        decay = min(0.9, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * now
    torch.testing.assert_close(averaged.model.weight.detach(), expected)
    assert not torch.allclose(expected, after[-1], atol=1e-3)


def test_a_state_of_other_settings_is_refused_with_the_difference(tmp_path):
    train(Line(), settings(steps=5), tmp_path, {"crop": 64})
    with pytest.raises(UserError, match="crop=64, this run has 32"):
        train(Line(), settings(steps=5), tmp_path, {"crop": 32})


def test_accumulation_equals_the_whole_batch(tmp_path):
    whole, parts = Line(), Line()  # whose loss draws noise: a sample's draws must not depend on the cut
    train(whole, settings(), tmp_path / "a", {})
    train(parts, settings(micro_batch=3), tmp_path / "b", {})  # 3 + 3 + 2
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_loss_that_is_no_number_stops_with_step_and_samples(tmp_path):
    task = Line()
    task.loss = lambda batch, generators: task.model(batch["x"]).mean() * float("nan")
    with pytest.raises(UserError, match=r"nan at step 1 \(samples 0 to 7"):
        train(task, settings(), tmp_path, {})
    task.loss = lambda batch, generators: task.model(batch["x"]).mean() * 0
    with pytest.raises(UserError, match=r"the loss is 0\.0 at step 1"):
        train(task, settings(), tmp_path / "zero", {})


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    """kill -9 in the middle, then the same command: the saved states must be whole and lead to the same end."""
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from tests.unit.test_training import Line, settings
        from stablevsr.training.loop import train
        task = Line()
        plain = task.loss
        def loss(batch, generators):
            time.sleep(0.2)  # or it would be through before it is killed
            return plain(batch, generators)
        task.loss = loss
        train(task, settings(save_every=2, steps=30), Path(sys.argv[1]), {})
        """
    )

    def finish(state):
        task = Line()
        train(task, settings(save_every=2, steps=30), tmp_path / state, {})
        return task.model.state_dict()

    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "cut")], stderr=subprocess.DEVNULL)
    whole = finish("whole")
    while not (tmp_path / "cut" / "state.pt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stored = io.BytesIO(read_sealed(tmp_path / "cut" / "state.pt"))
    assert torch.load(stored, weights_only=True)["step"] < 30
    cut = finish("cut")
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_processes_share_every_global_batch_without_overlap():
    shares = [sample_numbers(2, 4, batch=8, rank=r, world=2) for r in range(2)]
    assert shares[0] == [16, 17, 18, 19, 24, 25, 26, 27] and shares[1] == [20, 21, 22, 23, 28, 29, 30, 31]


def test_learning_rate_schedules():
    constant = LoopSettings(warmup_steps=10)
    assert rate_factor(constant, 0) == pytest.approx(0.1) and rate_factor(constant, 9999) == 1
    cycle = LoopSettings(warmup_steps=0, schedule="warmup_cosine", steps=100)
    assert rate_factor(cycle, 0) == 1 and rate_factor(cycle, 99) < 0.01


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A ramp that tells every pixel's place: red = column, green = row, blue = frame."""
    root = tmp_path_factory.mktemp("ramp")
    gt, lr = [], []
    y, x = np.mgrid[:64, :96].astype(np.uint8)
    for t in range(5):
        frame = np.stack([x * 2, y * 2, np.full_like(x, 10 * t)], axis=-1)
        for folder, picture, files in (("gt", frame, gt), ("lr", degrade(frame), lr)):
            files.append(root / folder / f"{t:08d}.png")
            write_frame(files[-1], picture)
    return [Clip("000", tuple(gt), tuple(lr))]


def test_windows_are_consecutive_aligned_and_repeatable(clips):
    data = WindowDataset(clips, frames=3, crop=32, seed=1)
    flips = set()
    for index in range(20):
        item = data[index]
        assert item["gt"].shape == (3, 3, 32, 32) and item["lq"].shape == (3, 3, 8, 8)
        steps = item["gt"][1:, 2, 0, 0] - item["gt"][:-1, 2, 0, 0]
        torch.testing.assert_close(steps, torch.full((2,), 10 / 255))
        small = torch.nn.functional.avg_pool2d(item["gt"][:, :2], 4)
        torch.testing.assert_close(small[..., 2:-2, 2:-2], item["lq"][:, :2, 2:-2, 2:-2], atol=0.01, rtol=0)
        flips.add(bool(item["gt"][0, 0, 0, 0] > item["gt"][0, 0, 0, -1]))
        assert torch.equal(item["gt"], data[index]["gt"])
    assert flips == {True, False}


def test_a_damaged_frame_is_named(clips, tmp_path):
    broken = tmp_path / "00000000.png"
    broken.write_bytes(clips[0].gt[0].read_bytes()[:100])
    clip = Clip("000", (broken, *clips[0].gt[1:3]), clips[0].lr[:3])
    with pytest.raises(UserError, match=r"00000000\.png cannot be read"):
        WindowDataset([clip], frames=3, crop=32, seed=1)[0]


def test_new_tcm_trains_from_no_change(vectors, published):
    """A fresh TCM starts with the loss of the frozen UNet and lowers it within a few steps on one batch."""
    task = task_for(vectors, flow=lambda t, s: published["flow"].permute(0, 3, 1, 2))
    torch.manual_seed(0)
    task.model = tcm.from_unet(task.frozen.unet, conditioning_init=0.02)
    sample = frozen(task, published)
    start = task.errors(sample).mean()
    torch.testing.assert_close(start, task.errors(sample, with_tcm=False).mean())
    optimizer = torch.optim.Adam(task.model.parameters(), 2e-3)
    for _ in range(8):
        optimizer.zero_grad()
        loss = task.errors(sample).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.95 * start.item()


def test_the_loss_scale_of_fp16_is_part_of_a_state(tmp_path):
    """Else a resumed training would begin with the largest scale again, and skip steps that the first one took."""
    model = torch.nn.Linear(1, 1)
    parts = (model, torch.optim.Adam(model.parameters()), EMA(model, 0.0))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    scaler.scale(torch.ones(()))
    scaler.update(8.0)  # as after overflows
    save(tmp_path, 3, *parts, scaler, [], {})
    again = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    restore(tmp_path, *parts, again)
    assert again.get_scale() == 8.0
