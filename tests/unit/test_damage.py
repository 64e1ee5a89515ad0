"""Files that are not as they were written, as after a power cut: noticed, reported, made again."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from stablevsr.cli import main
from stablevsr.data.frames import is_whole, list_frames, write_frame
from stablevsr.method.stores import FolderStore
from stablevsr.metrics.tables import write_table
from stablevsr.runtime.errors import DamagedError
from stablevsr.runtime.hashing import content_hash, tree_hash
from stablevsr.runtime.io import read_sealed, write_sealed, write_text
from stablevsr.runtime.records import read_record, write_record
from stablevsr.study.damage import damaged
from stablevsr.study.inference.store import MARK, is_done
from stablevsr.training.cached_samples import is_current
from stablevsr.training.state import EMA, restore, save

DAMAGES = {
    "emptied": lambda data: b"",
    "zeroed": lambda data: bytes(len(data)),
    "cut": lambda data: data[: len(data) // 2],
    "one byte": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0x55]) + data[len(data) // 2 + 1 :],
}
each_damage = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
SCORES = "work/scores/metrics/set-key/digest/seed0/shard0of1.csv"
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def harm(file, damage):
    file.write_bytes(damage(file.read_bytes()))


@pytest.mark.parametrize("content", [b"", bytes(50), b"[]", b"5", b'{"a": 1}', b"\xff\xfe", b"[" * 10**5, b"1" * 5000])
def test_a_file_that_is_no_record_is_damaged(tmp_path, content):
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(DamagedError):
        read_record(tmp_path / "record.json")


@each_damage
def test_a_sealed_file_is_read_as_it_was_written_or_not_at_all(tmp_path, damage):
    for content in (b"", b"some bytes" * 100):
        write_sealed(tmp_path / "file", content)
        assert read_sealed(tmp_path / "file") == content
        harm(tmp_path / "file", damage)
        with pytest.raises(DamagedError):
            read_sealed(tmp_path / "file")


@each_damage
def test_a_frame_that_is_not_whole_is_noticed(tmp_path, damage):
    write_frame(tmp_path / "0.png", FRAMES[0])
    assert is_whole(tmp_path / "0.png")
    harm(tmp_path / "0.png", damage)
    assert not is_whole(tmp_path / "0.png")


def test_what_a_mark_promises_is_on_the_disk_first(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr("os.fsync", lambda handle: order.append("sync"))
    replace = type(tmp_path).replace
    monkeypatch.setattr(type(tmp_path), "replace", lambda path, to: (order.append("name"), replace(path, to))[1])
    write_text(tmp_path / "mark", "done")
    write_frame(tmp_path / "0.png", FRAMES[0])
    assert order == ["sync", "name", "sync", "sync", "name"]


def stopped(tmp_path, monkeypatch, after):
    """A command whose run was stopped after some written tensors, and where its work lies."""
    for number, frame in enumerate(FRAMES):
        write_frame(tmp_path / "lr" / f"{number}.png", frame)
    command = [
        "upscale",
        str(tmp_path / "lr"),
        str(tmp_path / "sr"),
        "--model",
        "tiny",
        "--steps",
        "2",
        "--window",
        "4",
    ]
    write, count = FolderStore.__setitem__, iter(range(10**6))

    def stop(self, name, value):
        if next(count) == after:
            raise KeyboardInterrupt
        write(self, name, value)

    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "__setitem__", stop)
        assert main(command) == 130
    return command, tmp_path / ".sr.partial"


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    for number, frame in enumerate(FRAMES):
        write_frame(root / "lr" / f"{number}.png", frame)
    command = ["upscale", str(root / "lr"), str(root / "sr"), "--model", "tiny", "--steps", "2", "--window", "4"]
    assert main([*command, "--device", "cpu"]) == 0
    return [file.read_bytes() for file in list_frames(root / "sr")]


@pytest.mark.parametrize("what", ["done.tensor", "latent*.tensor", "guide*.tensor", "*-*.tensor"])
@each_damage
def test_upscale_makes_a_damaged_state_again(tmp_path, monkeypatch, capsys, expected, what, damage):
    command, work = stopped(tmp_path, monkeypatch, after=17)
    for file in work.rglob(what):
        harm(file, damage)
    assert main(command) == 0
    assert "is damaged" in capsys.readouterr().err
    assert [file.read_bytes() for file in list_frames(tmp_path / "sr")] == expected


@each_damage
def test_upscale_makes_damaged_frames_again(tmp_path, monkeypatch, capsys, expected, damage):
    command, work = stopped(tmp_path, monkeypatch, after=40)
    finished = list(work.rglob("frames/*.png"))
    assert finished
    harm(finished[0], damage)
    harm(finished[-1], damage)
    assert main(command) == 0
    assert f"{finished[0].name} is damaged: making it again" in capsys.readouterr().err
    assert [file.read_bytes() for file in list_frames(tmp_path / "sr")] == expected


@each_damage
def test_a_damaged_training_state_starts_over(tmp_path, capsys, damage):
    model = torch.nn.Linear(3, 3)
    optimizer, ema = torch.optim.Adam(model.parameters()), EMA(model, 0.9)
    save(tmp_path, 5, model, optimizer, ema, None, [{"step": 5.0}], {"a": 1})
    assert restore(tmp_path, model, optimizer, ema, None)[0] == 5
    harm(tmp_path / "state.pt", damage)
    assert restore(tmp_path, model, optimizer, ema, None) == (0, [])
    assert "is damaged: the training starts over" in capsys.readouterr().err


@each_damage
def test_damaged_samples_are_noticed(tmp_path, capsys, damage):
    from safetensors.torch import save

    from stablevsr.training.cached_samples import _checksum

    tensors = {"lq": torch.rand(4, 3, 8, 8), "guidance_past": torch.rand(4, 3, 8, 8).half()}
    (tmp_path / "samples.safetensors").write_bytes(save(tensors, {"crc32": _checksum(tensors), "made_from": "a"}))
    assert is_current(tmp_path / "samples.safetensors", "a")
    harm(tmp_path / "samples.safetensors", damage)
    assert not is_current(tmp_path / "samples.safetensors", "a")
    assert "is damaged" in capsys.readouterr().err


@pytest.fixture
def stores(tmp_path):
    """One entry in every store that is looked at."""
    work, lr = tmp_path / "work", tmp_path / "work/lr/key/a"
    sequence = work / "frames/set-key/digest/seed0/a"
    for folder in (sequence, lr, tmp_path / "data/a"):
        write_frame(folder / "0.png", FRAMES[0])
    mark = {"made_from": "x", "input": content_hash([lr / "0.png"]), "sha256": content_hash([sequence / "0.png"])}
    write_record(sequence / MARK, mark)
    write_record(work / "manifests/set-key/digest/seed0/shard0of1.json", {"sequences": {}})
    for side, source in (("gt", tmp_path / "data/a"), ("lr", lr)):
        (work / "datasets/set-key" / side / "a").mkdir(parents=True)
        (work / "datasets/set-key" / side / "a/0.png").symlink_to(source / "0.png")
    entry = {"sha256": content_hash([tmp_path / "data/a/0.png", lr / "0.png"])}
    write_record(work / "datasets/set-key/manifest.json", {"sequences": {"a": entry}})
    training = work / "trainings/tcm/digest"
    write_text(training / "weights.safetensors", "some weights")
    write_record(training / "provenance.json", {"sha256": tree_hash(training)})
    write_table(tmp_path / SCORES, pd.DataFrame({"sequence": ["a"], "frame": ["0"], "psnr": [30.0]}), {})
    write_text(tmp_path / "results/study/tables/table1.csv", "a,b\n1,2\n")
    write_text(tmp_path / "results/study/tables/.snakemake_timestamp", "")  # Snakemake's, of a folder that rules make
    return tmp_path


@each_damage
@pytest.mark.parametrize("file,removed", [
    ("work/frames/set-key/digest/seed0/a/0.png",
     ["work/frames/set-key/digest/seed0/a", "work/manifests/set-key/digest/seed0/shard0of1.json", SCORES]),
    (f"work/frames/set-key/digest/seed0/a/{MARK}", ["work/frames/set-key/digest/seed0/a"]),
    ("work/manifests/set-key/digest/seed0/shard0of1.json",
     ["work/manifests/set-key/digest/seed0/shard0of1.json", SCORES]),
    ("work/lr/key/a/0.png", ["work/datasets/set-key/manifest.json", "work/lr/key/a/0.png", SCORES]),
    (SCORES, [SCORES, f"{SCORES}.json"]),
    ("work/datasets/set-key/manifest.json", ["work/datasets/set-key/manifest.json"]),
    ("work/trainings/tcm/digest/weights.safetensors", ["work/trainings/tcm/digest"]),
    ("work/trainings/tcm/digest/provenance.json", ["work/trainings/tcm/digest"]),
])  # fmt: skip
def test_clean_finds_what_is_damaged_and_what_rests_on_it(stores, monkeypatch, capsys, file, removed, damage):
    assert damaged(stores) == []
    harm(stores / file, damage)
    found = [str(path.relative_to(stores)) for path in damaged(stores)]
    assert set(removed) <= set(found)
    monkeypatch.chdir(stores)
    assert main(["clean", "--damaged"]) == 0 and (stores / removed[0]).exists()
    assert main(["clean", "--damaged", "--yes"]) == 0 and damaged(stores) == []
    assert not any((stores / path).exists() for path in removed)
    assert removed[0] in capsys.readouterr().out


def test_frames_that_are_damaged_are_not_done(stores, capsys):
    sequence, lr = stores / "work/frames/set-key/digest/seed0/a", stores / "work/lr/key/a/0.png"
    assert is_done(sequence, [lr], "x")
    harm(sequence / "0.png", DAMAGES["zeroed"])
    assert not is_done(sequence, [lr], "x")
    assert "are damaged: making them again" in capsys.readouterr().err
    shutil.rmtree(sequence)
    assert not is_done(sequence, [lr], "x")
