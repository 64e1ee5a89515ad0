"""Reading and writing beside the computation: one thread each, one piece of work ahead or behind, never more.

A piece that fails fails in the caller, at the next call; no work is lost without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
Result = TypeVar("Result")


def prefetch(work: Callable[[T], Result], pieces: Iterable[T]) -> Iterator[Result]:
    """``work`` of each piece in order; while the caller uses one result, the next is made."""
    with ThreadPoolExecutor(1) as thread:
        coming: Future[Result] | None = None
        for piece in pieces:
            following = thread.submit(work, piece)
            if coming is not None:
                yield coming.result()
            coming = following
        if coming is not None:
            yield coming.result()


class BackgroundWriter:
    """Does work in the background; a second piece waits for the first, so that little is ever kept for it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._going: Future[Any] | None = None

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._thread.shutdown()

    def do(self, work: Callable[..., object], *arguments: Any) -> None:
        """Begin ``work(*arguments)`` when the piece before is done. Raises what that piece raised."""
        self.wait()
        self._going = self._thread.submit(work, *arguments)

    def wait(self) -> None:
        """Until nothing is going on. Raises what the last piece raised."""
        going, self._going = self._going, None
        if going is not None:
            going.result()
