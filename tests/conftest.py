"""Shared fixtures: the vector models, loaded once a session."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network

import pytest

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
