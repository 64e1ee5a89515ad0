"""A method that is somebody else's program: a shell command that makes x4 frames of a folder of LR frames.

The command is part of the study's file, which the user trusts as code: it goes to the shell as it is. Only the two
folders that replace {lr} and {frames} are quoted.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import content_hash

PLACES = ("{lr}", "{frames}")  #: of the two folders in a command
LARGE = 2**20  #: bytes; larger files that a command names, such as weights, are identified by their size
#: Variables that decide which programs and libraries a command finds; they are recorded.
SELECTING = ("PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
NOT_RUN, NOT_FOUND = 126, 127  #: exit codes of the shell


@dataclass(frozen=True)
class Command:
    """A command with the folder and the variables that it runs with."""

    text: str  #: with {lr} and {frames}
    workdir: Path | None = None  #: where it runs; None = in a new folder, with links to the files that it names
    env: tuple[tuple[str, str], ...] = ()  #: names and values of variables
    whole_shard: bool = False  #: whether it runs once for many sequences, each in a folder of {lr} and of {frames}
    resources: tuple[tuple[str, int], ...] = ()  #: names and amounts of what its jobs take; they decide no frame

    @property
    def batch(self) -> int:
        """For how many sequences it runs at once."""
        return sys.maxsize if self.whole_shard else 1

    def identity(self) -> dict[str, Any]:
        """What its frames depend on, as far as it can be known: text, variables, the commit, files that it names."""
        base = self.workdir or Path()
        return {
            "text": self.text,
            "workdir": str(self.workdir) if self.workdir else None,
            "env": dict(self.env),
            "commit": _commit(base),
            "files": {str(file): _state(base / file) for file in self.named_files()},
        }

    def named_files(self) -> list[Path]:
        """The files that it names; relative paths start from ``workdir``, or from the present folder."""
        base = self.workdir or Path()
        # os.path: a whole program as one word is too long a name, which is an error for Path
        return sorted({Path(word) for word in shlex.split(self.text) if os.path.isfile(base / word)})  # noqa: PTH113

    def run(self, lr: Path, frames: Path, own: Path, method: str) -> None:
        """Run it once; what it prints goes to stderr.

        Args:
            lr: folder with the LR frames.
            frames: folder for the x4 frames.
            own: an empty folder, in which it runs unless it has a ``workdir``.
            method: name of the method, for errors.

        Raises:
            UserError: ``workdir`` is not there, or it does not end with the exit code 0.
        """
        if self.workdir and not self.workdir.is_dir():
            raise UserError(missing_workdir(self.workdir, method))
        text = self.text
        for place, folder in zip(PLACES, (lr, frames), strict=True):
            text = text.replace(place, shlex.quote(str(folder.absolute())))
        if self.workdir is None:
            self._link(own)
        last: deque[str] = deque(maxlen=1)
        # in this process group, so that whatever interrupts or cancels the job ends the command too
        with subprocess.Popen(
            text, shell=True, cwd=self.workdir or own, env={**os.environ, **dict(self.env)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace",
        ) as process:  # fmt: skip
            assert process.stdout is not None
            for line in process.stdout:
                sys.stderr.write(line)
                last.extend([line.strip()] if line.strip() else [])
        if process.returncode:
            said = f" ({last[0]})" if last else ""
            what = f"its command {_ending(process.returncode)}{said}"
            raise UserError(f"method {method}: {what}: {shorten(self.text, 120)}")

    def _link(self, own: Path) -> None:
        """Link the files that it names into the folder where it runs, under the same relative paths."""
        for file in self.named_files():
            if not file.is_absolute() and ".." not in file.parts:
                (own / file).parent.mkdir(parents=True, exist_ok=True)
                (own / file).symlink_to(file.absolute())


def missing_workdir(workdir: Path, method: str) -> str:
    """The error message where the folder of a method's command is not there."""
    return f"there is no folder {workdir}, in which the command of method {method} runs"


def environment() -> dict[str, str]:
    """The variables of :data:`SELECTING` that are set, for the record."""
    return {name: os.environ[name] for name in SELECTING if name in os.environ}


def _ending(code: int) -> str:
    if code == NOT_FOUND:
        return "names a program that is not there"
    if code == NOT_RUN:
        return "names a file that cannot be run"
    return f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"


def _commit(folder: Path) -> str | None:
    """The commit of the git repository that ``folder`` is in, with -dirty after changes.

    None where there is none, or if it is the one that the study is in: every commit to it would then make all frames
    again.
    """
    here, there = _git(Path(), "rev-parse", "--show-toplevel"), _git(folder, "rev-parse", "--show-toplevel")
    return None if here == there else _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, encoding="utf-8")
    except FileNotFoundError:  # no git
        return None
    return None if done.returncode else done.stdout.strip()


def _state(file: Path) -> str:
    status = file.stat()
    return f"{status.st_size} bytes of {status.st_mtime_ns}" if status.st_size > LARGE else content_hash([file])


@contextmanager
def folders() -> Iterator[tuple[Path, Path, Path]]:
    """New folders for LR frames, for x4 frames, and for the command to run in; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="stablevsr-command-") as root:
        places = tuple(Path(root) / name for name in ("lr", "frames", "run"))
        for place in places:
            place.mkdir()
        yield places[0], places[1], places[2]
