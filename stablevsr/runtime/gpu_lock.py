"""GPU locks: a command gets GPUs that no other job of this user holds on this machine.

Snakemake's ``gpu`` resource only counts jobs. This process locks one file per GPU, hides the other GPUs and replaces
itself by the command (exec), whose children inherit the locks; the last of them to end releases the locks. (Locks of
``filelock`` would end at exec.)
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stablevsr.runtime.errors import UserError

POLL_SECONDS = 1.0


def visible_gpus() -> list[str]:
    """UUIDs of the GPUs that may be used; empty if there is no driver."""
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    gpus = [line.strip() for line in asked.stdout.splitlines() if line.strip()] if asked.returncode == 0 else []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return gpus
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    # CUDA and nvidia-smi agree on GPU numbers only in PCI bus order, which Slurm also uses. Numbers are replaced by
    # UUIDs, because two Slurm jobs on one node may both see their GPU as number 0.
    if os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID" and "SLURM_JOB_ID" not in os.environ:
        return names
    return [gpus[int(name)] if name.isdecimal() and int(name) < len(gpus) else name for name in names]


def hold(gpus: list[str], count: int) -> list[str]:
    """Wait until ``count`` of ``gpus`` are free and lock them until this process and its children have ended.

    Raises :class:`UserError` if there are fewer.
    """
    if count > len(gpus):
        raise UserError(f"{count} GPUs are wanted and {len(gpus)} are here: ask for fewer with --resources gpu=N")
    folder = Path(tempfile.gettempdir()) / f"stablevsr-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder} belongs to somebody else: remove it, or set TMPDIR to a folder of yours")
    announced = False
    while len(held := _try(folder, gpus, count)) < count:
        for descriptor in held.values():
            os.close(descriptor)
        if not announced:
            print(f"waiting for {count} free GPU{'s' if count > 1 else ''}", file=sys.stderr, flush=True)
            announced = True
        time.sleep(POLL_SECONDS)
    return list(held)


def _try(folder: Path, gpus: list[str], count: int) -> dict[str, int]:
    """Lock up to ``count`` GPUs; the file descriptors by GPU, which stay open across exec."""
    held: dict[str, int] = {}
    for gpu in gpus:
        if len(held) == count:
            break
        descriptor = os.open(folder / f"{gpu.replace('/', '_')}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        os.set_inheritable(descriptor, True)
        held[gpu] = descriptor
    return held


def become(command: list[str], count: int) -> None:
    """Replace this process by ``command``, which sees only ``count`` locked GPUs, or all GPUs if ``count`` is 0."""
    if count and (gpus := visible_gpus()):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(hold(gpus, count))
    os.execvp(command[0], command)
