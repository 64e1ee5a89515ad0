"""Seconds by stage and peak memory of the networks at work, for the manifests of inference and for the bench.

Nothing here slows a GPU down: a stage's begin and end are events in the GPU's own queue, read together at the end.
"""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from stablevsr.models import Components
from stablevsr.motion import FlowEstimator


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on a GPU, or this process in the machine's memory, so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Stopwatch:
    """Seconds by stage: ``UNet``, ``TCM`` and ``VAE decoder`` by hooks on the modules, ``flow`` by a wrapper.

    What no hook sees (warping, solver, reading and writing) is the caller's to work out.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._began: dict[str, Any] = {}
        self._spans: list[tuple[str, Any, Any]] = []

    @contextmanager
    def attached(self, components: Components) -> Iterator[None]:
        """Time the networks of ``components`` until the end of the block."""
        stages = {"UNet": components.unet, "TCM": components.tcm, "VAE decoder": components.vae.decoder}
        with ExitStack() as stack:
            for name, module in stages.items():
                if module is not None:  # single-frame sampling loads no TCM
                    before = module.register_forward_pre_hook(lambda *_, name=name: self._start(name))
                    after = module.register_forward_hook(lambda *_, name=name: self._stop(name))
                    stack.callback(before.remove)
                    stack.callback(after.remove)
            yield

    def timed(self, estimator: FlowEstimator) -> FlowEstimator:
        """``estimator``, whose calls count as ``flow``."""

        def flow(target: Tensor, source: Tensor) -> Tensor:
            self._start("flow")
            found = estimator(target, source)
            self._stop("flow")
            return found

        return flow

    def read(self) -> dict[str, float]:
        """Seconds by stage since the last reading. Waits until all that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds: dict[str, float] = defaultdict(float)
        for name, began, ended in self._spans:
            seconds[name] += began.elapsed_time(ended) / 1000 if self.device.type == "cuda" else ended - began
        self._spans.clear()
        return dict(seconds)

    def _mark(self) -> Any:
        """Now: on a GPU, the moment at which it gets there."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _start(self, name: str) -> None:
        self._began[name] = self._mark()

    def _stop(self, name: str) -> None:
        self._spans.append((name, self._began[name], self._mark()))
