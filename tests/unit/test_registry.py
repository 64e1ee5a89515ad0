"""The table is complete and strict, and says where things lie the way torch, pyiqa and the hub client look for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fetch_server import fetch_from, is_present, local_path, png, row

from stablevsr.data.downloads import registry
from stablevsr.runtime.errors import UserError

NAMES = (
    "reds_train_sharp reds_train_sharp_bicubic reds_val_sharp reds_val_sharp_bicubic reds4 vimeo90k vimeo90k_test "
    "stablevsr sd_x4_upscaler raft alexnet vgg16 musiq clip_rn50 niqe"
)
WEIGHTS = row(
    "w", "weights", urls=["https://example.org/w.pth"], destination={"how": "torch_hub", "folder": "checkpoints"}
)


def parse(**changes: object) -> dict[str, registry.Row]:
    return registry.parse(yaml.safe_dump({"w": {**WEIGHTS["w"], **changes}}), "table")


def test_the_packaged_table_has_every_promised_row() -> None:
    assert set(NAMES.split()) <= set(registry.load())


def test_every_download_is_bound_to_a_hash_or_gets_one_recorded_and_every_model_to_a_commit() -> None:
    for one in registry.load().values():
        if isinstance(one.destination, registry.Hub):
            assert len(one.version) == 40, one.name
        if one.sha256_prefix:
            assert f"-{one.sha256_prefix}.pth" in one.filename, one.name
        assert one.bytes > 0, f"{one.name}: the plan needs a size"


def test_the_published_hashes_of_facts_are_in_the_table() -> None:
    rows = registry.load()
    assert rows["reds_train_sharp"].size == 34261573976
    assert rows["reds_train_sharp_bicubic"].sha256 is not None
    assert rows["reds_train_sharp_bicubic"].sha256.startswith("ff20eac3")
    assert rows["clip_rn50"].sha256 in rows["clip_rn50"].urls[0]
    model = rows["stablevsr"].destination
    assert isinstance(model, registry.Hub)
    assert model.files["vae/diffusion_pytorch_model.safetensors"].size == 221326500


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sha265": "0" * 64}, "sha265"),
        ({"sha256": "12ab"}, "sha256"),
        ({"sha256_prefix": "NOTHEX"}, "sha256_prefix"),
        ({"urls": ["ftp://example.org/w.pth"]}, "'urls.0': String should match pattern '^https?://"),
        ({"urls": []}, "address"),
        ({"destination": {"how": "torch_hub", "folder": "../up"}}, "stays inside"),
        ({"destination": {"how": "somewhere"}}, "destination"),
        ({"destination": {"how": "unpack", "into": "X", "keep": ["a"]}}, "contents"),
        ({"destination": {"how": "hub", "repo": "a/b", "files": {"m.bin": {}}}}, "m.bin"),
        ({"destination": {"how": "hub", "repo": "a/b", "files": {"m.json": {}}}}, "commit"),
        ({"destination": {"how": "pick", "into": "X", "sources": ["no"]}, "contents": [
            {"root": "r", "sequences": ["0"], "frames": 1, "width": 1, "height": 1}]}, "'no'"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_refused_with_its_name(changes: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match="row 'w'") as caught:
        parse(**changes)
    assert told in str(caught.value)


def test_an_unknown_name_suggests_the_near_miss() -> None:
    with pytest.raises(UserError, match="did you mean 'vimeo90k'"):
        registry.get("vimeo90")


def test_importing_the_registry_and_asking_for_weights_imports_neither_torch_nor_the_hub_client(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from stablevsr.data.downloads.record import is_present;"
        "is_present('raft', Path('.')); is_present('reds4', Path('.'));"
        "sys.exit(' '.join({'torch', 'huggingface_hub', 'requests'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("variable", ["TORCH_HOME", "XDG_CACHE_HOME", "HOME"])
def test_weights_lie_where_torch_looks(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("torch.hub")
    for other in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    path = registry.local_path("raft", tmp_path)
    assert path == Path(hub.get_dir()) / "checkpoints" / "raft_large_C_T_SKHT_V2-ff5fadd5.pth"
    assert tmp_path in path.parents


def test_a_relative_torch_home_with_a_tilde_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("torch.hub")
    monkeypatch.setenv("TORCH_HOME", "~/elsewhere")
    assert registry.torch_hub_folder() == Path(hub.get_dir())


def test_pyiqa_and_torchvision_want_the_files_of_the_table() -> None:
    """The names and folders of the installed libraries, read from their source: they would download anything else."""
    import importlib.util

    wanted = {
        "torchvision/models/optical_flow/raft.py": "raft",
        "torchvision/models/alexnet.py": "alexnet",
        "torchvision/models/vgg.py": "vgg16",
        "pyiqa/archs/musiq_arch.py": "musiq",
        "pyiqa/archs/niqe_arch.py": "niqe",
        "pyiqa/archs/clip_model.py": "clip_rn50",
    }
    looked = 0
    for file, name in wanted.items():
        package, _, inner = file.partition("/")
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin:
            looked += 1
            assert registry.get(name).filename in (Path(spec.origin).parent / inner).read_text(encoding="utf-8")
    assert looked >= 3  # torchvision is always there, pyiqa is an extra
    assert registry.local_path("clip_rn50", Path()).parent.name == "clip"
    assert registry.local_path("musiq", Path()).parent.name == "pyiqa"


def _reds(tmp_path: Path, frames: int = 3, folder: str = "REDS/train_sharp") -> None:
    for clip in ("000", "001", "002"):
        (tmp_path / folder / clip).mkdir(parents=True)
        for frame in range(frames):
            (tmp_path / folder / clip / f"{frame:08d}.png").write_bytes(png(8, 4, frame))


REDS = {
    **WEIGHTS["w"],
    "destination": {"how": "unpack", "into": "REDS", "outer": "train", "keep": ["train_sharp"]},
    "contents": [{"root": "train_sharp", "sequences": ["000-002"], "frames": 3, "width": 8, "height": 4}],
}


def test_a_dataset_is_present_once_its_frames_were_verified_and_only_while_they_are_unchanged(tmp_path: Path) -> None:
    table = registry.parse(yaml.safe_dump({"reds": REDS}))
    _reds(tmp_path)
    assert not is_present("reds", tmp_path, table)
    fetch_from(table, ["reds"], tmp_path)  # unpacked by hand: verified without any network
    assert is_present("reds", tmp_path, table)
    frame = tmp_path / "REDS/train_sharp/001/00000002.png"
    content = frame.read_bytes()
    frame.write_bytes(content[:-1] + b"x")
    assert not is_present("reds", tmp_path, table)
    with pytest.raises(UserError, match=r"has no w\.pth"):  # its size in pixels is right, but it is another frame
        fetch_from(table, ["reds"], tmp_path, source=tmp_path)
    frame.write_bytes(content)
    fetch_from(table, ["reds"], tmp_path)
    assert is_present("reds", tmp_path, table)
    frame.unlink()
    frame.with_name(".00000002.png.part").touch()  # half a frame is none
    assert not is_present("reds", tmp_path, table)


def test_the_outer_level_of_archives_unpacked_by_hand_is_found(tmp_path: Path) -> None:
    table = registry.parse(yaml.safe_dump({"reds": REDS}))
    assert local_path("reds", tmp_path, table) == tmp_path / "REDS"
    _reds(tmp_path, folder="REDS/train/train_sharp")
    assert local_path("reds", tmp_path, table) == tmp_path / "REDS/train"
    fetch_from(table, ["reds"], tmp_path)
    assert is_present("reds", tmp_path, table)
