"""What inference of a method cost, from the manifests of its shards: seconds by stage, and peak memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from stablevsr.report.scores import ScoreBook, read_json
from stablevsr.study.methods import Method
from stablevsr.study.paths import Paths


@dataclass
class Cost:
    """What inference of one method on one dataset cost, over all shards and runs."""

    frames: int = 0
    seconds: float = 0.0
    memory: int = 0  #: bytes, the largest shard's peak
    stages: Counter[str] = field(default_factory=Counter)  #: seconds by stage, empty where none were recorded

    @property
    def per_frame(self) -> float:
        """Seconds a frame."""
        return self.seconds / self.frames


def cost(book: ScoreBook, dataset: str, method: Method) -> Cost | None:
    """The sum over the manifests of ``method``; None if nothing was inferred, as for frames from a folder."""
    if method.kind == "frames":
        return None
    total = Cost()
    for form in method.runs(dataset):
        for manifest in map(read_json, manifests(book.paths, dataset, form)):
            total.frames += sum(int(entry.get("frames", 0)) for entry in manifest.get("sequences", {}).values())
            total.seconds += float(manifest.get("seconds") or 0.0)
            total.memory = max(total.memory, int(manifest.get("peak_memory_bytes") or 0))
            total.stages.update(manifest.get("stages") or {})
    return total if total.frames and total.seconds > 0 else None


def manifests(paths: Paths, dataset: str, form: Method) -> list[Path]:
    """The manifests of the shards of one run that were inferred, sorted by shard."""
    shards = range(paths.study.spec.datasets[dataset].shards)
    files = (paths.manifest(dataset, form.digest, form.run, shard) for shard in shards)
    return [file for file in files if file.exists()]
