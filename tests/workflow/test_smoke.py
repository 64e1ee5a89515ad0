"""The smoke study from its data to its page, and what may and may not run again afterwards.

It takes the mini study's path (real clips, training, inference, metrics, report) on two clips with a few steps.
"""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stablevsr.method.model_folder import TINY
from stablevsr.study.paths import Paths
from stablevsr.study.resolve import load_study

pytestmark = pytest.mark.workflow
REPOSITORY = Path(__file__).parents[2]
RENDERING = {"code": 1, "tables": 1, "figures": 1, "page": 1, "all": 1}
PARTS = ("Snakefile", "workflow", "ablations", "profiles", "results/published")


def checkout(folder):
    """A copy of what Snakemake reads; the package itself is the installed one."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source = REPOSITORY / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    return folder


def environment(package=None):
    """With the programs of this Python first; ``package`` is a folder with another copy of the package."""
    changed = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return os.environ | changed | ({"PYTHONPATH": str(package)} if package else {})


def snakemake(folder, *arguments, study="smoke", check=True, package=None):
    # a target goes first: --resources would take it for one more resource
    command = ["snakemake", *arguments, "--cores", "2", "--resources", "gpu=1", "--config", f"study={study}"]
    done = subprocess.run(command, cwd=folder, env=environment(package), capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError((done.stdout + done.stderr)[-5000:])
    return done


def planned(folder, *target, **options):
    """Rule name -> number of jobs that a dry run would start."""
    out = snakemake(folder, *target, "-n", **options).stdout
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", out, re.M) if name != "total"}


def count(jobs, stage):
    """How many jobs of a stage (``infer``, ``evaluate``), whose rules are named after groups of methods."""
    return sum(number for name, number in jobs.items() if name.startswith(f"{stage}_"))


def tables(folder):
    return {p.name: p.read_bytes() for p in sorted((folder / "results/smoke/tables").glob("*.csv"))}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """The finished study's folder, and its tables as the first run left them: a later test may add an ablation."""
    folder = checkout(tmp_path_factory.mktemp("study"))
    snakemake(folder)
    return folder, tables(folder)


@pytest.fixture(scope="module")
def finished(first_run):
    return first_run[0]


def test_everything_is_rendered(finished):
    results = finished / "results/smoke"
    for name in ("table1", "sampling"):
        for kind in ("csv", "md", "tex"):
            assert (results / "tables" / f"{name}.{kind}").stat().st_size > 100
    assert list((results / "figures").glob("*.png"))
    assert "<html" in (results / "report.html").read_text()[:200]
    assert json.loads((results / "provenance.json").read_text())


def test_scores_have_a_row_a_frame_and_empty_cells_where_undefined(finished):
    table = pd.read_csv(finished / "results/smoke/metrics/reds4/stablevsr.csv", dtype={"sequence": str, "frame": str})
    assert list(table.columns[:5]) == ["scene", "sequence", "frame", "run", "protocol"]
    assert len(table) == 2 * 4 * 2  # clips x frames x runs
    first = table["frame"] == "00000000"
    assert table.loc[first, "tof_dis"].isna().all() and table.loc[~first, "tof_dis"].notna().all()
    assert table["psnr"].between(5, 60).all()


def test_the_three_strategies_made_different_frames(finished):
    scores = finished / "results/smoke/metrics/reds4"
    means = {n: pd.read_csv(scores / f"sampling.{n}.csv")["psnr"].mean() for n in
             ("single_frame", "auto_regressive", "unidirectional", "bidirectional")}  # fmt: skip
    assert len(set(means.values())) == 4


def test_a_second_run_has_nothing_to_do(finished):
    assert "Nothing to be done" in snakemake(finished).stderr


def test_a_changed_label_renders_again_and_recomputes_nothing(finished):
    file = finished / "ablations/sampling.yaml"
    before = file.read_text()
    file.write_text(before.replace("label: Auto-regressive", "label: One after another"))
    try:
        assert planned(finished) == RENDERING
    finally:
        file.write_text(before)


@pytest.mark.parametrize("before,after", [
    ("better: stablevsr, than: bicubic", "same: stablevsr, as: bicubic"),
    ("title: Smoke test", "title: Another title"),
])  # fmt: skip
def test_a_changed_claim_or_title_renders_again_and_recomputes_nothing(finished, before, after):
    file = finished / "workflow/studies/smoke.yaml"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    try:
        assert planned(finished) == RENDERING
    finally:
        file.write_text(text)


