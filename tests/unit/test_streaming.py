"""Sampling from disk to disk: the sampler's own numbers, at whatever frame-step it is stopped and taken up again."""

import shutil
from collections import namedtuple

import pytest
import torch

from stablevsr.method.sampler import Noise, Sampler
from stablevsr.method.settings import Guidance, Sampling
from stablevsr.upscale.streaming import NoiseBook, Span, StoredFlows, StreamingSampler, visits
from tests.flow import vector_flow

STRATEGIES = ["single_frame", "auto_regressive", "unidirectional", "bidirectional"]
FRAMES, STEPS, SHAPE = 3, 3, (4, 9, 14)
PLENTY = 0  #: bytes that must stay free: optical flow is kept


@pytest.fixture(scope="module")
def lr():
    smooth = torch.rand(1, FRAMES * 3, 4, 5, generator=torch.Generator().manual_seed(0))
    frames = torch.nn.functional.interpolate(smooth, SHAPE[1:], mode="bicubic").view(1, FRAMES, 3, *SHAPE[1:])
    return frames.clamp(0, 1) * 2 - 1


def record(folder, strategy, seed=3):
    noise = NoiseBook(folder / "noise", SHAPE, FRAMES, STEPS, strategy)
    noise.record(torch.Generator().manual_seed(seed))
    return noise


def stream(model, lr, folder, strategy, progress=lambda _: None, seed=3, start=0, stop=FRAMES, **sampling):
    """Finished latents (stop - start, 4, h, w), the work begun or gone on with in ``folder``."""
    span = Span(folder / "span", start, stop, STEPS)
    settings = Sampling(strategy=strategy, steps=STEPS, **sampling)
    sampler = StreamingSampler(model, settings, Guidance(), vector_flow, progress)
    sampler.run(span, lambda frame: lr[:, frame], record(folder, strategy, seed), PLENTY)
    return torch.cat([span.latent(frame, STEPS, model.device) for frame in range(start, stop)])


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equals_the_sampler_that_holds_the_clip_in_memory(pipe_v, lr, tmp_path, strategy, every):
    settings = Sampling(strategy=strategy, steps=STEPS, guide_every=every)
    sampler = Sampler(pipe_v.networks, settings, Guidance(), vector_flow)
    whole = sampler(lr, [torch.Generator().manual_seed(3)])[0]
    streamed = stream(pipe_v.networks, lr, tmp_path, strategy, guide_every=every)
    torch.testing.assert_close(streamed, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("strategy", ["auto_regressive", "bidirectional"])
def test_stopped_at_every_frame_step_it_gives_the_same_bits(pipe_v, lr, tmp_path, strategy):
    def stop(_):
        raise KeyboardInterrupt

    undisturbed = stream(pipe_v.networks, lr, tmp_path / "undisturbed", strategy)
    for _ in range(FRAMES * STEPS):
        with pytest.raises(KeyboardInterrupt):
            stream(pipe_v.networks, lr, tmp_path / "stopped", strategy, stop)
    gone_on = stream(pipe_v.networks, lr, tmp_path / "stopped", strategy, stop)  # nothing is left to be stopped at
    assert torch.equal(gone_on, undisturbed)


def test_a_frame_step_torn_before_its_mark_is_done_again(pipe_v, lr, tmp_path, monkeypatch):
    undisturbed = stream(pipe_v.networks, lr, tmp_path / "undisturbed", "bidirectional")

    def torn(self, done, seen):
        if done == 5:
            raise KeyboardInterrupt
        mark(self, done, seen)

    mark = Span.mark
    monkeypatch.setattr(Span, "mark", torn)
    with pytest.raises(KeyboardInterrupt):
        stream(pipe_v.networks, lr, tmp_path / "torn", "bidirectional")
    monkeypatch.undo()
    assert torch.equal(stream(pipe_v.networks, lr, tmp_path / "torn", "bidirectional"), undisturbed)


def test_a_window_has_the_noise_of_the_whole_clip(pipe_v, lr, tmp_path):
    """Without a neighbour, the last frame alone must come out as it does among the others."""
    whole = stream(pipe_v.networks, lr, tmp_path / "whole", "single_frame")
    alone = stream(pipe_v.networks, lr, tmp_path / "alone", "single_frame", start=FRAMES - 1)
    assert torch.equal(alone[0], whole[-1])


def test_the_seed_decides(pipe_v, lr, tmp_path):
    one, other = (stream(pipe_v.networks, lr, tmp_path / str(s), "single_frame", seed=s) for s in (1, 2))
    assert (one - other).abs().max() > 0.1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_noise_book_repeats_the_published_order(tmp_path, strategy):
    book = record(tmp_path, strategy)
    plain = Noise(torch.Generator().manual_seed(3), SHAPE, FRAMES, strategy)
    assert torch.equal(torch.cat([book.initial(f) for f in range(FRAMES)]), plain.initial())
    drawn = [plain.step(step) for step in range(STEPS)]
    for step in reversed(range(STEPS)):
        for frame in range(FRAMES):
            assert torch.equal(book.step(step, frame)[0], drawn[step][frame])


def test_the_noise_book_is_written_once(tmp_path):
    first = record(tmp_path, "bidirectional", seed=1).step(1, 0)
    assert torch.equal(record(tmp_path, "bidirectional", seed=2).step(1, 0), first)


def test_visits_follow_the_strategy():
    order = [(v.step, v.frame, v.before) for v in visits(Sampling(strategy="bidirectional", steps=2), 5, 8)]
    assert order == [(0, 5, None), (0, 6, 5), (0, 7, 6), (1, 7, None), (1, 6, 7), (1, 5, 6)]
    assert [(v.frame, v.step) for v in visits(Sampling(strategy="auto_regressive", steps=2), 0, 2)] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]
    assert all(v.before is None for v in visits(Sampling(strategy="single_frame", steps=2), 0, 3))


@pytest.mark.parametrize("free,kept", [(10**9, True), (0, False)])
def test_flow_is_kept_only_while_the_disk_has_room(lr, tmp_path, monkeypatch, free, kept):
    calls = []

    def estimator(target, source):
        calls.append(target.shape)
        return vector_flow(target, source)

    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(free))
    flows = StoredFlows(tmp_path, lambda frame: lr[:, frame], estimator, reserve=10**6)
    first, second = flows.between(1, 0), flows.between(1, 0)
    assert torch.equal(first, second)
    assert len(calls) == (1 if kept else 2)
    assert bool(list(tmp_path.iterdir())) == kept


def test_solvers_with_a_history_are_refused(pipe_v):
    with pytest.raises(ValueError, match="cannot be streamed"):
        StreamingSampler(pipe_v.networks, Sampling(scheduler="unipc"), Guidance(), vector_flow, lambda _: None)
