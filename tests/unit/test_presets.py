"""Presets: what they set, that explicit settings win, and that published and exact give the same numbers."""

import numpy as np
import pytest
import torch

from stablevsr import StableVSRPipeline
from stablevsr.cli import main
from stablevsr.method.sampler import Sampler
from stablevsr.method.settings import PRESETS, Sampling
from stablevsr.method.strategies import STRATEGIES
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.parsing import parse
from tests.flow import vector_flow

LR = np.random.default_rng(0).integers(0, 256, (4, 16, 20, 3), dtype=np.uint8)


def frames(pipe, steps=3, **settings):
    noise = torch.Generator().manual_seed(1)
    return pipe(LR, steps, generator=noise, flow_estimator=vector_flow, **settings).frames


@pytest.fixture(scope="module")
def pipes(vectors):
    return {name: StableVSRPipeline.from_pretrained(vectors / "model_v", device="cpu", preset=name) for name in PRESETS}


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_exact_equals_published_with_every_strategy(pipes, strategy):
    """To the bar that the published code's own outputs are met with in a batch (tests/vectors)."""
    published, exact = (frames(pipes[name], strategy=strategy) for name in ("published", "exact"))
    assert np.abs(published - exact).max() < 1e-5


@pytest.mark.parametrize(("name", "together"), [("published", 1), ("exact", len(LR))])
def test_published_takes_one_frame_at_a_time_and_exact_several(pipes, name, together):
    seen = []
    hook = pipes[name].unet.conv_in.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    frames(pipes[name], steps=1)
    hook.remove()
    assert max(seen) == together


def test_fast_is_another_precision_and_fewer_steps(pipes, monkeypatch):
    seen = []
    run = Sampler.run
    monkeypatch.setattr(Sampler, "run", lambda self, *rest: seen.append(self.sampling.steps) or run(self, *rest))
    assert pipes["fast"].unet.dtype == torch.bfloat16 and pipes["exact"].unet.dtype == torch.float32
    frames(pipes["fast"], None)
    frames(pipes["fast"], 2)
    assert seen == [PRESETS["fast"]["steps"], 2]


def test_what_is_given_wins_over_the_preset():
    assert Sampling.model_validate({"preset": "exact"}) == Sampling()
    fast = Sampling.model_validate({"preset": "fast", "precision": "fp32", "strategy": "unidirectional"})
    assert (fast.precision, fast.steps, fast.strategy) == ("fp32", PRESETS["fast"]["steps"], "unidirectional")


def test_a_misspelt_preset_is_one_sentence(vectors, capsys):
    with pytest.raises(UserError, match="no preset 'fsat': known are published, exact, fast"):
        parse(Sampling, {"preset": "fsat"}, "sampling")
    with pytest.raises(UserError, match="no preset 'fsat'"):
        StableVSRPipeline.from_pretrained(vectors / "model_v", device="cpu", preset="fsat")
    with pytest.raises(SystemExit):
        main(["upscale", "in", "out", "--preset", "fsat"])
    assert "invalid choice: 'fsat'" in capsys.readouterr().err