def test_changed_code_plans_what_it_decides(finished, tmp_path):
    """Words: nothing. A margin or a line of the report: rendering. A constant of the degradation: everything."""
    package = tmp_path / "stablevsr"
    shutil.copytree(REPOSITORY / "stablevsr", package, ignore=shutil.ignore_patterns("__pycache__"))
    degradation, report = package / "data/degradation.py", package / "report/tables/build.py"
    degradation.write_text(f"# A comment.\n{degradation.read_text()}")
    assert planned(finished, package=tmp_path) == {}
    metric = package / "metrics/builtin/lpips.py"
    metric.write_text(metric.read_text().replace("margin=0.01", "margin=0.02"))
    assert planned(finished, package=tmp_path) == RENDERING
    report.write_text(f"{report.read_text()}\nUNUSED = 1\n")
    assert planned(finished, package=tmp_path) == RENDERING
    degradation.write_text(f"{degradation.read_text()}\nUNUSED = 1\n")
    jobs = planned(finished, package=tmp_path)
    everything = {"data_mini", "data_prepare", "data_prepare_training", "cache_samples", "train_tcm"}
    assert everything <= set(jobs)
    assert (jobs["data_prepare"], jobs["train_tcm"]) == (2, 4)
    # three shards, of baselines once, of the method and of the ablation in two runs; tables of three on two data sets
    assert (count(jobs, "infer"), count(jobs, "evaluate"), count(jobs, "metrics")) == (15, 15, 6)


def test_finished_work_carried_into_a_fresh_clone_plans_nothing(finished, tmp_path):
    """Without Snakemake's records, and with every tracked file newer than what was made from it."""
    clone = checkout(tmp_path / "clone")
    for file in clone.rglob("*"):
        file.touch()
    shutil.copytree(finished / "work", clone / "work", symlinks=True)
    shutil.copytree(finished / "results", clone / "results", dirs_exist_ok=True)
    assert "Nothing to be done" in snakemake(clone, "-n").stdout
    shutil.rmtree(clone / "work/scores")
    assert count(planned(clone), "evaluate") == 15  # a result does not hide that what it was made from is gone
    shutil.rmtree(clone / "work/manifests")
    for weights in (clone / "work/trainings").rglob("*.safetensors"):
        weights.unlink()
    assert planned(clone)["train_tcm"] == 4  # frames are to be made, and the records of a training are no weights


def test_a_copied_ablation_adds_only_its_own_jobs(finished):
    extra = finished / "ablations/mine.yaml"
    content = yaml.safe_load((finished / "ablations/sampling.yaml").read_text())
    content["variants"] = {
        "same": {"label": "The method"},
        "new": {"label": "Published grid", "guidance": {"warp": "published"}},
    }
    content["claims"] = []
    extra.write_text(yaml.safe_dump(content))
    study = finished / "workflow/studies/smoke.yaml"
    before = study.read_text()
    study.write_text(before.replace("ablations: [sampling]", "ablations: [sampling, mine]"))
    try:
        jobs = planned(finished)
        # The published grid is another guidance, and in this study guidance acts at sampling only: no training.
        assert not set(jobs) & {"train_tcm", "cache_samples", "data_mini", "data_prepare"}
        new = {
            name: number for name, number in jobs.items() if name.partition("_")[0] in ("infer", "evaluate", "metrics")
        }
        assert all("_mine" in name for name in new)
        assert count(jobs, "infer") == count(jobs, "evaluate") == 6  # two shards of one set, one of the other, two runs
    finally:
        study.write_text(before)
        extra.unlink()


def test_a_variant_added_to_an_ablation_is_all_that_its_jobs_make_and_score(finished):
    """Its group's jobs run again; what they made of the other variants is kept."""
    file = finished / "ablations/sampling.yaml"
    before = file.read_text()
    content = yaml.safe_load(before)
    content["variants"]["two_steps"] = {"label": "Two steps", "sampling": {"steps": 2}}
    others = {path: path.stat().st_mtime_ns for path in (finished / "work/frames").rglob("*.png")}
    scores = {path: path.read_bytes() for path in (finished / "work/scores").rglob("*.csv")}
    file.write_text(yaml.safe_dump(content))
    try:
        snakemake(finished, "results/smoke/metrics/vimeo/sampling.two_steps.csv")
        assert {path: path.stat().st_mtime_ns for path in others} == others
        assert {path: path.read_bytes() for path in scores} == scores
        new = set((finished / "work/scores").rglob("*.csv")) - set(scores)
        logs = [log.read_text() for log in (finished / "work/logs").glob("evaluate_smoke_sampling_vimeo_*.log")]
        said = [line.partition(":")[0] for log in logs for line in log.splitlines() if " frames; " in line]
        assert sorted(said) == sorted(str(path.relative_to(finished)) for path in new) and len(new) == 2  # runs
    finally:
        file.write_text(before)


