"""The rehearsal of the paper study: the same methods and trainings, and nothing to download."""

import pytest

from benchmarks.rehearsal import REPOSITORY, write_data, write_study
from stablevsr.data.downloads import registry
from stablevsr.study.paths import Paths
from stablevsr.study.prepare import open_dataset
from stablevsr.study.requirements import all_downloads
from stablevsr.study.resolve import load_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rehearsal")
    write_study(folder, [])
    write_data(folder / "data")
    return folder


def test_it_has_the_methods_and_trainings_of_the_paper_study_in_a_few_steps(folder):
    paper, small = load_study("paper", REPOSITORY), load_study("rehearsal", folder)
    assert list(small.methods) == list(paper.methods)
    one_run = {run.digest for m in paper.methods.values() for d in m.datasets for run in m.on(d).trainings()}
    assert len(small.trainings()) == len(one_run)
    assert {run.settings.steps for run in small.trainings().values()} == {2}
    for name, method in small.methods.items():
        if method.sampling is not None:
            changed = {"steps": method.sampling.steps}
            assert method.sampling == paper.methods[name].sampling.model_copy(update=changed)
            assert method.sampling.steps <= 5


def test_it_downloads_no_data_and_no_model(folder):
    needed = all_downloads(load_study("rehearsal", folder))
    assert {registry.get(name).kind for name in needed} == {"weights"}


def test_its_data_have_the_official_layouts(folder, monkeypatch):
    monkeypatch.chdir(folder)
    study = load_study("rehearsal")
    for spec in study.spec.all_datasets():
        sequences = open_dataset(spec, Paths(study).low_resolution(spec))
        assert sequences and all(len(s.gt) == len(s.lr) >= 2 for s in sequences)
