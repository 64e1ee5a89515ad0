"""What inference took, from the manifests of its shards: seconds by stage and peak memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stablevsr.report.provenance import manifests
from stablevsr.report.scores import ScoreBook, read_json
from stablevsr.study.methods import Method


@dataclass
class Cost:
    """What inference of one method on one dataset took, over all shards and seeds that were run."""

    frames: int = 0
    seconds: float = 0.0
    memory: int = 0  #: bytes, the largest shard's peak
    stages: dict[str, float] = field(default_factory=dict)  #: seconds by stage, empty where none were recorded

    @property
    def per_frame(self) -> float:
        """Seconds a frame."""
        return self.seconds / self.frames


def amount_text(amount: float) -> str:
    """Seconds or GiB as tables and figures show them: two digits, and all of those before the point."""
    return f"{amount:.0f}" if amount >= 10 else f"{amount:#.2g}"


def cost(book: ScoreBook, dataset: str, method: Method) -> Cost | None:
    """Sum up the manifests of ``method``; None if nothing was inferred, as for frames that were given."""
    if method.kind == "frames":
        return None
    total = Cost()
    for seed in book.study.seeds(method.on(dataset).digest, dataset):
        for file in manifests(book.paths, dataset, method, seed):
            _add(total, read_json(file))
    return total if total.frames and total.seconds > 0 else None


def _add(total: Cost, manifest: dict[str, Any]) -> None:
    total.frames += sum(int(entry.get("frames", 0)) for entry in manifest.get("sequences", {}).values())
    total.seconds += float(manifest.get("seconds") or 0.0)
    total.memory = max(total.memory, int(manifest.get("peak_memory_bytes") or 0))
    for stage, seconds in (manifest.get("stages") or {}).items():
        total.stages[stage] = total.stages.get(stage, 0.0) + float(seconds)