def test_an_ablation_that_brings_rules_scores_what_they_made(finished):
    study, ablation = finished / "workflow/studies/smoke.yaml", finished / "ablations/temporal_filter.yaml"
    before, others = study.read_text(), ablation.read_text()
    study.write_text(before.replace("ablations: [sampling]", "ablations: [sampling, temporal_filter]"))
    ablation.write_text(others.replace("studies: [", "studies: [smoke, "))
    try:
        jobs = planned(finished)
        assert jobs["temporal_filter"] == 2 and count(jobs, "infer") == 3 and "train_tcm" not in jobs
        snakemake(finished, "results/smoke/tables/temporal_filter.md")
        scores = finished / "results/smoke/metrics/reds4"
        sharpness = {
            name: pd.read_csv(scores / f"temporal_filter.{name}.csv")["sharpness"].mean()
            for name in ("single_frame", "averaged")
        }
        assert sharpness["averaged"] < 0.98 * sharpness["single_frame"]  # an average blurs what moves
    finally:
        study.write_text(before)
        ablation.write_text(others)


def test_a_dataset_with_a_model_for_itself_gets_it_made_and_used(finished):
    """A UNet is fine-tuned, a TCM trained on it by two processes, and only that dataset's frames come from them."""
    own = yaml.safe_load((finished / "workflow/studies/smoke.yaml").read_text())
    tuning = {"dataset": "reds", "steps": 4, "batch": 2, "crop": 64, "learning_rate": 1e-4, "warmup_steps": 0}
    own |= {
        "finetuned": {"tuned": {"base": "tiny", "training": tuning}},
        "methods": {"bicubic": {"label": "Bicubic", "kind": "bicubic"}},
        "ablations": [], "table1": [], "claims": [], "runs": 1, "training_processes": 2,
    }  # fmt: skip
    own["datasets"]["reds4"] |= {"shards": 1, "sequences": ["film10154"]}
    own["datasets"]["vimeo"]["model"] = {
        "name": "tuned", "training": {"start": "unet", "steps": 2, "batch": 2, "cached_samples": None},
    }  # fmt: skip
    (finished / "workflow/studies/own.yaml").write_text(yaml.safe_dump(own))
    jobs = planned(finished, study="own")
    assert jobs["train_unet"] == jobs["train_tcm"] == 1  # the UNet and its TCM; the other TCM is the smoke study's
    snakemake(finished, "results/own/tables/table1.md", study="own")
    provenance = json.loads((finished / "results/own/provenance.json").read_text())
    form = provenance["methods"]["stablevsr"]["runs"]["vimeo"]["0"]
    assert (
        form["model"].startswith("work/trainings/unet/")
        and form["digest"] != provenance["methods"]["stablevsr"]["digest"]
    )
    trained = json.loads((finished / form["checkpoint"] / "provenance.json").read_text())
    assert trained["processes"] == 2
    (made,) = (made for made in provenance["trainings"].values() if made["kind"] == "UNet")
    assert made["weights"]["diffusion_pytorch_model.safetensors"]


def test_an_overwritten_frame_of_an_external_method_is_scored_again(finished, tmp_path):
    for clip in sorted((finished / "work").glob("datasets/*/gt/*")):  # the truth itself: copies, no links
        dataset = clip.parents[1].name.partition("-")[0]
        shutil.copytree(clip, tmp_path / "mine" / dataset / clip.name, dirs_exist_ok=True)
    study = finished / "workflow/studies/smoke.yaml"
    before = study.read_text()
    content = yaml.safe_load(before)
    content["methods"]["mine"] = {"label": "Mine", "frames": str(tmp_path / "mine/{dataset}")}
    study.write_text(yaml.safe_dump(content))
    target = finished / "results/smoke/metrics/reds4/mine.csv"
    try:
        snakemake(finished, "results/smoke/metrics/reds4/mine.csv")
        assert (pd.read_csv(target)["ssim"] == 1).all()
        frames = sorted((tmp_path / "mine/reds4").rglob("*.png"))
        frames[0].write_bytes(frames[-1].read_bytes())
        snakemake(finished, "results/smoke/metrics/reds4/mine.csv")
        assert sorted(pd.read_csv(target)["ssim"] < 1) == [False] * 7 + [True]
    finally:
        study.write_text(before)


def test_clips_that_a_person_adds_or_replaces_are_linked_again(finished):
    shutil.copytree(finished / "data/mini/reds_like", finished / "data/own")
    own = {"make": None, "fetch": [], "root": "data/own"}
    content = {"extends": "smoke", "datasets": {"reds4": own}}
    (finished / "workflow/studies/own_clips.yaml").write_text(yaml.safe_dump(content))
    target = str(Paths(load_study("own_clips", finished)).dataset("reds4") / "manifest.json")
    snakemake(finished, target, study="own_clips")
    assert planned(finished, target, study="own_clips") == {}
    frame, other = sorted((finished / "data/own/gt/street4").iterdir())[:2]
    frame.write_bytes(other.read_bytes())
    os.utime(frame, (0, 0))  # as a file from an archive
    assert planned(finished, target, study="own_clips") == {"code": 1, "data_prepare": 1}
    snakemake(finished, target, study="own_clips")
    shutil.copy(frame, frame.with_name("added.png"))
    assert planned(finished, target, study="own_clips") == {"code": 1, "data_prepare": 1}


