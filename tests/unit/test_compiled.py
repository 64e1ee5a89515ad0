"""Compiled networks give the same frames, and a machine without a compiler is told so before anything runs."""

import numpy as np
import pytest
import torch

from stablevsr import StableVSRPipeline
from stablevsr.cli import main
from stablevsr.data.frames import write_frame
from stablevsr.method import compiled
from stablevsr.runtime.errors import UserError
from tests.flow import vector_flow

LR = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(compiled.shutil, "which", lambda _: None)


def frames(vectors, **options):
    pipe = StableVSRPipeline.from_pretrained(vectors / "model_v", device="cpu", **options)
    return pipe(LR, 2, generator=torch.Generator().manual_seed(1), flow_estimator=vector_flow).frames


@pytest.fixture
def seen(monkeypatch):
    """The blocks that are compiled, without their translation to C++, which takes a minute (tests/gpu has it)."""
    blocks, compile_module = [], torch.nn.Module.compile

    def record(self, **options):
        blocks.append(self)
        compile_module(self, **options, backend="aot_eager")

    monkeypatch.setattr(torch.nn.Module, "compile", record)
    monkeypatch.setattr(compiled.shutil, "which", lambda name: name)
    return blocks


def test_compiled_networks_give_the_frames_of_the_others(vectors, seen):
    plain = frames(vectors)
    assert not seen
    assert np.abs(plain - frames(vectors, compile=True)).max() < 1e-5
    assert {type(block) for block in seen} == set(compiled.BLOCKS)
    assert all(block._compiled_call_impl for block in seen)


def test_without_a_compiler_the_pipeline_says_what_to_install(vectors, no_compiler):
    with pytest.raises(UserError, match="needs a C\\+\\+ compiler, and none was found: install g\\+\\+"):
        frames(vectors, compile=True)


def test_upscale_says_so_too(vectors, tmp_path, no_compiler, capsys):
    for number, frame in enumerate(LR):
        write_frame(tmp_path / "in" / f"{number}.png", frame)
    options = ["--model", str(vectors / "model_v"), "--flow", "dis", "--steps", "1", "--device", "cpu", "--compile"]
    assert main(["upscale", str(tmp_path / "in"), str(tmp_path / "out"), *options]) == 1
    assert "C++ compiler" in capsys.readouterr().err
