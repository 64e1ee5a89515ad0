"""Shared fixtures: the vector models, loaded once a session."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network
# A cache for this process alone: weights fetched on this machine change no test, and no test changes them.
os.environ.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))  # its list of fonts takes seconds
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="stablevsr-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

import pytest  # noqa: E402

VECTORS = Path(__file__).parent / "vectors"


@pytest.fixture(scope="session")
def vectors():
    return VECTORS


@pytest.fixture(scope="session")
def pipe_v():
    from stablevsr import StableVSRPipeline

    return StableVSRPipeline.from_pretrained(VECTORS / "model_v", device="cpu")


@pytest.fixture(scope="session")
def pipe_eps():
    from stablevsr import StableVSRPipeline

    return StableVSRPipeline.from_pretrained(VECTORS / "model_eps", device="cpu")
