"""The metric table as data, and what is said when a metric cannot be computed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from DISTS_pytorch import DISTS_pt

from stablevsr.data.downloads import registry, weights
from stablevsr.data.frames import write_frame
from stablevsr.metrics.registry import METRICS, Metrics, missing, resolve
from stablevsr.metrics.tables import read_scores
from stablevsr.runtime.errors import UserError

ROOT = Path(__file__).parents[2]


PAPER = {  # what the paper and the published scripts say, and this project's margins: direction, scale, margin
    "psnr": ("higher", 1, 0.2), "ssim": ("higher", 1, 0.005), "lpips": ("lower", 1, 0.01), "dists": ("lower", 1, 0.01),
    "musiq": ("higher", 1, None), "clipiqa": ("higher", 1, None), "niqe": ("lower", 1, None),
    "tlp": ("lower", 1e3, 1.0), "tof": ("lower", 1e1, 0.1), "tof_raft_std": ("lower", 1e1, None),
    "tof_dis": ("lower", 1e1, 0.1),
    "warp_error": ("lower", 1, 0.001), "psnr_y": ("higher", 1, None), "ssim_y": ("higher", 1, None),
    "psnr_y_centre": ("higher", 1, None), "ssim_y_centre": ("higher", 1, None), "lr_consistency": ("higher", 1, None),
    "sharpness": ("none", 1, None),
}  # fmt: skip
TEMPORAL = {"tlp", "tof", "tof_dis", "tof_raft_std", "warp_error"}


@pytest.mark.parametrize("name", PAPER)
def test_units_and_directions_are_those_of_the_paper(name: str) -> None:
    metric = METRICS[name]
    assert (metric.direction, metric.scale, metric.margin) == PAPER[name]
    assert metric.temporal == metric.rewards_blur == (name in TEMPORAL)


def test_resolve_keeps_order_and_drops_repeats() -> None:
    assert [m.name for m in resolve(["tlp", "psnr", "tlp"])] == ["tlp", "psnr"]


@pytest.mark.parametrize(
    ("names", "said"),
    [(["psnr", "lpip"], "did you mean 'lpips'"), ([], "no metric"), (["xyz"], "unknown metric 'xyz'")],
)
def test_unknown_names_are_refused(names: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve(names)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, stablevsr.metrics.registry as r\n"
        "[r.missing(m) for m in r.METRICS.values()]\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'pyiqa', 'lpips'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "hub"


def test_missing_weights_are_named_with_address_and_fix(empty_hub: Path) -> None:
    reason = missing(METRICS["lpips"])
    assert reason is not None
    assert "alexnet-owt-7be5be79.pth" in reason
    assert str(empty_hub / "checkpoints") in reason
    assert "stablevsr fetch alexnet" in reason
    assert "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth" in reason
    assert missing(METRICS["psnr"]) is None


def test_missing_package_is_named_with_its_extra(empty_hub: Path) -> None:
    niqe = replace(METRICS["niqe"], package="a_package_that_nobody_has")
    assert missing(niqe) == (
        "the package a_package_that_nobody_has is not installed: pip install -c requirements.lock -e '.[iqa]'"
    )


def test_the_hub_folder_follows_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    monkeypatch.setenv("HOME", str(tmp_path))
    for home, cache in ((str(tmp_path / "t"), None), (None, str(tmp_path / "c")), (None, None)):
        for name, value in (("TORCH_HOME", home), ("XDG_CACHE_HOME", cache)):
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
        assert str(weights.location("vgg16").parent) == str(Path(torch.hub.get_dir()) / "checkpoints")


def test_a_file_with_the_wrong_content_is_refused(empty_hub: Path) -> None:
    file = weights.location("vgg16")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a download")
    assert missing(METRICS["dists"]) is None
    with pytest.raises(UserError, match=r"vgg16-397923af\.pth are damaged .* 397923af.*stablevsr fetch vgg16"):
        weights.weight_file("vgg16")


def test_a_file_with_the_published_hash_is_accepted(empty_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = weights.location("niqe")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"parameters")
    row = registry.get("niqe").model_copy(update={"sha256": hashlib.sha256(b"parameters").hexdigest()})
    monkeypatch.setattr(registry, "load", lambda: {"niqe": row})
    assert weights.weight_file("niqe") == file
    file.write_bytes(b"parameters, but others")
    with pytest.raises(UserError, match="damaged"):
        weights.weight_file("niqe")


def test_the_channel_weights_of_dists_are_the_published_ones() -> None:
    file = Path(DISTS_pt.__file__).with_name("weights.pt")
    assert hashlib.sha256(file.read_bytes()).hexdigest().startswith("f5e65c96230b7f6c")


FOREIGN = """
from stablevsr.metrics.metric import Metric, chunk_metric, frame_metric

