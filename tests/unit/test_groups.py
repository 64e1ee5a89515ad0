"""Which methods share a job: every method is in one, and a new ablation leaves the others' jobs as they are."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml

from stablevsr.study.groups import groups, owner, sampled_with, tables
from stablevsr.study.resolve import load_study

REPOSITORY = Path(__file__).parents[2]
STUDIES = ("mini", "smoke", "evidence", "paper")


def members(group):
    return {(dataset, form.digest, form.run) for dataset, forms in group.forms.items() for form in forms}


@pytest.mark.parametrize("name", STUDIES)
def test_every_form_of_every_method_is_in_one_group(name):
    study = load_study(name, REPOSITORY)
    found = Counter(member for group in groups(study, sampled_with) for member in members(group))
    expected = {(d, form.digest, form.run) for d in study.spec.datasets for form in study.forms_on(d)}
    assert set(found) == expected and set(found.values()) == {1}
    written = [(dataset, method.name) for (dataset, _), methods in tables(study).items() for method in methods]
    assert sorted(written) == sorted((dataset, m.name) for m in study.methods.values() for dataset in m.datasets)


@pytest.mark.parametrize("name", STUDIES)
def test_a_job_has_one_run_and_one_number_of_shards(name):
    study = load_study(name, REPOSITORY)
    for group in groups(study, sampled_with):
        assert {form.run for forms in group.forms.values() for form in forms} == {group.run}
        assert {study.spec.datasets[dataset].shards for dataset in group.forms} == {group.shards}


def test_the_mini_study_starts_few_processes_with_networks():
    started = [g for g in groups(load_study("mini", REPOSITORY), sampled_with) if not g.name.startswith("frames_")]
    assert len(started) <= 12  # of 6.7 s of processor time each
    assert sum(group.size for group in started) >= 2 * len(started)


@pytest.fixture
def root(tmp_path):
    shutil.copytree(REPOSITORY / "workflow" / "studies", tmp_path / "workflow" / "studies")
    shutil.copytree(REPOSITORY / "ablations", tmp_path / "ablations")
    return tmp_path


@pytest.mark.parametrize("ablation", ["aaa", "guidance2", "zzz"])
def test_a_new_ablation_adds_groups_and_changes_none(root, ablation):
    before = {group.name: members(group) for group in groups(load_study("mini", root), sampled_with)}
    new = {
        "title": "New", "question": "New?",
        "variants": {
            "same": {"label": "The method"},
            "new": {"label": "Without a step", "sampling": {"steps": 13}},
            "mine": {"label": "Mine", "frames": "work/external/{study}/mine/{dataset}"},
        },
    }  # fmt: skip
    (root / f"ablations/{ablation}.yaml").write_text(yaml.safe_dump(new))
    study = load_study("mini", root)
    after = {group.name: members(group) for group in groups(study, sampled_with)}
    added = set(after) - set(before)
    assert {name: after[name] for name in before} == before
    datasets = study.ablation_datasets(ablation)
    where = "_".join([*datasets, "run0"])
    assert added == {f"{ablation}_{where}", f"frames_{ablation}_mine_{where}"}
    assert all(len(after[name]) == len(datasets) for name in added)  # the shared method is in the study's group


def test_frames_that_rules_make_are_not_in_the_group_of_what_they_are_made_from():
    made = groups(load_study("evidence", REPOSITORY), sampled_with)
    (alone,) = [group for group in made if "temporal_filter_averaged" in group.name]
    assert {form.kind for forms in alone.forms.values() for form in forms} == {"frames"}


def test_scores_do_not_wait_for_frames_that_another_ablations_rules_make():
    """One table alone needs its own rows only, and rules that fail keep no other scores away."""
    scored = {g.name: members(g) for g in groups(load_study("beyond", REPOSITORY), owner)}
    study = load_study("beyond", REPOSITORY)
    for name, found in scored.items():
        kinds = {
            form.kind for d in study.spec.datasets for form in study.forms_on(d) if (d, form.digest, form.run) in found
        }
        assert "frames" not in kinds or len(found) == 1, name


def test_baselines_that_run_on_the_cpu_keep_no_gpu_waiting():
    study = load_study("paper", REPOSITORY)
    kinds = {True: set(), False: set()}
    for group in groups(study, sampled_with):
        kinds[group.on_gpu] |= {form.kind for forms in group.forms.values() for form in forms}
    assert kinds[False] == {"bicubic", "realesrgan-x4plus", "frames"}
    assert {"stablevsr", "basicvsr-reds4", "realbasicvsr"} <= kinds[True]


def test_names_that_differ_only_in_a_sign_give_two_groups(root):
    for name in ("one-two", "one_two"):
        variant = {"label": name, "sampling": {"steps": 11 + name.count("-")}}
        content = {"title": name, "question": name, "variants": {"new": variant}}
        (root / f"ablations/{name}.yaml").write_text(yaml.safe_dump(content))
    names = [group.name for group in groups(load_study("mini", root), sampled_with)]
    assert len(set(names)) == len(names) and all(name.isidentifier() for name in names)
    assert sum(name.startswith("one_two") for name in names) == 2
