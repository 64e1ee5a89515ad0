"""``stablevsr gpu-lock``: run a command on GPUs that no other job uses; the rules wrap every GPU job in it."""

from __future__ import annotations

import argparse

from stablevsr.cli.options import Commands, command
from stablevsr.runtime.errors import UserError


def add_gpu_lock(commands: Commands) -> None:
    parser = command(commands, "gpu-lock", "run a command on N GPUs that no other job uses; 0: on all, without a lock")
    parser.add_argument("count", type=int, metavar="N")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    parser.set_defaults(run=_run_gpu_lock)


def _run_gpu_lock(arguments: argparse.Namespace) -> None:
    from stablevsr.runtime.gpu_lock import become

    if arguments.count < 0 or not arguments.command:
        raise UserError("gpu-lock needs a number of GPUs (0 or more) and a command, for example: gpu-lock 1 nvidia-smi")
    become(arguments.command, arguments.count)
