"""Compiled networks give the same frames, and a machine without a compiler is told so before anything runs."""

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from stablevsr import StableVSRPipeline
from stablevsr.cli import main
from stablevsr.data.frames import write_frame
from stablevsr.method import compiled
from stablevsr.runtime.errors import UserError
from tests.flow import vector_flow

LR = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)


@pytest.fixture
def no_compiler(monkeypatch):
    def fail():
        raise RuntimeError("no working compiler")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", fail)
    monkeypatch.setattr("stablevsr.method.pipeline.load_parts", lambda *_: pytest.fail("it began to load"))


def frames(vectors, **options):
    pipe = StableVSRPipeline.from_pretrained(vectors / "model_v", device="cpu", **options)
    return pipe(LR, 2, generator=torch.Generator().manual_seed(1), flow_estimator=vector_flow).frames


def test_compiled_networks_give_the_frames_of_the_others(vectors, monkeypatch):
    """Without the translation to C++, which takes a minute: tests/gpu has it."""
    seen, compile_module = [], torch.nn.Module.compile

    def record(self, **options):
        seen.append(type(self))
        compile_module(self, **options, backend="aot_eager")

    monkeypatch.setattr(torch.nn.Module, "compile", record)
    monkeypatch.setattr("stablevsr.method.pipeline.check_compiler", lambda: None)
    plain = frames(vectors)
    assert not seen
    counters.clear()
    assert np.abs(plain - frames(vectors, compile=True)).max() < 1e-5
    assert set(seen) == set(compiled.BLOCKS)
    assert counters["stats"]["unique_graphs"] > len(set(seen)) and not counters["graph_break"]


def test_without_a_compiler_the_pipeline_says_what_to_install(vectors, no_compiler):
    with pytest.raises(UserError, match="needs a C\\+\\+ compiler, and torch found none: install g\\+\\+"):
        frames(vectors, compile=True)


def test_without_a_compiler_upscale_says_so_before_it_adapts_or_loads(vectors, tmp_path, no_compiler, capsys):
    for number in range(2):
        write_frame(tmp_path / "in" / f"{number}.png", np.zeros((32, 32, 3), np.uint8))
    options = ["--model", str(vectors / "model_v"), "--flow", "dis", "--adapt", "1", "--device", "cpu", "--compile"]
    assert main(["upscale", str(tmp_path / "in"), str(tmp_path / "out"), *options]) == 1
    assert "C++ compiler" in capsys.readouterr().err


def test_weights_in_8_bits_are_not_compiled(vectors):
    with pytest.raises(UserError, match="compile and weights: fp8 do not go together"):
        frames(vectors, compile=True, weights="fp8")
