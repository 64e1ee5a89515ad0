"""The bench does the same work in every case, accounts for its time, and compares outputs honestly."""

import json

import pytest
import torch

from stablevsr.bench import sampling
from stablevsr.bench.int8 import has_int8
from stablevsr.bench.sampling import cases_on, full_size
from stablevsr.cli import main
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.timing import StageTimer


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    options = ["--size", "16x12", "--frames", "2", "--sequences", "2", "--steps", "2", "--device", "cpu"]
    options += ["--cases", "all"]
    assert main(["bench", *options, "--out", str(out)]) == 0
    return {case["case"]: case for case in json.loads(out.read_text())["cases"]}


def test_batching_changes_nothing_but_rounding(measured):
    assert measured["published"]["psnr"] is None
    assert min(measured[name]["psnr"] for name in ("batched", "exact")) > 80
    assert 30 < measured["bf16"]["psnr"] < 80  # lower precision shows, and is not noise
    assert 20 < measured["fp8-weights"]["psnr"] < measured["bf16"]["psnr"]
    if has_int8():
        assert 20 < measured["int8"]["psnr"] < measured["bf16"]["psnr"]
    assert measured["small-decoder"]["psnr"] is None  # its weights are random here


def test_stages_add_up_to_the_whole(measured):
    for name, case in measured.items():
        # with a single step, from half of them on, none is guided
        guided = set() if name == "unipc-half-guided" else {"TCM", "flow", "warp"}
        guided |= {"small decoder"} if "small" in name or name == "fast" else set()
        always = {"UNet down", "UNet up", "VAE decoder", "scheduler", "IO", "idle"}
        assert set(case["stages"]) == always | guided
        assert sum(case["stages"].values()) == pytest.approx(case["seconds"], rel=0.01)
        assert case["stages"]["idle"] < 0.3 * case["seconds"]  # the stages hold nearly all of it
        steps = 1 if "unipc" in name or name == "fast" else 2  # a fifth of two, but at least one
        assert case["frame_steps_a_second"] * case["seconds"] == pytest.approx(2 * 2 * steps)


def test_a_stage_inside_another_counts_for_itself_only(monkeypatch):
    now = iter([0.0, 1.0, 3.0, 7.0, 20.0, 21.0])
    monkeypatch.setattr("stablevsr.runtime.timing.time.perf_counter", lambda: next(now))
    watch = StageTimer(torch.device("cpu"))
    with watch.stage("warp"), watch.stage("VAE decoder"):
        pass
    with pytest.raises(KeyError), watch.stage("warp"):
        raise KeyError  # a stage that fails is over
    assert watch.read() == {"warp": 1 + 4 + 1, "VAE decoder": 2}
    assert watch.read() == {}


def test_the_random_model_has_the_released_size():
    with torch.device("meta"):
        counts = [round(network.num_parameters() / 1e6, 1) for network in full_size()]
    assert counts == [472.4, 207.7, 55.3]


def test_compiled_cases_are_for_gpus_and_run_where_they_are_asked_for(monkeypatch, tmp_path):
    assert not {"exact-compiled", "bf16-compiled"} & set(cases_on("cpu"))
    assert {"exact-compiled", "bf16-compiled"} < set(cases_on("cuda"))
    compile_module = torch.nn.Module.compile  # without the translation to C++, which takes a minute
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **o: compile_module(self, **o, backend="aot_eager"))
    monkeypatch.setattr("stablevsr.bench.sampling.check_compiler", lambda: None)
    out = tmp_path / "bench.json"
    options = ["--size", "16x12", "--frames", "2", "--sequences", "1", "--steps", "1", "--device", "cpu"]
    assert main(["bench", *options, "--cases", "exact,exact-compiled", "--out", str(out)]) == 0
    _, compiled = json.loads(out.read_text())["cases"]
    assert compiled["psnr"] > 80


def test_what_was_measured_is_kept_when_a_later_case_fails(monkeypatch, tmp_path):
    run = sampling._run

    def fail_late(case, *rest):
        if case.name == "exact":
            raise UserError("the GPU's memory ran out")
        return run(case, *rest)

    monkeypatch.setattr(sampling, "_run", fail_late)
    out = tmp_path / "bench.json"
    options = ["--size", "16x12", "--frames", "2", "--sequences", "1", "--steps", "1", "--device", "cpu"]
    assert main(["bench", *options, "--cases", "batched,exact", "--out", str(out)]) == 1
    assert [case["case"] for case in json.loads(out.read_text())["cases"]] == ["batched"]


def test_all_cases_are_those_that_differ_on_the_device():
    on_cpu, on_gpu = set(cases_on("cpu")), set(cases_on("cuda"))
    assert {"published", "exact", "bf16", "fast"} < on_cpu & on_gpu
    assert {"batched", "bf16-channels-first"} < on_cpu - on_gpu  # a GPU's networks are channels-first anyway
    assert {"tf32", "channels-last", "bf16-channels-last"} < on_gpu - on_cpu


def test_a_tile_changes_how_frames_are_decoded():
    case = next(case for case in sampling.CASES if case.name == "exact")
    lr = torch.rand(1, 2, 3, 48, 48) * 2 - 1
    whole, tiled = (
        sampling._run(case, "tiny", sampling.Work(48, 48, frames=2, sequences=1, steps=1, tile=tile), lr, "cpu")[1]
        for tile in (None, 32)
    )
    assert whole.shape == tiled.shape
    assert 0 < (whole - tiled).abs().max() < 0.5


def test_an_unknown_case_names_the_near_miss(capsys):
    assert main(["bench", "--cases", "batchd"]) == 1
    assert "did you mean 'batched'" in capsys.readouterr().err
