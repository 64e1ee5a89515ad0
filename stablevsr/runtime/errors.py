"""The exception for errors that a user can fix, such as a wrong folder or a misspelt key, and parts of its messages.

The command line prints the message without a traceback and exits with 1.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """An error that the user can fix; the message is one sentence: what is wrong, where, and how to fix it."""

    def __init__(self, message: str) -> None:
        # Torch's data loader re-raises a worker's error with the whole traceback as its message; the sentence is last.
        from_worker = message.startswith("Caught UserError in ")
        super().__init__(message.rpartition("UserError: ")[2].rstrip() if from_worker else message)


class DamagedError(UserError):
    """A file of this program that is not as it was written, as after a power cut; it is removed or made again."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is damaged")
        self.path = path


def exhausted(error: BaseException) -> str | None:
    """What to do about an error that says that memory or threads have run out; None for any other error.

    torch and OpenCV raise errors of general classes when the processor's memory runs out.
    """
    torch = sys.modules.get("torch")  # torch raised the error only if it was imported
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return (
            "the GPU's memory is too small for this: use precision bf16, tiles (--tile, or sampling.tile in a study), "
            "smaller crops, a smaller micro_batch, or the processor (device cpu)"
        )
    text = str(error)
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text or "Insufficient memory" in text:
        return (
            "the computer's memory is too small for this: use smaller frames or crops, tiles (--tile, or sampling.tile "
            "in a study), a smaller batch, or end other programs"
        )
    if isinstance(error, RuntimeError) and ("start new thread" in text or "temporarily unavailable" in text):
        return "the system lets this user start no more threads: raise the limit (ulimit -u), or set OMP_NUM_THREADS=1"
    return None


def install_command(extra: str | None = None) -> str:
    """The command, to be run in the repository's folder, that installs the package with an extra."""
    return f"pip install -c requirements.lock -e '.{f'[{extra}]' if extra else ''}'"


def near_miss(name: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' for the known name closest to ``name``, or an empty string if none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
