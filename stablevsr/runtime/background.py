"""Reading ahead and writing in a background thread while the caller computes, at most one piece of work at a time.

An exception in the thread is raised in the caller at its next call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
Result = TypeVar("Result")


def prefetch(work: Callable[[T], Result], pieces: Iterable[T]) -> Iterator[Result]:
    """Yield ``work(piece)`` for each piece in order; the next result is computed while the caller uses one."""
    with ThreadPoolExecutor(1) as thread:
        current: Future[Result] | None = None
        for piece in pieces:
            following = thread.submit(work, piece)
            if current is not None:
                yield current.result()
            current = following
        if current is not None:
            yield current.result()


class BackgroundWriter:
    """Runs work in a background thread; a new piece waits for the one before, so that memory stays bounded."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._running: Future[Any] | None = None

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
        """Start ``work(*arguments)`` once the piece before is done. Raises what that piece raised."""
        self.wait()
        self._running = self._thread.submit(work, *arguments)

    def wait(self) -> None:
        """Wait until the last piece is done. Raises what it raised."""
        running, self._running = self._running, None
        if running is not None:
            running.result()
