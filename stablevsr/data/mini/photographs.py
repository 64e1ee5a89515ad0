"""Photographs that scikit-image bundles, filmed by a synthetic camera: more textures for training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stablevsr.data.frames import Frame, read_frame
from stablevsr.data.mini.sources import wheel_file

PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "brick.png", "gravel.png", "grass.png")
FRAMES, SIDE = 16, 224


def photographs() -> Iterator[tuple[str, Iterator[Frame]]]:
    """Name and frames of a clip for each photograph."""
    for seed, file in enumerate(PHOTOGRAPHS):
        yield file.partition(".")[0], synthetic_camera(read_frame(wheel_file("skimage", "data", file)), seed)


def synthetic_camera(image: Frame, seed: int) -> Iterator[Frame]:
    """A camera that drifts, turns and zooms over a photograph: FRAMES frames, squares of SIDE pixels."""
    import cv2

    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    start, velocity = rng.uniform(0.35, 0.65, 2) * (width, height), rng.uniform(-2.5, 2.5, 2)
    angle, turn, zoom = rng.uniform(-5, 5), rng.uniform(-0.4, 0.4), rng.uniform(-0.004, 0.004)
    for t in range(FRAMES):
        matrix = cv2.getRotationMatrix2D(tuple(start + t * velocity), angle + t * turn, 1.0 + t * zoom)
        matrix[:, 2] += SIDE / 2 - (start + t * velocity)
        yield cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101)
