"""A test set of pictures unlike the training clips: medicine, astronomy, and photographs, by a synthetic camera.

The rule, written down before any method was run on them: every picture that the scikit-image wheel carries, of 300
pixels a side or more, that was taken by an instrument (no drawing, no text, no test pattern), that is not blurred on
purpose, and that is not among the mini data's training pictures. Of the stereo pair the left view is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stablevsr.data.frames import Frame, read_frame, write_frame
from stablevsr.data.mini.photographs import PHOTOGRAPHS, synthetic_camera
from stablevsr.data.mini.sources import wheel_file
from stablevsr.runtime.io import start_over, write_text

#: Files by domain.
PICTURES = {
    "medicine": ("retina.jpg", "ihc.png", "cell.png"),
    "astronomy": ("hubble_deep_field.jpg", "moon.png"),
    "photographs": ("camera.png", "coins.png", "motorcycle_left.png"),
}


def clips() -> Iterator[tuple[str, Frame, int]]:
    """Name, picture and the camera's seed of each clip. Raises :class:`UserError` if scikit-image is not installed."""
    files = [file for pictures in PICTURES.values() for file in pictures]
    for seed, file in enumerate(files, start=len(PHOTOGRAPHS)):  # other motions than in training
        yield file.partition(".")[0], read_frame(wheel_file("skimage", "data", file)), seed


def build(root: Path) -> None:
    """Write ``root/pictures/gt``, a clip for each picture, and last ``root/CARD.md``. A second call does nothing.

    Raises :class:`UserError` if scikit-image is not installed, or ``root/pictures`` is there and this command did not
    make it.
    """
    card = root / "CARD.md"
    if card.exists():
        return
    start_over(root, ["pictures"])
    for name, picture, seed in clips():
        for number, frame in enumerate(synthetic_camera(picture, seed)):
            write_frame(root / "pictures" / "gt" / name / f"{number:08d}.png", frame)
    lines = [
        "# Other domains",
        "",
        "Made by `stablevsr data domains` (docs/data.md).",
        "",
        "| domain | files |",
        "|---|---|",
    ]
    lines += [f"| {domain} | {', '.join(files)} of scikit-image |" for domain, files in PICTURES.items()]
    write_text(card, "\n".join([*lines, ""]))
