"""Shared by the tests that need programs of the operating system (Chromium): their marker and their helpers' places."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))  # the made-up study of the report's unit tests


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "system: needs programs of the operating system (Chromium)")
