"""Sampling strategies: the order in which steps and frames are visited, and the neighbour that guides each visit.

Frame-wise bidirectional sampling is the paper's (section 4.3); the others are its ablations. A strategy is one
generator of visits; its registered name is valid in settings, studies and on the command line. Nothing here imports
torch, so that a study's plan can count visits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple


class Visit(NamedTuple):
    """One frame-step: ``frame`` goes through denoising step ``step``."""

    step: int
    frame: int
    #: The frame whose image guides this one; None: no TCM. It must have been visited before.
    neighbour: int | None = None
    #: True: the neighbour's finished latent guides; False: its latest x̂0 (x_t if ``source`` is xt).
    finished: bool = False


#: (number of frames, for each step whether the TCM may act) -> visits: each (step, frame) once, a frame's steps in
#: ascending order.
Strategy = Callable[[int, Sequence[bool]], Iterator[Visit]]
STRATEGIES: dict[str, Strategy] = {}


def register(name: str) -> Callable[[Strategy], Strategy]:
    """Make a strategy known as ``name``."""

    def add(strategy: Strategy) -> Strategy:
        STRATEGIES[name] = strategy
        return strategy

    return add


def sweep(step: int, frames: Iterable[int], guided: bool) -> Iterator[Visit]:
    """One step through ``frames``, each guided by the one before; the first has no TCM."""
    before = None
    for frame in frames:
        yield Visit(step, frame, before if guided else None)
        before = frame


@register("single_frame")
def single_frame(frames: int, guided: Sequence[bool]) -> Iterator[Visit]:
    """Each frame alone, without the TCM."""
    for step in range(len(guided)):
        yield from sweep(step, range(frames), guided=False)


@register("auto_regressive")
def auto_regressive(frames: int, guided: Sequence[bool]) -> Iterator[Visit]:
    """A frame takes all its steps before the next frame begins, which is guided by the finished one."""
    for frame in range(frames):
        for step, acts in enumerate(guided):
            yield Visit(step, frame, frame - 1 if frame > 0 and acts else None, finished=True)


@register("unidirectional")
def unidirectional(frames: int, guided: Sequence[bool]) -> Iterator[Visit]:
    """Each step goes through all frames, from the first to the last."""
    for step, acts in enumerate(guided):
        yield from sweep(step, range(frames), acts)


@register("bidirectional")
def bidirectional(frames: int, guided: Sequence[bool]) -> Iterator[Visit]:
    """Each step goes through all frames; the direction turns after every guided step."""
    backward = False
    for step, acts in enumerate(guided):
        yield from sweep(step, range(frames)[:: -1 if acts and backward else 1], acts)
        backward ^= acts


PROBE = 8  # frames with which a strategy is asked whether, and at which steps, it is guided


def has_finished_neighbours(strategy: str) -> bool:
    """Whether a strategy's frames are guided by finished ones, whose image is the same at all steps."""
    return any(visit.finished and visit.neighbour is not None for visit in STRATEGIES[strategy](PROBE, [True, True]))


def is_guided(strategy: str) -> bool:
    """Whether a strategy uses the TCM at all."""
    return any(visit.neighbour is not None for visit in STRATEGIES[strategy](PROBE, [True, True]))
