"""The protocol of scores: which frames were scored, how their LR frames were made, and which code computed the scores.

Every row of a table of scores names its protocol, and scores of different protocols are never averaged or compared. The
channels and the crop are those of each metric, which therefore has a name for every choice (``psnr``, ``psnr_y``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stablevsr.metrics.metric import Metric
from stablevsr.metrics.registry import METRICS
from stablevsr.runtime.hashing import digest
from stablevsr.study.files import Dataset
from stablevsr.study.fingerprint import fingerprint


@dataclass(frozen=True)
class Protocol:
    """What scores on one data set rest on; the data set is named by its title."""

    dataset: str
    frames: str  #: which frames of which sequences are scored
    degradation: str  #: how the low-resolution frames were made
    code: str  #: hash of the code of the metrics

    @property
    def name(self) -> str:
        """What the column ``protocol`` says: 'REDS4; all frames; BIx4; metrics 0123abcd'."""
        return f"{self.dataset}; {self.frames}; {self.degradation}; metrics {self.code}"


def protocol_of(spec: Dataset, metrics: Sequence[str]) -> Protocol:
    """The protocol of a study's scores on a data set."""
    code = digest([fingerprint("stablevsr.metrics.evaluate"), METRICS.foreign(metrics)])
    return Protocol(spec.title, _frames(spec), spec.degradation, code[:8])


def _frames(spec: Dataset) -> str:
    """Such as 'all frames', or 'first 5 frames, one of every 2, of 000 and 011'."""
    parts = ["all frames" if spec.frames is None else f"first {spec.frames} frames"]
    parts += [f"one of every {spec.every}"] if spec.every > 1 else []
    parts += [f"of {' and '.join(spec.sequences)}"] if spec.sequences else []
    return ", ".join(parts)


def describe(protocol: Protocol, metric: Metric) -> dict[str, Any]:
    """One metric under a protocol, for a table: which of its frames count, the convention, and the hash of its code."""
    module = getattr(metric.score_frame or metric.build, "__module__", "")
    own = module.startswith("stablevsr.")
    return {
        "protocol": protocol.name,
        "dataset": protocol.dataset,
        "frames": protocol.frames if metric.frames == "all" else f"{protocol.frames}, of septuplets the centre one",
        "degradation": protocol.degradation,
        "metric": metric.name,
        "convention": metric.convention,
        "source": metric.source,
        "code": fingerprint(module)[:8] if own else ", ".join(METRICS.foreign([metric.name])),
    }
