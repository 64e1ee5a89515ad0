"""One job, one card: a command gets GPUs that no other job of this user holds on this machine.

Snakemake's ``gpu`` resource only counts. This takes an flock a card, hides the other cards from the command
(CUDA_VISIBLE_DEVICES) and becomes the command, which keeps the locks: they go when it ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from stablevsr.runtime.errors import UserError

POLL_SECONDS = 1.0


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """The cards that may be used, by UUID; none where there is no driver."""
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    cards = [line.strip() for line in asked.stdout.splitlines() if line.strip()] if asked.returncode == 0 else []
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return cards
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    # A number means the same card to CUDA and to nvidia-smi only in the order of the bus, which is also Slurm's. There
    # it must become a UUID: two jobs of a node may both call their own card 0.
    if environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID" and "SLURM_JOB_ID" not in environment:
        return names
    return [cards[int(name)] if name.isdigit() and int(name) < len(cards) else name for name in names]


def hold(cards: list[str], count: int) -> list[str]:
    """Wait until ``count`` of ``cards`` are free and hold them until this process and its children are gone.

    Raises :class:`UserError` if there are not so many.
    """
    if count > len(cards):
        raise UserError(f"{count} GPUs are wanted and {len(cards)} are here: ask for fewer with --resources gpu=N")
    folder = Path(tempfile.gettempdir()) / f"stablevsr-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder} belongs to somebody else: remove it, or set TMPDIR to a folder of yours")
    said = False
    while True:
        held = _try(folder, cards, count)
        if len(held) == count:
            return list(held)
        for descriptor in held.values():
            os.close(descriptor)
        if not said:
            print(f"waiting for {count} free GPU{'s' if count > 1 else ''}", file=sys.stderr, flush=True)
            said = True
        time.sleep(POLL_SECONDS)


def _try(folder: Path, cards: list[str], count: int) -> dict[str, int]:
    """Lock up to ``count`` cards; descriptors by card, kept open across exec."""
    held: dict[str, int] = {}
    for card in cards:
        if len(held) == count:
            break
        descriptor = os.open(folder / f"{card.replace('/', '_')}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        os.set_inheritable(descriptor, True)
        held[card] = descriptor
    return held


def become(command: list[str], count: int) -> None:
    """Turn this process into ``command`` with ``count`` cards of its own; it sees all there are if ``count`` is 0."""
    if count and (cards := visible_gpus(os.environ)):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(hold(cards, count))
    os.execvp(command[0], command)
