"""What a study will cost: figures from outside, and what is there already is not counted again."""

from pathlib import Path

import pytest

from benchmarks import memory
from stablevsr.study import memory as memory_of
from stablevsr.study.paths import Paths
from stablevsr.study.plan import Extent, _flow_cache, _frame_work, _training_work, plan
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
    after_finished = _frame_work(paper[0].methods["sampling.auto_regressive"], 320 * 180)
    assert after_finished == pytest.approx(50 * (3.99 + 1.56) + 2 * 15.7, rel=0.001)  # its image is made once


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


def test_the_disk_holds_the_cached_flows_of_the_ground_truth(paper, tmp_path):
    study, paths = paper
    reds4 = 4 * 99 * 720 * 1280  # pixels of all pairs; flows by RAFT, as the published script uses it, and by DIS
    assert _flow_cache(study, paths, {"reds4": Extent(4, 100, 180, 320)}) == 8 * reds4 * 2
    shorter = {"reds4_first20": Extent(4, 20, 180, 320), "reds4_every2": Extent(4, 50, 180, 320)}
    whole = {"reds4": Extent(4, 100, 180, 320)}  # holds the pairs of the first frames, not those of every second one
    assert _flow_cache(study, paths, whole | shorter) == 8 * 4 * (99 + 49) * 720 * 1280 * 2
    for form in study.forms_on("reds4"):
        for shard in range(study.spec.datasets["reds4"].shards):
            table = paths.scores("reds4", form.digest, form.run, shard)
            table.parent.mkdir(parents=True, exist_ok=True)
            table.touch()
    assert _flow_cache(study, paths, {"reds4": Extent(4, 100, 180, 320)}) == 0  # all is scored


def test_the_hours_of_a_table_are_those_of_its_own_rows_and_trainings(paper, tmp_path):
    text = plan(*paper, tmp_path, 50)
    alone = {name: line(text, f"{name} ") for name in ("guidance", "scheduler")}
    assert float(alone["guidance"][5].strip(",)")) == pytest.approx(5 * 5 * 20_000 * 32 * 2.54 / 50 / 3600, rel=0.01)
    assert alone["scheduler"][4:] == ["training", "0.0)"]  # the released TCM
    small = load_study("table1", REPOSITORY)
    cheapest = plan(small, Paths(small, tmp_path / "work", tmp_path / "results"), tmp_path, 50)
    hours = line(text, "Table 1, reds4")[3]
    assert line(cheapest, "sampling:")[3] == line(cheapest, "Table 1, reds4")[3] == hours
    assert float(hours) == pytest.approx(5 * 400 * 1065 / 50 / 3600, rel=0.02)  # five runs of REDS4's 400 frames


def test_memory_is_what_shapes_say(paper):
    """Crops of 256 keep about 23 GiB for the backward pass of a batch of 32; the authors had 17 GB for 8 crops."""
    study, _ = paper
    runs = {run.kind: run for run in study.trainings().values()}
    small = memory.sampling(1, 64, 112)
    assert pytest.approx(small["weights"], rel=0.01) == memory_of.UNET + memory_of.TCM + memory_of.VAE
    assert pytest.approx(small["decoding"], rel=0.01) == memory_of.DECODING * 64 * 112 / memory_of.AREA
    for kind in ("tcm", "unet"):
        counted = memory.training(kind, 1)
        assert memory_of.KEPT[kind] == pytest.approx(counted["kept"], rel=0.01)
        needed = counted["weights"] + 3 * counted["trained"] + 8 * counted["kept"]
        needed -= 0 if kind == "tcm" else memory_of.TCM  # not loaded
        assert memory_of.training_memory(runs[kind], 1) == pytest.approx(needed, rel=0.01)
    assert 32 * memory_of.KEPT["tcm"] == pytest.approx(23 * 2**30, rel=0.03)
    assert memory_of.training_memory(runs["tcm"], 1) < 17e9 and memory_of.training_memory(runs["decoder"], 1) is None


def test_the_plan_says_the_memory_by_frame_size_and_by_batch(paper, tmp_path):
    text = plan(*paper, tmp_path, 50)
    assert line(text, "sampling, 2 sequences of 320x180")[-2:] == ["8.6", "GB"]
    assert line(text, "sampling, 2 sequences of 112x64")[-2:] == ["3.6", "GB"]
    assert line(text, "training a TCM, 8 crops")[-2:] == ["11.8", "GB"]
