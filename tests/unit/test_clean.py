"""Cleaning: what a study refers to stays, what none does goes, and nothing goes where there is no study."""

import shutil
from pathlib import Path

import pytest

from stablevsr.runtime.errors import UserError
from stablevsr.study.clean import remove, unreferenced
from stablevsr.study.paths import Paths
from stablevsr.study.resolve import load_study

REPOSITORY = Path(__file__).parents[2]


def test_only_what_no_study_refers_to_is_found(tmp_path):
    for folder in ("workflow", "ablations"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    study = load_study("mini", tmp_path)
    paths = Paths(study, work=tmp_path / "work")
    wanted = paths.training(next(iter(study.trainings().values())))
    stale = wanted.with_name("0" * 16)
    for folder in (wanted, stale):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    assert unreferenced(tmp_path) == [(stale, 2)]


def test_samples_and_links_of_datasets_count_and_the_files_behind_links_do_not(tmp_path):
    for folder in ("workflow", "ablations"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    study = load_study("mini", tmp_path)
    paths = Paths(study, work=tmp_path / "work")
    frame = tmp_path / "frame.png"
    frame.write_bytes(bytes(1000))
    stale = [paths.work / "datasets/gone-0123", paths.work / "samples" / ("0" * 16)]
    run = next(run for run in study.trainings().values() if run.samples)
    for folder in (paths.dataset("reds4"), paths.samples(run).parent, *stale):
        folder.mkdir(parents=True)
        (folder / "content.json").write_text("{}")
        (folder / "frame.png").symlink_to(frame)
    training_data = paths.training_data(study.spec.training_datasets["reds"])
    training_data.write_text("{}")
    assert unreferenced(tmp_path) == [(path, 2) for path in reversed(stale)]
    remove([path for path, _ in unreferenced(tmp_path)])
    assert frame.exists() and training_data.exists() and not any(path.exists() for path in stale)


def test_a_state_is_kept_until_its_training_is_finished(tmp_path):
    for folder in ("workflow", "ablations"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    study = load_study("mini", tmp_path)
    paths = Paths(study, work=tmp_path / "work")
    runs = study.trainings()
    for digest in runs:
        paths.state(digest).mkdir(parents=True)
    assert unreferenced(tmp_path) == []
    digest, run = next(iter(runs.items()))
    paths.training(run).mkdir(parents=True)
    (paths.training(run) / "provenance.json").write_text("{}")
    assert unreferenced(tmp_path) == [(paths.state(digest), 0)]


def test_of_a_link_only_the_link_is_removed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/frame.png").touch()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    remove([tmp_path / "link"])
    assert (tmp_path / "elsewhere/frame.png").exists() and not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("link", ["states", "frames", "frames/set", "scores/code/set"])
def test_what_lies_behind_a_link_is_not_found(tmp_path, link):
    shutil.copytree(REPOSITORY / "workflow", tmp_path / "workflow")
    shutil.copytree(REPOSITORY / "ablations", tmp_path / "ablations")
    (tmp_path / "elsewhere/a/b").mkdir(parents=True)
    (tmp_path / "disk/work" / link).parent.mkdir(parents=True)
    (tmp_path / "disk/work" / link).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "work").symlink_to(tmp_path / "disk/work")  # the whole of it may lie on another disk
    (tmp_path / "work/lr/old").mkdir(parents=True)
    assert [path for path, _ in unreferenced(tmp_path)] == [tmp_path / "work/lr/old"]


def test_a_folder_without_studies_is_refused(tmp_path):
    (tmp_path / "work" / "trainings" / "tcm" / "precious").mkdir(parents=True)
    with pytest.raises(UserError, match="run this in the repository's folder"):
        unreferenced(tmp_path)
