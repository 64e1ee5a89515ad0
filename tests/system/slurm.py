"""A Slurm of one node, started from Debian's packages for a test and gone afterwards.

Everything it writes lies in one folder, its own munge key included, but for one link below /run; no service of the
machine is touched. The node has the machine's cores, and no accounting, which Snakemake's plugin must be told
(profiles/slurm). It wants root.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sinfo", "sbatch")
PATIENCE = 60.0
#: Where Slurm's programs look when nothing else tells them: Snakemake's plugin clears SLURM_CONF inside a job.
LINK = Path("/run/slurm/conf/slurm.conf")

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobRequeue=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """The programs that this needs and that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None and not Path("/usr/sbin", name).exists()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """A running cluster: ``environment`` is what its clients need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node = socket.gethostname().partition(".")[0]
        path = f"/usr/sbin{os.pathsep}{os.environ['PATH']}"
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}

    def ask(self, *command: str) -> str:
        """What a client prints. Raises CalledProcessError if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    def jobs(self) -> list[tuple[str, str, str]]:
        """(number, state, comment) of every job in the queue; Snakemake writes rule and wildcards into the comment."""
        lines = self.ask("squeue", "--noheader", "--format=%A|%T|%k").splitlines()
        return [(number, state, comment) for number, state, comment in (line.split("|", 2) for line in lines)]

    def wait_for_node(self, state: str) -> None:
        """Wait until the node is in ``state`` (a word that sinfo prints, for example idle)."""
        until = time.monotonic() + PATIENCE
        while (seen := self.ask("sinfo", "--noheader", "--format=%t")).rstrip("*") != state:
            if time.monotonic() > until:
                log = (self.folder / "slurmctld.log").read_text()[-2000:]
                raise RuntimeError(f"the node is {seen}, not {state}: {log}")
            time.sleep(0.5)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start a one-node cluster below ``folder`` and stop it in the end, whatever happens."""
    made = Cluster(folder)
    for name in ("spool", "state"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    settings = {
        "host": made.node, "user": "root" if os.getuid() == 0 else os.environ["USER"], "folder": folder,
        "controller": _free_port(), "daemon": _free_port(), "cores": os.cpu_count(), "memory": memory * 9 // 10,
    }  # fmt: skip
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**settings))
    files = {"socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log", "seed-file": "munged.seed"}
    places = [f"--{option}={folder / name}" for option, name in files.items()]
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", *places]
    LINK.parent.mkdir(parents=True, exist_ok=True)
    LINK.symlink_to(folder / "slurm.conf")
    daemons = []
    try:
        for command in (munged, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", made.node]):
            with (folder / f"{command[0]}.out").open("w") as out:
                daemons.append(subprocess.Popen(command, env=made.environment, stdout=out, stderr=out))
            time.sleep(1)
        made.wait_for_node("idle")
        yield made
    finally:
        LINK.unlink()
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in reversed(daemons):
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
