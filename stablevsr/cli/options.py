"""How commands are declared, and the options that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypeAlias

from stablevsr.runtime.errors import UserError

if TYPE_CHECKING:
    from stablevsr.study.methods import ResolvedStudy
    from stablevsr.study.paths import Paths

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    """Add a command; ``text`` is its help."""
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def study_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--study``."""
    parser.add_argument("--study", default="mini", help="name of a file in workflow/studies (default: mini)")


def open_study(arguments: argparse.Namespace) -> tuple[ResolvedStudy, Paths]:
    """The study named by ``--study``, and the paths of its files."""
    from stablevsr.study.paths import Paths
    from stablevsr.study.resolve import load_study

    study = load_study(arguments.study)
    return study, Paths(study)


def names_in(text: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def shard_of(text: str) -> tuple[int, int]:
    """``K/N`` as (K, N). Raises :class:`UserError` unless K < N."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise UserError(f"--shard {text!r} is not of the form K/N with K below N")
    return int(index), int(count)
