"""The smoke study on a real Slurm: jobs side by side, one of them cancelled, a node that is drained and comes back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm

pytestmark = pytest.mark.system
REPOSITORY = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "ablations", "profiles", "results/published")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm.Cluster]:
    if os.getuid() != 0 or slurm.LINK.exists():
        pytest.skip("a Slurm for tests wants root and a machine that has no Slurm of its own")
    if lacking := slurm.missing():
        pytest.skip(f"no {', '.join(lacking)} on this machine (apt-get install slurm-wlm munge)")
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    for part in PARTS:
        source = REPOSITORY / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    return folder


def start(cluster: slurm.Cluster, study: Path) -> subprocess.Popen[str]:
    """The command of the README, with what a test cluster of one node wants changed: little memory, quick looks."""
    command = [
        "snakemake", "--workflow-profile", "profiles/slurm", "--jobs", "4", "--default-resources",
        "slurm_partition=main", "runtime=30", "mem_mb=1500", "--slurm-init-seconds-before-status-checks", "2",
        "--seconds-between-status-checks", "5", "--latency-wait", "10", "--config", "study=smoke",
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}{os.pathsep}{cluster.environment['PATH']}"
    log = (study / "snakemake.log").open("a")
    return subprocess.Popen(command, cwd=study, env=cluster.environment | {"PATH": path}, stdout=log, stderr=log,
                            text=True)  # fmt: skip


def wait_for(cluster: slurm.Cluster, process: subprocess.Popen[str], study: Path, wanted: str, count: int) -> list[str]:
    """Wait until ``count`` jobs run at once whose comment holds ``wanted``; returns their numbers."""
    while True:
        running = [number for number, state, comment in cluster.jobs() if state == "RUNNING" and wanted in comment]
        if len(running) >= count:
            return running
        assert process.poll() is None, (study / "snakemake.log").read_text()[-5000:]
        time.sleep(0.3)


def test_the_study_survives_a_cancelled_job_and_a_drained_node(cluster: slurm.Cluster, study: Path) -> None:
    process = start(cluster, study)
    try:
        wait_for(cluster, process, study, "", 2)  # two jobs at once
        victim = wait_for(cluster, process, study, "infer_", 1)[0]
        cluster.ask("scancel", victim)
        cluster.ask("scontrol", "update", f"nodename={cluster.node}", "state=drain", "reason=test")
        while cluster.ask("sinfo", "--noheader", "--format=%t") != "drain":
            assert process.poll() is None, (study / "snakemake.log").read_text()[-5000:]
            time.sleep(0.5)
        assert all(state == "PENDING" for _, state, _ in cluster.jobs())  # nothing starts on a drained node
        cluster.ask("scontrol", "update", f"nodename={cluster.node}", "state=resume")
        assert process.wait(timeout=1200) == 0, (study / "snakemake.log").read_text()[-5000:]
    finally:
        process.terminate()
        process.wait()
    log = (study / "snakemake.log").read_text()
    assert f"SLURM jobid {victim}" in log or victim in log
    assert "Trying to restart job" in log  # the cancelled one, by `retries` of the profile
    assert (study / "results/smoke/report.html").stat().st_size > 10_000
    assert (study / "results/smoke/tables/table1.md").exists()


def test_tables_and_downloads_stayed_on_the_submitting_host(study: Path) -> None:
    slurm_logs = {path.parent.name for path in (study / ".snakemake" / "slurm_logs").rglob("*")}
    assert not {
        name for name in slurm_logs if name.startswith(("rule_tables", "rule_figures", "rule_page", "rule_data"))
    }


def test_a_second_run_has_nothing_to_do(cluster: slurm.Cluster, study: Path) -> None:
    before = (study / "snakemake.log").stat().st_size
    process = start(cluster, study)
    try:
        assert process.wait(timeout=300) == 0
    finally:
        process.terminate()
        process.wait()
    assert "Nothing to be done" in (study / "snakemake.log").read_text()[before:]
