"""Noise by key, the same for every strategy, and noise in the published order, draw by draw."""

import numpy as np
import pytest
import torch

from stablevsr.method.guidance import Guidance
from stablevsr.method.noise import INITIAL, KeyedNoise, PublishedNoise, seeded_generator
from stablevsr.method.sampler import Sampler, to_uint8
from stablevsr.method.settings import Sampling
from stablevsr.method.strategies import STRATEGIES
from stablevsr.method.visits import noise_order
from tests.flow import vector_flow
from tests.unit.test_inference import frames, method, run
from tests.unit.test_inference import lr as lr  # the fixture

SHAPE, FRAMES, STEPS = (4, 9, 14), 3, 3
WHERE = [(step, frame) for step in range(INITIAL, STEPS) for frame in range(FRAMES)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_gets_the_draws_of_single_frame_sampling(pipe_v, monkeypatch, strategy):
    drawn, draw = {}, KeyedNoise.__call__

    def record(self, step, frame):
        drawn[step, frame] = draw(self, step, frame)
        return drawn[step, frame]

    monkeypatch.setattr(KeyedNoise, "__call__", record)
    smooth = torch.zeros(1, FRAMES, 3, *SHAPE[1:])
    for name in ("single_frame", strategy):
        before, drawn = drawn, {}
        Sampler(pipe_v.networks, Sampling(strategy=name, steps=STEPS), Guidance(), vector_flow)(smooth, ["clip"])
    assert sorted(drawn) == sorted(before) == sorted(WHERE)
    assert all(torch.equal(drawn[where], before[where]) for where in WHERE)


def test_keyed_noise_depends_on_nothing_but_its_key():
    alone, among = KeyedNoise(["b"], SHAPE), KeyedNoise(["a", "b", "c"], SHAPE)
    expected = {where: alone(*where) for where in WHERE}
    for where in reversed(WHERE):
        assert torch.equal(among(*where)[1:2], expected[where])
    draws = torch.stack([among(*where)[i] for where in WHERE for i in range(3)]).flatten(1)
    assert torch.corrcoef(draws).fill_diagonal_(0).abs().max() < 0.25  # 36 draws of 504 numbers: 5 standard errors
    assert abs(draws.mean()) < 0.03 and abs(draws.std() - 1) < 0.03


def test_published_noise_is_drawn_in_visit_order():
    order = noise_order(Sampling(steps=2), 3)
    noise = PublishedNoise([torch.Generator().manual_seed(0)], (1, 2, 2), order, torch.device("cpu"))
    plain = torch.Generator().manual_seed(0)
    for step, visited in ((INITIAL, (0, 1, 2)), (0, (0, 1, 2)), (1, (2, 1, 0))):
        drawn = {frame: torch.randn(1, 1, 2, 2, generator=plain) for frame in visited}
        assert all(torch.equal(noise(step, frame), drawn[frame]) for frame in visited)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_published_noise_is_repeated_in_any_order_as_it_was_drawn(strategy):
    order = noise_order(Sampling(strategy=strategy, steps=STEPS), FRAMES)

    def noise():
        return PublishedNoise([torch.Generator().manual_seed(s) for s in (3, 4)], SHAPE, order, torch.device("cpu"))

    forwards, backwards = noise(), noise()
    expected = {where: forwards(*where) for where in WHERE}
    assert all(torch.equal(backwards(*where), expected[where]) for where in reversed(WHERE))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_guidance_at_fewer_steps_leaves_the_published_noise_as_it_is(strategy):
    some, every = (noise_order(Sampling(steps=4, strategy=strategy, guide_every=k), 3) for k in (2, 1))
    assert some == every
    if strategy in ("single_frame", "auto_regressive", "unidirectional"):
        assert [list(frames) for frames in every] == [[0, 1, 2]] * 4


@pytest.mark.parametrize("noise,same", [("keyed", True), ("published", False)])
def test_in_a_study_strategies_without_guidance_make_the_same_frames(lr, tmp_path, noise, same):
    """Without the TCM only the noise can differ; that of bidirectional sampling is published in turning order."""
    for strategy in ("single_frame", "bidirectional"):
        sampling = Sampling(steps=3, strategy=strategy, guide_from=0.7, noise=noise)
        run(tmp_path / strategy, lr, how=method(sampling=sampling))
    single, both = (frames(tmp_path / strategy, "b").astype(int) for strategy in ("single_frame", "bidirectional"))
    assert (np.abs(single - both).max() <= 1) == same


def test_the_published_noise_of_a_study_is_that_of_the_pipeline_with_a_generator(pipe_v, lr, tmp_path):
    run(tmp_path, lr, how=method(sampling=Sampling(steps=2, noise="published")))
    inputs = frames(lr, "b")
    generator = seeded_generator("0/set/b")
    made = pipe_v(inputs, 2, generator=generator, flow_estimator="dis", output_type="pt").frames
    expected = np.stack([to_uint8(image) for image in made])
    assert np.abs(frames(tmp_path, "b").astype(int) - expected).max() <= 1
