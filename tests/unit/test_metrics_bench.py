"""benchmarks/metrics.py: both sides do all the work, agree, and a difference is reported."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from stablevsr.metrics.registry import METRICS

FILE = Path(__file__).parents[2] / "benchmarks" / "metrics.py"

NAMES = "psnr,ssim_y,sharpness,lpips,tlp,dists,tof,tof_dis,warp_error"


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    """The script as a module, with the file beside it importable as when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FILE.parent)
        spec = importlib.util.spec_from_file_location("metrics_benchmark", FILE)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def measured(bench: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(folder / "no weights here"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "no weights here"))
        patch.setenv("OMP_NUM_THREADS", "1")
        options = ["--size", "48", "40", "--frames", "3", "--sequences", "2", "--methods", "2", "--device", "cpu"]
        assert bench.main(["--metrics", NAMES, *options, "--out", str(folder / "b.json")]) == 0
    return json.loads((folder / "b.json").read_text())


def test_both_sides_agree_on_every_metric(measured: dict) -> None:
    found = {metric["metric"]: metric for metric in measured["metrics"]}
    assert list(found) == NAMES.split(",")
    assert all(metric["equal"] for metric in found.values())
    assert found["ssim_y"]["difference"] > 0 and found["tlp"]["difference"] > 0  # by different code on each side
    assert measured["random_weights"] == ["alexnet", "raft", "vgg16"]


def test_the_whole_is_the_sum_of_its_parts(measured: dict) -> None:
    *parts, whole = measured["parts"]
    assert whole["name"] == "all"
    for side in ("plain", "ours"):
        assert all(part[side] > 0 for part in parts)
        assert sum(part[side] for part in parts) == pytest.approx(whole[side])
    assert measured["ratio"] == pytest.approx(whole["plain"] / whole["ours"])


def test_a_difference_that_tables_would_show_is_reported(bench: ModuleType) -> None:
    chosen = [METRICS["psnr"], METRICS["tlp"]]
    plain = np.array([(math.inf, math.nan), (30.0, 1.0)])
    for ours, equal in (
        ((30.004, 1.0), [True, True]),
        ((30.006, 1.0), [False, True]),
        ((30.0, math.nan), [True, False]),
    ):
        scored = np.array([(math.inf, math.nan), ours])
        assert [found.equal for found in bench._agreements(chosen, plain, scored)] == equal
    assert bench.Part("x", 6.0, 2.0).ratio == 3
    assert not bench.Agreement("x", math.nan, 1).equal


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metrics", "lpip"], "did you mean 'lpips'"),
        (["--metrics", "lpips", "--size", "16", "40"], "lpips needs 32"),
        (["--methods", "0"], "at least one"),
    ],
)
def test_wrong_options_are_one_sentence(
    bench: ModuleType, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main([*options, "--device", "cpu"]) == 1
    assert said in capsys.readouterr().err
