"""Time per stage and peak memory of the sampler, for the manifests of inference and for the bench.

Timing does not slow a GPU down: each stage is marked by CUDA events in its stream, which are read at the end.
"""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

#: Makes a context manager from a stage's name; the time inside counts for that stage.
Stage = Callable[[str], AbstractContextManager[None]]


def untimed(_: str) -> AbstractContextManager[None]:
    """The :data:`Stage` that measures nothing."""
    return nullcontext()


def peak_memory(device: torch.device) -> int:
    """Peak memory so far in bytes: of tensors on a GPU, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class StageTimer:
    """Seconds per stage; a nested stage's time is not added to the outer one."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._open: list[str] = []
        self._since: Any = None  #: when the innermost open stage (the last) was started or resumed
        self._spans: list[tuple[str, Any, Any]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of this block for the stage ``name``."""
        self._switch()
        self._open.append(name)
        try:
            yield
        finally:
            self._switch()
            self._open.pop()

    def read(self) -> dict[str, float]:
        """Seconds per stage since the last call. Waits until the device has finished its queued work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds: dict[str, float] = defaultdict(float)
        for name, began, ended in self._spans:
            seconds[name] += began.elapsed_time(ended) / 1000 if self.device.type == "cuda" else ended - began
        self._spans.clear()
        return dict(seconds)

    def _switch(self) -> None:
        """Count the time since the last switch for the innermost open stage."""
        now = self._mark()
        if self._open:
            self._spans.append((self._open[-1], self._since, now))
        self._since = now

    def _mark(self) -> Any:
        """The current time; on a GPU, an event that records when the GPU reaches it."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event
