"""Cleaning: what a study refers to stays, what none does goes, and nothing goes where there is no study."""

import shutil
from pathlib import Path

import pytest

from stablevsr.errors import UserError
from stablevsr.study.clean import unreferenced
from stablevsr.study.paths import Paths
from stablevsr.study.resolve import load_study

REPOSITORY = Path(__file__).parents[2]


def test_only_what_no_study_refers_to_is_found(tmp_path):
    for folder in ("workflow", "ablations"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    study = load_study("mini", tmp_path)
    paths = Paths(study, work=tmp_path / "work")
    wanted = paths.checkpoint(next(iter(study.trainings())))
    stale = paths.checkpoint("0" * 16)
    for folder in (wanted, stale):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    assert unreferenced(tmp_path) == [(stale, 2)]


def test_a_folder_without_studies_is_refused(tmp_path):
    (tmp_path / "work" / "checkpoints" / "precious").mkdir(parents=True)
    with pytest.raises(UserError, match="run this in the repository's folder"):
        unreferenced(tmp_path)
