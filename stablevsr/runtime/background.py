"""Reading ahead and writing in a background thread while the caller computes.

Only one piece of work runs at a time; an exception in the thread is raised in the caller at its next call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
Result = TypeVar("Result")


@contextmanager
def pool_of_generator(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A thread pool for use in a generator: it is shut down at the end without waiting for its threads.

    After an error in the caller, the garbage collector may close the generator at any moment, even while another thread
    is being started; waiting for a thread at that moment would be a deadlock.
    """
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False)


def prefetch(work: Callable[[T], Result], pieces: Iterable[T]) -> Iterator[Result]:
    """Yield ``work(piece)`` for each piece in order; the next result is computed while the caller uses one."""
    with pool_of_generator(1) as thread:
        current: Future[Result] | None = None
        for piece in pieces:
            following = thread.submit(work, piece)
            if current is not None:
                yield current.result()
            current = following
        if current is not None:
            yield current.result()


class BackgroundWriter:
    """Runs work in a background thread; each call waits for the previous piece, which bounds memory."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._running: Future[Any] | None = None

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._thread.shutdown()

    def do(self, work: Callable[..., object], *arguments: Any) -> None:
        """Start ``work(*arguments)`` once the previous piece is done. Raises the previous piece's exception."""
        self.wait()
        self._running = self._thread.submit(work, *arguments)

    def wait(self) -> None:
        """Wait until the last piece is done. Raises its exception."""
        running, self._running = self._running, None
        if running is not None:
            running.result()