def test_a_misspelt_key_stops_before_any_job(finished):
    file = finished / "ablations/sampling.yaml"
    before = file.read_text()
    file.write_text(before.replace("sampling: {strategy: auto_regressive}", "samplin: {strategy: auto_regressive}"))
    try:
        done = snakemake(finished, check=False)
        assert done.returncode != 0 and "rule" not in done.stdout
        said = done.stdout + done.stderr
        assert "ablations/sampling.yaml" in said and "samplin" in said and "did you mean 'sampling'" in said
    finally:
        file.write_text(before)


def test_a_download_that_is_a_shell_command_is_a_sentence_and_does_not_run(finished):
    study = finished / "workflow/studies/smoke.yaml"
    content = yaml.safe_load(study.read_text())
    content["datasets"]["reds4"] |= {"make": None, "fetch": ["x || touch pwned #"]}
    (finished / "workflow/studies/bad.yaml").write_text(yaml.safe_dump(content))
    done = snakemake(finished, study="bad", check=False)
    assert done.returncode != 0 and "bad.yaml: nothing to fetch is called 'x || touch pwned #'" in done.stderr
    assert "Traceback" not in done.stderr and not (finished / "pwned").exists()


@pytest.mark.skipif(importlib.util.find_spec("pyiqa") is not None, reason="pyiqa is installed")
def test_a_metric_whose_package_is_missing_stops_before_any_job_but_can_be_planned(finished):
    content = {"extends": "smoke", "metrics": ["psnr", "niqe"], "weights": "require"}
    (finished / "workflow/studies/scored.yaml").write_text(yaml.safe_dump(content))
    assert count(planned(finished, study="scored"), "evaluate")
    done = snakemake(finished, study="scored", check=False)
    assert done.returncode != 0 and "metric niqe: the package pyiqa is not installed: pip install" in done.stderr
    assert "Traceback" not in done.stderr and not list((finished / "work/logs").glob("evaluate_scored*"))


def test_after_kill_9_the_same_command_finishes_with_the_same_tables(first_run, tmp_path):
    folder = checkout(tmp_path / "killed")
    command = ["snakemake", "--cores", "2", "--resources", "gpu=1", "--config", "study=smoke"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not list(
        (folder / "work").glob("trainings/tcm/*/provenance.json")
    ):  # in the middle of training and inference
        assert process.poll() is None, "Snakemake ended before it could be killed"
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)  # its jobs live on as orphans
    process.wait()
    snakemake(folder)
    assert tables(folder) == first_run[1]


def test_the_paper_study_plans_offline_with_readable_messages(finished):
    out = snakemake(finished, "-n", study="paper").stdout
    assert "guidance.noisy_latent" in out and "sampling.unidirectional" in out
    assert "fetching reds4" in out


def test_one_table_alone_needs_only_its_own_rows(finished):
    table = finished / "results/smoke/tables/sampling.md"
    before = table.read_bytes()
    table.write_text("")
    snakemake(finished, "table_sampling")
    assert table.read_bytes() == before
    alone, whole = planned(finished, "table_sampling", study="paper"), planned(finished, study="paper")
    assert {"table_sampling", "train_tcm"} < alone.keys() and not {"page", "figures", "tables"} & alone.keys()
    assert alone["train_tcm"] < whole["train_tcm"]


def test_weights_in_a_folder_are_inputs_of_what_is_made_with_them(finished):
    """Replacing them makes it again."""
    shutil.copytree(TINY, finished / "models/own")
    study = {"extends": "smoke", "title": "Own model", "model": "models/own"}
    study["ablations"], study["table1"], study["claims"] = [], [], []
    study["method"] = {"checkpoint": "models/own"}  # of which the TCM is the part that is read
    (finished / "workflow/studies/own.yaml").write_text(yaml.safe_dump(study))

    def inputs():
        graph = snakemake(finished, "--filegraph", study="own").stdout
        return set(re.findall("work/code/files-[0-9a-f]{16}", graph))

    before = inputs()
    for part in ("unet", "vae", "controlnet"):
        os.utime(finished / "models/own" / part / "diffusion_pytorch_model.safetensors", (0, 0))  # from an archive
        after = inputs()
        assert after and after != before
        before = after


def test_the_linter_only_misses_a_container(finished):
    out = snakemake(finished, "--lint", check=False)
    findings = set(re.findall(r"^    \* (.*)$", out.stdout + out.stderr, re.M))
    assert findings == {"Specify a conda environment or container for each rule.:"}
