"""Prefetching and writing in the background: in order, one piece at a time, and never failing silently."""

import threading

import pytest

from stablevsr.runtime.background import BackgroundWriter, prefetch


def test_the_next_piece_is_made_while_the_caller_uses_this_one():
    begun = [threading.Event() for _ in range(3)]

    def work(piece):
        begun[piece].set()
        return piece * 10

    results = prefetch(work, range(3))
    assert next(results) == 0
    assert begun[1].wait(10)  # nobody asked for it yet
    assert not begun[2].is_set()  # but no further: what waits takes memory
    assert list(results) == [10, 20]


def test_a_piece_that_cannot_be_read_fails_in_its_turn():
    results = prefetch(lambda piece: 1 / piece, [1, 0, 2])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_does_not_wait_for_the_piece_under_way():
    # the garbage collector closes it after an error, and a thread that is joined there deadlocks with one that starts
    gate, ended = threading.Event(), threading.Event()

    def work(piece):
        if piece:
            gate.wait(10)
            ended.set()
        return piece

    results = prefetch(work, range(3))
    assert next(results) == 0
    results.close()
    assert not ended.is_set()
    gate.set()
    assert ended.wait(10)


def test_a_piece_that_cannot_be_written_fails_at_the_next_or_at_the_end():
    def full():
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"), BackgroundWriter() as writing:
        writing.do(full)
    with BackgroundWriter() as writing:
        writing.do(full)
        with pytest.raises(OSError, match="No space"):
            writing.do(print)


def test_all_is_written_when_the_block_ends():
    gate, done = threading.Event(), []

    def write():
        gate.wait(10)
        done.append(1)

    with BackgroundWriter() as writing:
        writing.do(write)
        assert not done  # the caller went on
        gate.set()
    assert done
