"""Time per stage and peak memory of the sampler, for the manifests of inference and for the bench.

Timing does not slow a GPU down: each stage is marked by CUDA events in its stream, which are read at the end.
"""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Makes a context manager from a stage's name; the time inside counts for that stage.
Stage = Callable[[str], AbstractContextManager[None]]


def untimed(_: str) -> AbstractContextManager[None]:
    """The :data:`Stage` that measures nothing."""
    return nullcontext()


def peak_memory(device: torch.device | str) -> int:
    """Peak in bytes since the last :func:`reset_peak_memory`: of tensors on a GPU, or of this process on a CPU."""
    if _is_cuda(device):
        import torch

        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak_memory(device: torch.device | str) -> None:
    """Let :func:`peak_memory` start again from what is allocated now; on a CPU this works on Linux only."""
    if _is_cuda(device):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _is_cuda(device: torch.device | str) -> bool:
    return str(device).startswith("cuda")


class StageTimer:
    """Seconds per stage; a nested stage's time is not added to the outer one."""

    def __init__(self, device: torch.device | str) -> None:
        self.device, self._is_cuda = device, _is_cuda(device)
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
        if self._is_cuda:
            import torch

            torch.cuda.synchronize(self.device)
        seconds: dict[str, float] = defaultdict(float)
        for name, began, ended in self._spans:
            seconds[name] += began.elapsed_time(ended) / 1000 if self._is_cuda else ended - began
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
        if not self._is_cuda:
            return time.perf_counter()
        import torch

        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event
