"""Frames for the page's player: one JPEG strip for each clip and method, its frames one below the other.

The frames are part of the page's file, in the best of QUALITIES that fits the byte budget: all frames at full size for
the mini study, fewer and smaller ones for long clips.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stablevsr.data.frames import read_frame
from stablevsr.report.clip_frames import INPUT, TRUTH, ClipFrames, Video, find_clips
from stablevsr.report.scores import ScoreBook, distinct
from stablevsr.runtime.errors import UserError

BUDGET = 7_500_000  #: bytes of all strips together; base64 adds a third
MAX_CLIPS = 4  #: of a dataset
VALIDATION_WIDTH = 640  #: pixels
#: From best to worst: JPEG quality, largest width in pixels, most frames of a clip (evenly chosen).
QUALITIES = (
    (92, 640, 32), (86, 640, 32), (86, 480, 24), (80, 480, 16), (75, 400, 12), (70, 320, 8), (60, 240, 6),
)  # fmt: skip


@dataclass(frozen=True)
class Viewer:
    """One clip as the page shows it."""

    dataset: str
    title: str
    clip: str
    width: int
    height: int
    frames: list[str]  #: names of the shown frames
    strips: dict[str, str]  #: label -> data URI of the strip
    left: str
    right: str


def viewers(book: ScoreBook) -> list[Viewer]:
    """The first clips of the main datasets that have ground truth and frames of the input or a method."""
    methods = distinct(book.study.table1())
    most = max(frames for _, _, frames in QUALITIES)  # others are not read: whole clips can be gigabytes
    found = [
        (clip, videos)
        for dataset in book.study.main_datasets()
        for clip in (clip.thinned(most) for clip in find_clips(book.paths, dataset, MAX_CLIPS))
        if TRUTH in (videos := clip.videos(methods)) and len(videos) > 1
    ]
    for quality in QUALITIES:
        made = [_viewer(book, clip, videos, *quality) for clip, videos in found]
        if sum(len(uri) for viewer in made for uri in viewer.strips.values()) <= BUDGET * 4 / 3:
            break
    return made


def _viewer(book: ScoreBook, clip: ClipFrames, videos: dict[str, Video], jpeg: int, widest: int, most: int) -> Viewer:
    shown = clip.thinned(most)
    chosen = [clip.gt_files.index(file) for file in shown.gt_files]
    height, width = videos[TRUTH].shape[1:3]
    factor = min(1.0, widest / width)
    size = (round(width * factor), round(height * factor))
    strips = {label: strip(frames[chosen], size, jpeg) for label, frames in videos.items()}
    stems = [file.stem for file in shown.gt_files]
    return Viewer(
        clip.dataset, book.title(clip.dataset), clip.name, *size, stems, strips, *_before_and_after(book, strips)
    )


def _before_and_after(book: ScoreBook, labels: Collection[str]) -> tuple[str, str]:
    """What the player shows first: bicubic or the input on the left, the method under study on the right."""
    wanted = [book.bicubic.label] if book.bicubic else []
    before = next(label for label in (*wanted, INPUT, TRUTH) if label in labels)
    methods = [label for label in labels if label not in (INPUT, TRUTH, before)]
    own = book.study.spec.method.label
    return before, own if own in methods else (methods or [TRUTH])[-1]


def strip(frames: Video, size: tuple[int, int], quality: int) -> str:
    """All frames one below the other as a JPEG data URI; enlarged by repeating pixels, shrunk by averaging."""
    enlarge = size[0] > frames.shape[2]
    method = Image.Resampling.NEAREST if enlarge else Image.Resampling.LANCZOS
    scaled = [Image.fromarray(frame).resize(size, method) for frame in frames]
    return _jpeg(Image.fromarray(np.concatenate([np.asarray(image) for image in scaled])), quality)


def validation_picture(file: Path | None) -> str:
    """A training's validation picture as a JPEG data URI, at most VALIDATION_WIDTH wide; empty without a usable one."""
    if file is None:
        return ""
    try:
        picture = Image.fromarray(read_frame(file))
    except UserError:
        return ""
    picture.thumbnail((VALIDATION_WIDTH, picture.height), Image.Resampling.LANCZOS, reducing_gap=None)
    return _jpeg(picture, 85)


def _jpeg(picture: Image.Image, quality: int) -> str:
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=quality, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
