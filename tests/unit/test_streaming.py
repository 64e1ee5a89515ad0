"""Sampling from disk to disk: the numbers of sampling in memory, wherever it is stopped and resumed."""

import shutil
from collections import namedtuple

import pytest
import torch

from stablevsr.method.guidance import Flows
from stablevsr.method.noise import KeyedNoise
from stablevsr.method.sampler import Sampler
from stablevsr.method.settings import Guidance, Sampling
from stablevsr.method.stores import FolderStore, State
from stablevsr.method.strategies import STRATEGIES, Visit
from stablevsr.method.visits import visits
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.parsing import parse
from tests.flow import vector_flow

FRAMES, STEPS, SHAPE = 3, 3, (4, 9, 14)
KNOWN = tuple(STRATEGIES)


@pytest.fixture(scope="module")
def lr():
    smooth = torch.rand(1, FRAMES * 3, 4, 5, generator=torch.Generator().manual_seed(0))
    frames = torch.nn.functional.interpolate(smooth, SHAPE[1:], mode="bicubic").view(1, FRAMES, 3, *SHAPE[1:])
    return frames.clamp(0, 1) * 2 - 1


def stream(model, lr, folder, strategy, progress=None, key="clip", start=0, **settings):
    """Finished latents of the frames from ``start`` on, begun or resumed in ``folder``."""
    sampling = Sampling(strategy=strategy, steps=STEPS, **settings)
    sampler = Sampler(model, sampling, Guidance(), vector_flow, at_once=1, progress=progress)
    state, noise = State(FolderStore(folder / "state")), KeyedNoise([key], SHAPE)
    sampler.run(
        FRAMES - start,
        lambda frame: lr[:, start + frame],
        lambda step, frame: noise(step, start + frame),
        state,
        FolderStore(folder / "flows", reserve=0),
    )
    return torch.cat([state.latent(STEPS, frame) for frame in range(FRAMES - start)])


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("strategy", KNOWN)
def test_equals_the_run_that_holds_the_clip_in_memory(pipe_v, lr, tmp_path, strategy, every):
    sampling = Sampling(strategy=strategy, steps=STEPS, guide_every=every)
    sampler = Sampler(pipe_v.networks, sampling, Guidance(), vector_flow)
    expected = sampler(lr, ["clip"])[0]
    torch.testing.assert_close(
        stream(pipe_v.networks, lr, tmp_path, strategy, guide_every=every), expected, atol=2e-5, rtol=1e-5
    )


