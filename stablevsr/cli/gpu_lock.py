"""``stablevsr cards``: run a command on GPUs of its own; the rules wrap every GPU job in it."""

from __future__ import annotations

import argparse

from stablevsr.cli.options import Commands, command
from stablevsr.runtime.errors import UserError


def add_cards(commands: Commands) -> None:
    parser = command(commands, "cards", "run a command on so many GPUs that no other job here holds; 0 changes nothing")
    parser.add_argument("count", type=int, metavar="N")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    parser.set_defaults(run=_run_cards)


def _run_cards(arguments: argparse.Namespace) -> None:
    from stablevsr.runtime.gpu_lock import become

    if arguments.count < 0 or not arguments.command:
        raise UserError(
            "stablevsr cards wants a number of GPUs from 0 up and a command, for example: cards 1 nvidia-smi"
        )
    become(arguments.command, arguments.count)
