"""One thread a process, and no time limits.

The networks here are too small to gain from a second thread, and more threads than cores wait for each other,
spinning.
"""

import os

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, which is later

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")


@pytest.fixture
def toy_strategy():
    """A strategy in a few lines, registered for one test: unidirectional, from the last frame to the first."""
    from stablevsr.method.strategies import STRATEGIES, register, sweep

    @register("toy")
    def backwards(frames, guided):
        for step, acts in enumerate(guided):
            yield from sweep(step, reversed(range(frames)), acts)

    yield "toy"
    del STRATEGIES["toy"]