ABOUT = dict(kind="fidelity", direction="lower", decimals=3, convention="Of levels.", source="this test")


@frame_metric(Metric("{name}", "MAE", scale=255, **ABOUT))
def by_frames(pair):
    return abs(pair.rgb[0] - pair.rgb[1]).mean()


@chunk_metric(Metric("by_chunks", "MAE", scale=255, **ABOUT))
def by_chunks(tools):
    return lambda chunk: [(chunk.gt_frames - output).abs().mean((1, 2, 3)) for output in chunk.output_frames]
"""


def install(folder: Path, package: str, entries: dict[str, str], code: str) -> Path:
    """A distribution as pip would leave it, with entry points of metrics."""
    info = folder / f"{package}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    lines = [f"{name} = {target}" for name, target in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[stablevsr.metrics]", *lines]) + "\n")
    (folder / f"{package}.py").write_text(code)
    return folder


def test_metrics_of_an_installed_package_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {"extra": "joining:by_frames", "by_chunks": "joining:by_chunks"}
    site = install(tmp_path / "site", "joining", entries, FOREIGN.format(name="extra"))
    random = np.random.default_rng(0)
    frames = {side: random.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8) for side in ("gt", "sr")}
    for side, levels in frames.items():
        for index, frame in enumerate(levels):
            write_frame(tmp_path / side / "clip" / f"{index}.png", frame)
    options = ["--gt", str(tmp_path / "gt"), "--sr", str(tmp_path / "sr"), "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "stablevsr", "evaluate", *options, "--metrics", "extra,by_chunks", "--out", "out.csv"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": f"{site}:{ROOT}"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = read_scores(tmp_path / "out.csv")
    expected = np.abs(frames["gt"].astype(float) - frames["sr"]).mean((1, 2, 3))
    np.testing.assert_allclose(table["extra"], expected)
    np.testing.assert_allclose(table["by_chunks"], expected, rtol=1e-5)
    assert json.loads((tmp_path / "out.csv.json").read_text())["versions"]["joining"] == "1.2"
    monkeypatch.syspath_prepend(site)
    found = Metrics()
    assert "extra" in found and set(found) == {*METRICS, "extra", "by_chunks"} and len(found) == len(set(found))
    assert found.foreign(["psnr", "extra", "by_chunks"]) == ["joining 1.2"] and found.foreign(["psnr"]) == []


@pytest.mark.parametrize(
    ("name", "target", "code", "said"),
    [
        ("psnr", "p:by_frames", FOREIGN.format(name="psnr"), "the metric 'psnr' comes from stablevsr and p: uninstall"),
        (
            "extra",
            "p:by_frames",
            "import nowhere",
            r"'extra' of the package p cannot be imported \(ModuleNotFoundError",
        ),
        ("extra", "p:by_frames", "", r"'extra' of the package p cannot be imported \(AttributeError"),
        ("extra", "p:by_frames", FOREIGN.format(name="mea"), "p:by_frames is no metric of that name"),
        ("extra", "p:ABOUT", FOREIGN.format(name="extra"), "p:ABOUT is no metric of that name"),
    ],
)
def test_a_package_that_cannot_join_is_named_where_its_metric_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, target: str, code: str, said: str
) -> None:
    monkeypatch.syspath_prepend(install(tmp_path, "p", {name: target}, code))
    monkeypatch.delitem(sys.modules, "p", raising=False)
    found = Metrics()
    assert found["ssim"] is METRICS["ssim"]
    with pytest.raises(UserError, match=said) as raised:
        found[name]
    assert "\n" not in str(raised.value)
