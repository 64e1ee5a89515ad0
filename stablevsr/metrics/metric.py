"""The description of a metric, and the two decorators that attach it to the function that computes the metric.

The decorated function becomes a :class:`Metric` (``docs/metrics.md`` has an example). Plans, help texts and workflow
parsing read descriptions, so files of metrics import torch and numpy inside their functions only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from stablevsr.metrics.chunks import Chunk
    from stablevsr.metrics.fidelity import FramePair
    from stablevsr.metrics.tools import Tools

#: Fields that only reports read. A changed value computes no score again (:mod:`stablevsr.study.fingerprint`).
FOR_REPORTS = ("label", "decimals", "source", "rewards_blur", "margin")
FrameScorer: TypeAlias = "Callable[[FramePair], float]"
#: For each method one tensor or array, unscaled: one value per frame, or per pair of consecutive frames.
ChunkScorer: TypeAlias = "Callable[[Chunk], Sequence[Any]]"


@dataclass(frozen=True)
class Metric:
    """One metric as it is computed and reported.

    Attributes:
        name: its column in CSV files, and what studies and ``--metrics`` call it.
        kind: what it measures; ``temporal`` metrics compare a frame with the one before it and are undefined on the
            first frame of a sequence.
        direction: which values are better; ``none`` if an ideal value lies in between.
        decimals: rounding in tables; CSV files are unrounded.
        frames: the frames that a frame metric is defined on: ``all``, or the ``centre`` frame of septuplets alone.
        unit, scale: the values in CSV files are in ``unit``, multiplied by ``scale``.
        rewards_blur: whether a blurred video scores better.
        margin: differences below it, in the values of CSV files, count as no difference; None: no margin is set.
        reference: what the output is compared with: the ground truth, the LR frame (made of the ground truth if it
            is there), or nothing.
        smallest: the shortest frame side in pixels for which the metric is defined.
        needs: weight files, by their names in the registry of downloads.
        package, extra: the distribution that computes it, and the extra of stablevsr that installs that distribution.
    """

    name: str
    label: str
    kind: Literal["fidelity", "perceptual", "temporal"]
    direction: Literal["higher", "lower", "none"]
    decimals: int
    convention: str
    source: str
    frames: Literal["all", "centre"] = "all"
    unit: str = ""
    scale: float = 1.0
    rewards_blur: bool = False
    margin: float | None = None
    reference: Literal["gt", "lr", "none"] = "gt"
    smallest: int = 1
    needs: tuple[str, ...] = ()
    package: str | None = None
    extra: str | None = None
    score_frame: FrameScorer | None = None
    build: Callable[[Tools], ChunkScorer] | None = None

    @property
    def temporal(self) -> bool:
        """Whether it compares consecutive frames."""
        return self.kind == "temporal"


def frame_metric(description: Metric) -> Callable[[FrameScorer], Metric]:
    """Decorates a function of one pair of 8-bit frames, which must be thread-safe."""
    return lambda function: replace(description, score_frame=function)


def chunk_metric(description: Metric) -> Callable[[Callable[[Tools], ChunkScorer]], Metric]:
    """Decorates a function that is called once in a run, loads what the metric needs and returns its scorer.

    The scorer gets consecutive frames of the ground truth and all methods (:class:`stablevsr.metrics.chunks.Chunk`).
    Metrics share networks by ``tools.once`` and results by ``chunk.once``.
    """
    return lambda function: replace(description, build=function)