def test_a_registered_strategy_gives_the_same_frames_in_memory_from_disk_and_by_the_pipeline(
    toy_strategy, pipe_v, lr, tmp_path
):
    sampling = Sampling(strategy=toy_strategy, steps=STEPS)
    with pytest.raises(UserError, match="did you mean 'toy'"):
        parse(Sampling, {"strategy": "toyy"}, "sampling")
    by_pipeline = pipe_v.sample(lr, ["clip"], sampling, Guidance(), vector_flow)[0]
    from_disk = stream(pipe_v.networks, lr, tmp_path / "disk", toy_strategy)
    torch.testing.assert_close(from_disk, by_pipeline, atol=2e-5, rtol=1e-5)
    # the same as the clip played backwards, with the noise of the frames that it visits
    flipped, noise = lr.flip(1), KeyedNoise(["clip"], SHAPE)
    state = State({})
    Sampler(pipe_v.networks, Sampling(strategy="unidirectional", steps=STEPS), Guidance(), vector_flow).run(
        FRAMES, lambda f: flipped[:, f], lambda step, f: noise(step, FRAMES - 1 - f), state, {}
    )
    forward = torch.cat([state.latent(STEPS, frame) for frame in range(FRAMES)])
    torch.testing.assert_close(forward.flip(0), by_pipeline, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("strategy", ["auto_regressive", "bidirectional"])
def test_stopped_at_every_frame_step_it_gives_the_same_bits(pipe_v, lr, tmp_path, strategy):
    def stop(_):
        raise KeyboardInterrupt

    undisturbed = stream(pipe_v.networks, lr, tmp_path / "undisturbed", strategy)
    for _ in range(FRAMES * STEPS):
        with pytest.raises(KeyboardInterrupt):
            stream(pipe_v.networks, lr, tmp_path / "stopped", strategy, stop)
    resumed = stream(pipe_v.networks, lr, tmp_path / "stopped", strategy, stop)  # nothing is left to be stopped at
    assert torch.equal(resumed, undisturbed)


@pytest.mark.parametrize("torn", range(FRAMES + 1, FRAMES + 12))
def test_stopped_at_any_write_it_gives_the_same_bits(pipe_v, lr, tmp_path, monkeypatch, torn):
    """Also between a frame-step's latent, its guidance and its count."""
    undisturbed = stream(pipe_v.networks, lr, tmp_path / "undisturbed", "bidirectional")
    written, write = [], FolderStore.__setitem__

    def stop(self, name, value):
        if self.folder.name == "state":
            written.append(name)
            if len(written) == torn:
                raise KeyboardInterrupt
        write(self, name, value)

    monkeypatch.setattr(FolderStore, "__setitem__", stop)
    with pytest.raises(KeyboardInterrupt):
        stream(pipe_v.networks, lr, tmp_path / "torn", "bidirectional")
    monkeypatch.undo()
    assert torch.equal(stream(pipe_v.networks, lr, tmp_path / "torn", "bidirectional"), undisturbed)


def test_a_window_has_the_noise_of_the_whole_clip(pipe_v, lr, tmp_path):
    """Without a neighbour, the last frame alone must come out as it does among the others."""
    whole = stream(pipe_v.networks, lr, tmp_path / "whole", "single_frame")
    alone = stream(pipe_v.networks, lr, tmp_path / "alone", "single_frame", start=FRAMES - 1)
    assert torch.equal(alone[0], whole[-1])


def test_the_key_decides(pipe_v, lr, tmp_path):
    one, other = (stream(pipe_v.networks, lr, tmp_path / key, "single_frame", key=key) for key in ("one", "other"))
    assert (one - other).abs().max() > 0.1


def test_visits_follow_the_strategy():
    def listed(strategy, frames):
        return list(visits(Sampling(strategy=strategy, steps=2), frames))

    assert listed("bidirectional", 3) == [
        Visit(0, 0), Visit(0, 1, 0), Visit(0, 2, 1), Visit(1, 2), Visit(1, 1, 2), Visit(1, 0, 1),
    ]  # fmt: skip
    assert [(v.frame, v.step, v.neighbour) for v in listed("auto_regressive", 2)] == [
        (0, 0, None), (0, 1, None), (1, 0, 0), (1, 1, 0),
    ]  # fmt: skip
    assert all(v.neighbour is None for v in listed("single_frame", 3))


@pytest.mark.parametrize("free,kept", [(10**9, True), (0, False)])
def test_flow_is_kept_only_while_the_disk_has_room(lr, tmp_path, monkeypatch, free, kept):
    calls = []

    def estimator(target, source):
        calls.append(target.shape)
        return vector_flow(target, source)

    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(free))
    flows = Flows(lambda frame: lr[:, frame], estimator, FolderStore(tmp_path, reserve=10**6))
    first, second = flows.between(1, 0), flows.between(1, 0)
    assert torch.equal(first, second)
    assert len(calls) == (1 if kept else 2)
    assert bool(list(tmp_path.iterdir())) == kept


def test_a_solver_with_a_history_is_not_resumed(pipe_v, lr, tmp_path):
    stream(pipe_v.networks, lr, tmp_path, "single_frame", scheduler="unipc")
    with pytest.raises(ValueError, match="cannot be resumed"):
        stream(pipe_v.networks, lr, tmp_path, "single_frame", scheduler="unipc")
