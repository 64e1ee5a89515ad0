"""What several commands share: how a command is declared, and options that mean the same everywhere."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, TypeAlias

from stablevsr.runtime.errors import UserError

if TYPE_CHECKING:
    from stablevsr.study.methods import ResolvedStudy
    from stablevsr.study.paths import Paths

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    """A command with its help; ``text`` is shown in the list of commands."""
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def study_options(parser: argparse.ArgumentParser) -> None:
    """The study that a rule's command works for."""
    parser.add_argument("--study", default="mini", help="name of a file in workflow/studies (default: mini)")


def open_study(arguments: argparse.Namespace) -> tuple[ResolvedStudy, Paths]:
    """The study of ``--study``, and where its files are."""
    from stablevsr.study.paths import Paths
    from stablevsr.study.resolve import load_study

    study = load_study(arguments.study)
    return study, Paths(study)


def shard_of(text: str) -> tuple[int, int]:
    """``K/N`` as (K, N). Raises :class:`UserError` unless K < N."""
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UserError(f"--shard {text!r} is not of the form K/N with K below N")
    return int(index), int(count)


def device_of(wanted: str) -> str:
    """cpu or cuda for ``auto``; else the device itself. Raises :class:`UserError` for one that is not here."""
    import torch

    available = torch.cuda.is_available()
    if wanted == "auto":
        return "cuda" if available else "cpu"
    kind, _, number = wanted.partition(":")
    if kind not in ("cpu", "cuda") or not (number or "0").isdigit():
        raise UserError(f"--device {wanted} is none that can be used: try auto, cpu or cuda")
    if kind == "cuda" and (not available or int(number or 0) >= torch.cuda.device_count()):
        raise UserError(f"--device {wanted}: torch sees no such CUDA device here; cpu always works")
    return wanted


def rest_idle_threads() -> None:
    """Let torch's idle threads sleep instead of spin: the metrics' convolutions run on threads of NNPACK's own, which
    want the cores (docs/metrics.md). Acts only before torch is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def set_threads() -> None:
    """Use the threads that Snakemake granted (it sets OMP_NUM_THREADS), otherwise all cores; torchrun's processes share
    them."""
    import torch

    granted = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    torch.set_num_threads(max(1, granted // int(os.environ.get("LOCAL_WORLD_SIZE") or 1)))
