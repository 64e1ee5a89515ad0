"""What inference of a method cost, from the manifests of its shards: seconds by stage, and peak memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stablevsr.report.scores import ScoreBook, read_json
from stablevsr.study.methods import Method
from stablevsr.study.paths import Paths


@dataclass
class InferenceCost:
    """What inference of one method on one dataset cost, over all shards and runs."""

    frames: int = 0
    seconds: float = 0.0
    memory: int = 0  #: bytes, the largest peak
    stages: Counter[str] = field(default_factory=Counter)  #: seconds by stage, empty where none were recorded

    @property
    def per_frame(self) -> float:
        """Seconds a frame."""
        return self.seconds / self.frames

    def add(self, other: InferenceCost) -> None:
        """Take in the cost of further shards."""
        self.frames += other.frames
        self.seconds += other.seconds
        self.memory = max(self.memory, other.memory)
        self.stages.update(other.stages)


def cost(book: ScoreBook, dataset: str, method: Method) -> InferenceCost | None:
    """The sum over the manifests of ``method``; None if nothing was inferred, as for frames from a folder."""
    parts, total = by_hardware(book, dataset, method).values(), InferenceCost()
    for part in parts:
        total.add(part)
    return total if parts else None


def by_hardware(book: ScoreBook, dataset: str, method: Method) -> dict[str, InferenceCost]:
    """The cost by the GPU, or the processor, that sequences were made on; nothing where no frames were made."""
    found: dict[str, InferenceCost] = {}
    for form in method.runs(dataset) if method.kind != "frames" else ():
        for manifest in map(read_json, manifests(book.paths, dataset, form)):
            for name, spent in manifest.get("costs", {}).items():
                frames = int(manifest["sequences"][name]["frames"])
                found.setdefault(spent["hardware"], InferenceCost()).add(_sequence(frames, spent))
    return {name: spent for name, spent in found.items() if spent.frames and spent.seconds > 0}


def _sequence(frames: int, spent: dict[str, Any]) -> InferenceCost:
    return InferenceCost(frames, spent["seconds"], spent["peak_memory_bytes"], Counter(spent["stages"]))


def manifests(paths: Paths, dataset: str, form: Method) -> list[Path]:
    """The manifests of the shards of one run that were inferred, sorted by shard."""
    shards = range(paths.study.spec.datasets[dataset].shards)
    files = (paths.manifest(dataset, form.digest, form.run, shard) for shard in shards)
    return [file for file in files if file.exists()]
