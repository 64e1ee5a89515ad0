"""The scenes of the mini data: which frames of which source, and the part of the picture that is used.

A scene is one camera shot. Scenes of the film were chosen by a rule before any method was run on them
(``benchmarks/mini_scenes.py`` applies it and prints this list); the six shots of the street footage were divided by
hand, three for training and three for testing.
"""

from __future__ import annotations

from dataclasses import dataclass

#: First frames of the street footage's shots (peaks of the frame difference, checked by eye), and the end of the last.
STREET_SHOTS = (0, 30, 76, 137, 187, 242, 250)
STREET_SIZE = (272, 640)
FILM_SIZE = (360, 640)  #: the film is used at half its size
REDS_SIDE, VIMEO_SIZE = 256, (144, 192)
REDS_FRAMES, VIMEO_FRAMES, TRAINING_FRAMES = 6, 7, 12

Box = tuple[int, int, int, int]  #: top, left, height, width


@dataclass(frozen=True)
class Scene:
    """Consecutive frames of one shot, cropped to ``box``."""

    name: str
    source: str  #: film, street or phone
    first: int  #: number of the first frame in the source
    frames: int
    box: Box
    content: str = ""


def _film(middle: int, top: int, left: int, size: tuple[int, int], frames: int, content: str = "") -> Scene:
    """Frames around frame ``middle`` of the film."""
    return Scene(f"film{middle:05d}", "film", middle - frames // 2, frames, (top, left, *size), content)


def _film_reds(middle: int, top: int, left: int, content: str = "") -> Scene:
    return _film(middle, top, left, (REDS_SIDE, REDS_SIDE), REDS_FRAMES, content)


def _film_vimeo(middle: int, top: int, left: int, content: str) -> Scene:
    return _film(middle, top, left, VIMEO_SIZE, VIMEO_FRAMES, content)


def _street(shot: int, top: int, left: int, content: str) -> Scene:
    """Frames around the middle of a shot of the street footage."""
    first = (STREET_SHOTS[shot] + STREET_SHOTS[shot + 1] - REDS_FRAMES) // 2
    return Scene(f"street{shot}", "street", first, REDS_FRAMES, (top, left, REDS_SIDE, REDS_SIDE), content)


def _street_training(shot: int, content: str) -> Scene:
    """A whole shot of the street footage, the whole picture."""
    first, stop = STREET_SHOTS[shot : shot + 2]
    return Scene(f"street{shot}", "street", first, stop - first, (0, 0, *STREET_SIZE), content)


#: The REDS-like test set.
REDS_LIKE = (
    _street(1, 16, 64, "cars behind a pedestrian, out of focus"),
    _street(4, 0, 272, "bicycle against a wall, the camera drifts"),
    _street(5, 16, 80, "heap of bicycles, the camera drifts"),
    _film_reds(9656, 104, 240, "squirrel on a branch, seen from behind"),
    _film_reds(9870, 104, 368, "squirrel on a branch before trees"),
    _film_reds(10048, 48, 368, "nut rolling past a trunk"),
    _film_reds(10154, 40, 224, "forest floor with sticks"),
    _film_reds(10247, 104, 112, "path under trees"),
    _film_reds(10321, 88, 192, "gliding squirrel from the front"),
    _film_reds(10521, 104, 0, "squirrel turning in the air"),
    _film_reds(11183, 8, 128, "rabbit holding the squirrel"),
)
#: The Vimeo-like test set.
VIMEO_LIKE = (
    _film_vimeo(9822, 128, 304, "squirrel taking off, clouds"),
    _film_vimeo(9997, 152, 112, "squirrel on a branch, closer"),
    _film_vimeo(10111, 216, 256, "nut flying between pointed sticks"),
    _film_vimeo(10209, 64, 256, "gliding squirrel, sky"),
    _film_vimeo(10281, 40, 256, "rabbit before rushing grass"),
    _film_vimeo(10374, 112, 80, "gliding squirrel over dark leaves"),
    _film_vimeo(11026, 144, 160, "rabbit and squirrels on a branch"),
    _film_vimeo(11436, 16, 368, "rabbit before a meadow"),
)
#: What recipes, step counts and thresholds are chosen on.
VALIDATION = (
    _film_reds(7523, 104, 0),
    _film_reds(7579, 0, 384),
    _film_reds(7637, 104, 384),
    _film_reds(7689, 64, 384),
    _film_reds(7877, 0, 384),
    _film_reds(7988, 0, 384),
    _film_reds(8054, 32, 192),
)
_FILM_TRAINING = (
    142, 1245, 1401, 1598, 1788, 1866, 2294, 2444, 2599, 2767, 2866, 3907, 4246, 4299, 4503, 4642, 4684, 4711,
    4960, 4996, 5826, 6068, 6108, 6218, 6248, 6288, 6374, 6555, 6646, 6733, 6768, 6808, 7048,
)  # fmt: skip
TRAINING = (
    _street_training(0, "bus from above"),
    _street_training(2, "van passing a cyclist"),
    _street_training(3, "street behind a fence"),
    *(_film(middle, 0, 0, FILM_SIZE, TRAINING_FRAMES) for middle in _FILM_TRAINING),
    Scene("phone", "phone", 0, 120, (0, 0, 144, 176), "man in a car"),
)
