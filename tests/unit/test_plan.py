"""What a study will cost: figures from outside, and what is there already is not counted again."""

from pathlib import Path

import pytest

from stablevsr.study.paths import Paths
from stablevsr.study.plan import _frame_work, _training_work, plan
from stablevsr.study.resolve import load_study

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def paper(tmp_path):
    study = load_study("paper", REPOSITORY)
    return study, Paths(study, tmp_path / "work", tmp_path / "results")


def line(text, start):
    return next(row for row in text.splitlines() if row.strip().startswith(start)).split()


def test_a_frame_costs_what_was_measured(paper):
    # Counted apart from this code: about 1,065 TFLOP a frame of 320x180 in 50 steps
    assert _frame_work(paper[0].methods["stablevsr"], 320 * 180) == pytest.approx(1065, rel=0.02)


def test_a_frame_without_guidance_leaves_out_tcm_and_decoder(paper):
    alone = _frame_work(paper[0].methods["sampling.single_frame"], 320 * 180)
    assert alone == pytest.approx(50 * 3.99 + 15.7)


def test_a_training_sample_costs_what_counters_say(paper):
    # torch's FlopCounterMode on the full-size networks, crops of 256: encoding one frame 0.345, decoding one 0.671,
    # UNet 0.284 and TCM 0.111 forward
    study, _ = paper
    per_sample = {}
    for run in study.trainings().values():
        per_sample[run.kind] = _training_work(run) / run.settings.steps / run.settings.batch
    assert per_sample["unet"] == pytest.approx(3 * 0.284 + 0.345, rel=0.01)
    assert per_sample["tcm"] == pytest.approx(3 * (0.284 + 0.111) + 0.671 + 2 * 0.345, rel=0.01)


def test_the_paper_study_counts_every_download_once(paper, tmp_path):
    text = plan(*paper, tmp_path / "data", 50)
    assert text.count(" reds_train_sharp ") == text.count(" raft ") == 1
    assert line(text, "vimeo90k ")[1:] == ["82.0", "GB", "to", "fetch"]


def test_what_is_there_is_not_planned_again(paper, tmp_path):
    study, paths = paper
    before = plan(study, paths, tmp_path, 50)
    manifest = paths.manifest("reds4", study.methods["stablevsr"].digest, 0, 0)
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    after = plan(study, paths, tmp_path, 50)
    todo, everything = (int(line(before, "shards of frames")[i]) for i in (3, 5))
    assert line(after, "shards of frames")[3:] == [str(todo - 1), "of", str(everything)]

    def steps(text):
        return int(line(text, "frames to make")[4].strip("(").replace(",", ""))

    assert steps(before) - steps(after) == 100 * 50  # a quarter of REDS4's 400 frames, 50 steps each


def test_a_zip_takes_its_size_twice_until_it_is_there(paper, tmp_path, monkeypatch):
    def needed(text):
        return float(line(text, "disk: ")[2].replace(",", ""))

    before = needed(plan(*paper, tmp_path, 50))
    monkeypatch.setattr("stablevsr.study.plan.is_present", lambda name, data: name == "vimeo90k")
    assert before - needed(plan(*paper, tmp_path, 50)) == pytest.approx(2 * 82.0, abs=1.5)
