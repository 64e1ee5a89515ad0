"""Jobs on one machine with several GPUs: no two use the same one, and a job's end, however it comes, frees its GPU."""

import os
import signal
import subprocess
import sys

import pytest


@pytest.fixture
def machine(tmp_path):
    """An environment in which nvidia-smi reports two GPUs."""
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\nprintf 'GPU-aa\\nGPU-bb\\n'\n")
    driver.chmod(0o755)
    (tmp_path / "locks").mkdir()
    hidden = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    return environment | {"PATH": f"{driver.parent}:{os.environ['PATH']}", "TMPDIR": str(tmp_path / "locks")}


def start(machine, count, shell):
    command = [sys.executable, "-m", "stablevsr", "gpu-lock", str(count), "sh", "-c", shell]
    return subprocess.Popen(command, env=machine, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


HOLD = "echo $CUDA_VISIBLE_DEVICES; exec sleep 60"


def test_two_jobs_get_two_gpus_and_a_third_waits_until_one_is_killed(machine):
    jobs = [start(machine, 1, HOLD)]
    gpus = [jobs[0].stdout.readline().strip()]
    jobs.append(start(machine, 1, HOLD))
    gpus.append(jobs[1].stdout.readline().strip())
    assert sorted(gpus) == ["GPU-aa", "GPU-bb"]
    third = start(machine, 1, "echo $CUDA_VISIBLE_DEVICES")
    assert third.stderr.readline() == "waiting for 1 free GPU\n"
    jobs[1].send_signal(signal.SIGKILL)
    assert third.communicate()[0].strip() == gpus[1]
    jobs[0].kill()
    for job in jobs:
        job.communicate()


def test_a_child_that_outlives_its_job_keeps_the_gpu(machine, tmp_path):
    end = tmp_path / "ended"
    orphan = start(machine, 2, f"(sleep 2; touch '{end}') >/dev/null & echo started")
    assert orphan.stdout.readline() == "started\n"
    orphan.wait()
    both = start(machine, 2, f"test -e '{end}' && echo $CUDA_VISIBLE_DEVICES")
    assert both.communicate()[0].strip() == "GPU-aa,GPU-bb"  # not before the child was gone


def test_only_the_gpus_that_were_chosen_are_used(machine):
    chosen = machine | {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert start(chosen, 1, "echo $CUDA_VISIBLE_DEVICES").communicate()[0].strip() == "GPU-bb"
    too_many = start(chosen, 2, "true")
    _, error = too_many.communicate()
    assert too_many.returncode == 1 and "2 GPUs are wanted and 1 are here" in error


def test_a_number_is_a_gpu_of_nvidia_smi_only_where_both_count_alike(machine):
    given = machine | {"CUDA_VISIBLE_DEVICES": "1"}
    assert start(given, 1, "echo $CUDA_VISIBLE_DEVICES").communicate()[0].strip() == "1"
    for order in ({"SLURM_JOB_ID": "7"}, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}):
        assert start(given | order, 1, "echo $CUDA_VISIBLE_DEVICES").communicate()[0].strip() == "GPU-bb"


def test_a_folder_of_locks_that_is_somebody_elses_is_not_used(machine, tmp_path):
    (tmp_path / "locks" / f"stablevsr-{os.getuid()}").symlink_to(tmp_path)
    job = start(machine, 1, "true")
    assert "belongs to somebody else" in job.communicate()[1] and job.returncode == 1


def test_a_job_without_gpus_is_left_alone(machine):
    assert start(machine, 0, "echo ${CUDA_VISIBLE_DEVICES-none}; exit 3").communicate()[0].strip() == "none"


def test_the_exit_code_is_the_commands(machine):
    job = start(machine, 1, "exit 3")
    job.communicate()
    assert job.returncode == 3
