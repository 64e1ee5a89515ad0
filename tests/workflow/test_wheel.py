"""The wheel alone, outside the repository: everything that the commands read is in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stablevsr.data.frames import list_frames, read_frame, write_frame

pytestmark = pytest.mark.workflow
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package from its wheel; its dependencies are those of this environment."""
    folder, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):  # a copy: building leaves files behind
        shutil.copy(REPOSITORY / name, source)
    shutil.copytree(REPOSITORY / "stablevsr", source / "stablevsr", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, source], check=True, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True, cwd=folder)
    return folder / "site"


def run(installed, folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "stablevsr", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_the_wheel_that_runs(installed, tmp_path):
    script = "import stablevsr; print(stablevsr.__file__)"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith(str(installed))


def test_upscale_runs_the_embedded_model(installed, tmp_path):
    rng = np.random.default_rng(0)
    for t in range(2):
        write_frame(tmp_path / "low" / f"{t}.png", rng.integers(0, 256, (16, 24, 3), dtype=np.uint8))
    run(installed, tmp_path, "upscale", "low", "high", "--model", "tiny", "--steps", "2", "--device", "cpu")
    assert [read_frame(path).shape for path in list_frames(tmp_path / "high")] == [(64, 96, 3)] * 2


def test_the_registry_is_there(installed, tmp_path):
    assert "vimeo90k" in run(installed, tmp_path, "fetch", "--list")
