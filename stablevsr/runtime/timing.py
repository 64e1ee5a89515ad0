"""Seconds by stage and peak memory of the sampler at work, for the manifests of inference and for the bench.

Nothing here slows a GPU down: a stage's begin and end are events in the GPU's own queue, read together at the end.
"""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

#: Opens a stage by name: what runs inside counts for it.
Stage = Callable[[str], AbstractContextManager[None]]


def untimed(_: str) -> AbstractContextManager[None]:
    """The :data:`Stage` that takes no time."""
    return nullcontext()


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on a GPU, or this process in the machine's memory, so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class StageTimer:
    """Seconds by stage. A stage opened inside another one counts for itself only: the outer one's clock rests."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._open: list[str] = []
        self._since: Any = None  #: when the innermost open stage (last) began or went on
        self._spans: list[tuple[str, Any, Any]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what runs in this block for ``name``."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def read(self) -> dict[str, float]:
        """Seconds by stage since the last reading. Waits until all that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds: dict[str, float] = defaultdict(float)
        for name, began, ended in self._spans:
            seconds[name] += began.elapsed_time(ended) / 1000 if self.device.type == "cuda" else ended - began
        self._spans.clear()
        return dict(seconds)

    def _turn(self) -> None:
        """One stage gives way to another: what ran until now is the innermost open one's."""
        now = self._mark()
        if self._open:
            self._spans.append((self._open[-1], self._since, now))
        self._since = now

    def _mark(self) -> Any:
        """Now: on a GPU, the moment at which it gets there."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event
