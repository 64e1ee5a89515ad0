"""The mini data, built from the package index: no scene in two sets."""

import subprocess
import sys
from itertools import chain

import cv2
import numpy as np
import pytest

from stablevsr.data.frames import list_frames, read_frame
from stablevsr.data.layouts import load_sequences
from stablevsr.study.prepare import make_low_resolution

pytestmark = pytest.mark.workflow
SETS = {"train": "plain", "val": "plain", "reds_like": "plain", "vimeo_like": "vimeo90k"}
PATCH = 28  #: LR pixels
#: Difference from a patch, as a share of its standard deviation, below which it counts as found.
FOUND = 0.25


@pytest.fixture(scope="module")
def low_resolution(tmp_path_factory):
    """The LR frames of all sets, by set and scene."""
    root = tmp_path_factory.mktemp("mini")
    for command in (["fetch", "big_buck_bunny"], ["data", "mini", "--out", str(root)]):
        subprocess.run([sys.executable, "-m", "stablevsr", *command], check=True, capture_output=True)
    found = {}
    for name, layout in SETS.items():
        sequences = make_low_resolution(load_sequences(layout, root / name, "test"), root / "made" / name)
        found[name] = {s.scene or s.name: [read_frame(file) for file in s.lr] for s in sequences}
    assert not list_frames(root)
    return found


def blurred(frame):
    """Without the finest detail, which moves by parts of a pixel."""
    return cv2.GaussianBlur(frame, (0, 0), 1.5).astype(np.float32)


def distance(frame, others):
    """How unlike the middle of ``frame`` is to the most similar place in blurred frames, relative to its contrast."""
    top, left = ((side - PATCH) // 2 for side in frame.shape[:2])
    patch = blurred(frame)[top : top + PATCH, left : left + PATCH]
    squares = min(cv2.matchTemplate(other, patch, cv2.TM_SQDIFF).min() for other in others)
    return float(np.sqrt(max(squares, 0) / patch.size) / patch.std())


def test_no_scene_is_in_two_sets(low_resolution):
    for name in ("val", "reds_like", "vimeo_like"):
        apart = chain(*(scenes.values() for other, scenes in low_resolution.items() if other != name))
        others = [blurred(frame) for frames in apart for frame in frames]
        for scene, frames in low_resolution[name].items():
            nearest = min(distance(frame, others) for frame in (frames[0], frames[-1]))
            assert nearest > FOUND, f"a patch of {name} {scene} is in another set"


def test_a_scene_is_found_in_another_crop_of_its_frame(low_resolution):
    for frames in low_resolution["reds_like"].values():
        wider = np.pad(cv2.resize(frames[0], (65, 63), interpolation=cv2.INTER_CUBIC), ((20, 0), (0, 30), (0, 0)))
        assert distance(frames[0], [blurred(wider)]) < FOUND


def test_the_sets_are_as_large_as_the_statistics_need(low_resolution):
    assert len(low_resolution["reds_like"]) >= 9
    assert len(low_resolution["vimeo_like"]) >= 8
    assert all(min(f[0].shape[:2]) >= 64 for f in low_resolution["reds_like"].values())
