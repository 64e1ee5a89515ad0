"""What a metric is: its meaning as data, and the two decorators that join it to the function that computes it.

A file of :mod:`stablevsr.metrics.builtin`, or of any installed package with an entry point in the group
``stablevsr.metrics``, decorates a function with the metric's description; the name then stands for the metric:

    @frame_metric(Metric("mae", "MAE", kind="fidelity", direction="lower", decimals=4, convention=..., source=...))
    def mae(pair: FramePair) -> float:
        return abs(pair.rgb[0] - pair.rgb[1]).mean()

Descriptions are read by plans, help texts and workflow parsing: nothing heavy is imported here, and files of metrics
import torch inside their functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from stablevsr.metrics.chunks import Chunk
    from stablevsr.metrics.fidelity import FramePair
    from stablevsr.metrics.tools import Tools

FrameScorer: TypeAlias = "Callable[[FramePair], float]"
#: One tensor or array a method, before the metric's scale: a value a frame, or a value a pair of consecutive frames.
ChunkScorer: TypeAlias = "Callable[[Chunk], Sequence[Any]]"


@dataclass(frozen=True)
class Metric:
    """One metric as it is computed and reported.

    Attributes:
        name: its column in CSV files, and what studies and ``--metrics`` call it.
        kind: what it measures; ``temporal`` metrics compare a frame with the one before it and are undefined on the
            first frame of a sequence.
        direction: which values are better; ``none`` where an ideal value lies in between.
        decimals: rounding in tables; CSV files are unrounded.
        unit, scale: the values in CSV files are in ``unit``, multiplied by ``scale``.
        rewards_blur: whether a blurred video scores better.
        margin: differences below it, in the values of CSV files, count as none; None where nobody has set one.
        smallest: the shortest frame side in pixels for which the metric is defined.
        needs: weight files, by their names in the registry of downloads.
        package: the distribution that computes it (its version is kept with the scores); ``extra``: the extra of this
            package that installs it.
    """

    name: str
    label: str
    kind: Literal["fidelity", "perceptual", "temporal"]
    direction: Literal["higher", "lower", "none"]
    decimals: int
    convention: str
    source: str
    unit: str = ""
    scale: float = 1.0
    rewards_blur: bool = False
    margin: float | None = None
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
    """Decorates a function of one pair of 8-bit frames; several frames are computed at once, each in a thread."""
    return lambda function: replace(description, score_frame=function)


def chunk_metric(description: Metric) -> Callable[[Callable[[Tools], ChunkScorer]], Metric]:
    """Decorates a function that loads what the metric needs, once a run, and returns its scorer.

    The scorer gets runs of consecutive frames of the ground truth and of all methods
    (:class:`stablevsr.metrics.chunks.Chunk`). What several metrics use is shared by ``tools.once`` (networks) and
    ``chunk.once`` (results).
    """
    return lambda function: replace(description, build=function)
