"""Single frames from the film's training shots, for the tiny base model: more pictures than the training scenes have.

The training set of the studies holds a few shots, twelve frames each, because a TCM learns from consecutive frames. VAE
and UNet need many different pictures instead (docs/tiny-model.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stablevsr.data.frames import Frame
from stablevsr.data.mini.sources import film_frames

TRAINING_END = 7128  #: first frame after the training shots, at 297 s (benchmarks/mini_scenes.py)
EVERY = 8  #: frames
SMALLEST_CHANGE = 4.0  #: mean grey levels to the still before: otherwise it shows the same
SMALLEST_CONTRAST = 12.0  #: standard deviation in grey levels: titles and fades have less


def stills(film: Path) -> Iterator[tuple[str, Iterator[Frame]]]:
    """Name and picture, uint8 (360, 640, 3), of every still, each as a sequence of one frame."""
    before = None
    for number, frame in enumerate(film_frames(film, TRAINING_END, EVERY)):
        grey = frame.mean(axis=2)
        if grey.std() < SMALLEST_CONTRAST:
            continue
        if before is None or np.abs(grey - before).mean() >= SMALLEST_CHANGE:
            before = grey
            yield f"still{number * EVERY:05d}", iter([frame])
