"""The metric table as data, and what is said when a metric cannot be computed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from stablevsr.data.downloads import registry as downloads
from stablevsr.data.downloads import weights
from stablevsr.metrics.registry import METRICS, resolve
from stablevsr.metrics.weights import PACKAGES, dists_weights, missing
from stablevsr.runtime.errors import UserError


def test_units_and_directions_are_those_of_the_paper() -> None:
    assert {name: m.scale for name, m in METRICS.items() if m.scale != 1} == {
        "tlp": 1e3,
        "tof": 1e1,
        "tof_dis": 1e1,
        "tof_raft_std": 1e1,
    }
    higher = {name for name, m in METRICS.items() if m.direction == "higher"}
    assert higher == {"psnr", "ssim", "psnr_y", "ssim_y", "musiq", "clipiqa"}
    assert METRICS["sharpness"].direction == "none"
    assert {n for n, m in METRICS.items() if m.temporal} == {"tlp", "tof", "tof_dis", "tof_raft_std", "warp_error"}


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
        "import sys, stablevsr.metrics.registry as r, stablevsr.metrics.weights as w\n"
        "[w.missing(m) for m in r.METRICS]\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'pyiqa', 'lpips'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub"


def test_missing_weights_are_named_with_address_and_fix(empty_hub: Path) -> None:
    reason = missing("lpips")
    assert reason is not None
    assert "alexnet-owt-7be5be79.pth" in reason
    assert str(empty_hub / "checkpoints") in reason
    assert "stablevsr fetch alexnet" in reason
    assert "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth" in reason
    assert missing("psnr") is None


def test_missing_package_is_named_with_its_extra(empty_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "niqe", "a_package_that_nobody_has")
    assert missing(METRICS["niqe"]) == (
        "the package a_package_that_nobody_has is not installed: pip install -c requirements.lock -e '.[iqa]'"
    )


def test_the_hub_folder_follows_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    for home, cache in ((str(tmp_path / "t"), None), (None, str(tmp_path / "c")), (None, None)):
        for name, value in (("TORCH_HOME", home), ("XDG_CACHE_HOME", cache)):
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
        assert str(weights.location("vgg16").parent) == str(Path(torch.hub.get_dir()) / "checkpoints")


def test_a_file_with_the_wrong_content_is_refused(empty_hub: Path) -> None:
    file = weights.location("vgg16")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a download")
    assert missing("dists") is None
    with pytest.raises(UserError, match=r"vgg16-397923af\.pth are damaged .* 397923af.*stablevsr fetch vgg16"):
        weights.weight_file("vgg16")


def test_a_file_with_the_published_hash_is_accepted(empty_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = weights.location("niqe")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"parameters")
    row = downloads.get("niqe").model_copy(update={"sha256": hashlib.sha256(b"parameters").hexdigest()})
    monkeypatch.setattr(downloads, "_packaged", lambda: {"niqe": row})
    assert weights.weight_file("niqe") == file
    file.write_bytes(b"parameters, but others")
    with pytest.raises(UserError, match="damaged"):
        weights.weight_file("niqe")


def test_dists_channel_weights_are_found_by_their_hash() -> None:
    file = dists_weights()
    assert file is not None
    assert hashlib.sha256(file.read_bytes()).hexdigest().startswith("f5e65c96230b7f6c")
