"""``stablevsr ...``: the commands that the rules run, which can also be typed by hand.

Commands import what they need when they run, so that ``--help`` is fast. Exit codes: 0 done, 1 failed (with one plain
sentence, and a traceback only with ``--debug``), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import gc
import io
import sys
from collections.abc import Sequence

from stablevsr import __version__
from stablevsr.cli import frames, gpu_lock, study, training
from stablevsr.runtime.errors import UserError, exhausted


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # in a locale that lacks a letter, a message still appears
            stream.reconfigure(errors="backslashreplace")
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 2
    # torch and diffusers bring objects that live to the end; looking for garbage among them after every 700 new ones,
    # Python's default, takes 0.7 of the 8 s of processor time that a pipeline takes to load
    gc.set_threshold(50_000)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        goes_on = "; the same command continues where it stopped" if "resumes" in arguments else ""
        print(f"interrupted{goes_on}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        if arguments.debug or not (isinstance(error, (UserError, OSError)) or exhausted(error)):
            raise
        print(f"stablevsr: {_sentence(error)}", file=sys.stderr)
        return 1
    return 0


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower() + (f" ({error.filename})" if error.filename else "")
    text = exhausted(error) or str(error)
    if isinstance(error, UserError) and "damaged" in text and " work/" in f" {text}":  # a file of a study's stores
        text += " (`stablevsr clean --damaged --yes` removes such files, and the next run makes them again)"
    return text


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="stablevsr",
        description="Reproduce and dissect StableVSR: diffusion video super-resolution (x4), consistent in time.",
        epilog="The whole study: `make study`, or `snakemake --cores all --resources gpu=1` in the repository.",
    )
    parser.add_argument("--version", action="version", version=f"stablevsr {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add in (
        frames.add_upscale, frames.add_evaluate, frames.add_fetch, study.add_data, training.add_train,
        study.add_infer, study.add_score, study.add_report, study.add_plan, frames.add_bench, study.add_doctor,
        study.add_clean, gpu_lock.add_gpu_lock,
    ):  # fmt: skip
        add(commands)
    return parser
