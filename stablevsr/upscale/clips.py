"""The input and output of ``stablevsr upscale``: a video, a folder of frames, or a folder of such folders.

Wrong input is reported before torch is imported or a model is loaded; the checks read every frame.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stablevsr.data.frames import SUFFIXES, check_name, is_whole, list_frames, list_sequences, read_frame
from stablevsr.method.settings import SMALLEST_FRAME
from stablevsr.runtime.errors import UserError

InputKind = Literal["video", "frames", "sequences"]
Size = tuple[int, int]  #: height, width
#: FFmpeg's container of each ending that a video is written with.
VIDEO_OUT = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
#: Usual endings of videos, for error messages only: any file is tried.
VIDEO_IN = (*VIDEO_OUT, ".avi", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".y4m", ".gif")
LONGEST_NAME = 240  #: bytes; a file system allows 255, and the work folder's name is longer than the output's


@dataclass(frozen=True)
class SizedClip:
    """The frames of one sequence: ``name`` is the name of its folder in a folder of sequences, empty for one clip."""

    name: str
    files: tuple[Path, ...]
    height: int
    width: int


def kind_of(source: Path) -> InputKind:
    """What ``source`` is, from file names only. Raises :class:`UserError` if it is none of them, or mixed."""
    check_name(source)
    if source.is_file():
        if source.suffix.lower() in SUFFIXES:
            raise UserError(f"{source} is a single image: put the frames of a clip into a folder and give the folder")
        return "video"
    if not source.is_dir():
        if source.exists():
            raise UserError(f"{source} is a pipe or device: give a file or folder")
        raise UserError(f"there is no file or folder {source}")
    frames, sequences = list_frames(source), list_sequences(source)
    holding = [folder for folder in sequences if list_frames(folder)]
    if frames and holding:
        raise UserError(
            f"{source} holds both frames ({frames[0].name}) and folders of frames ({holding[0].name}/): "
            "give a folder of either"
        )
    if frames:
        return "frames"
    if not holding:
        raise UserError(_nothing_in(source, sequences))
    if empty := [folder for folder in sequences if folder not in holding]:
        raise UserError(f"sequence folder {empty[0]} holds no frames: remove it, or give the folder of one sequence")
    return "sequences"


def _nothing_in(source: Path, folders: list[Path]) -> str:
    videos = sorted(p.name for p in source.iterdir() if p.suffix.lower() in VIDEO_IN)
    if videos:
        return f"{source} holds videos ({videos[0]}) and no frames: give one video at a time"
    for folder in folders:
        deeper = [p for p in list_sequences(folder) if list_frames(p)]
        if deeper:
            return f"the frames below {source} lie one folder too deep ({folder.name}/{deeper[0].name}/): give {folder}"
    return f"{source} holds no frames: expected are {', '.join(SUFFIXES)} files, or folders of them"


def check_places(source: Path, out: Path, kind: InputKind) -> None:
    """Raise :class:`UserError` unless ``out`` is a valid name for results of this kind, outside ``source``."""
    here, there = source.resolve(), out.resolve()
    if here == there:
        raise UserError(f"{out} is the input itself: give another output")
    check_name(out)
    if out.name in ("", ".."):
        raise UserError(f"output {out} has no name: give the name of the file or folder to make")
    if len(os.fsencode(out.name)) > LONGEST_NAME:
        raise UserError(f"the name of the output {out} is too long: give one of at most {LONGEST_NAME} bytes")
    if here in there.parents:
        raise UserError(f"output {out} lies inside the input {source}: write it somewhere else")
    if kind == "video" and out.suffix.lower() not in VIDEO_OUT:
        raise UserError(f"{source} is a video, so the output must be a file in {', '.join(VIDEO_OUT)}, not {out}")
    if kind != "video" and out.suffix.lower() in VIDEO_IN:
        raise UserError(f"{source} is a folder of frames, so the output must be a folder, not a video ({out})")


def check_free(out: Path, kind: InputKind) -> None:
    """Raise :class:`UserError` if ``out`` exists, unless it is an empty folder and a folder is to be written."""
    if not out.exists() and not out.is_symlink():
        return
    if kind == "video" or not out.is_dir() or out.is_symlink():
        raise UserError(f"output {out} exists already: remove it or give another name")
    if held := sorted(out.iterdir()):
        raise UserError(f"output folder {out} holds files already ({held[0].name}): remove it or give another name")


def open_folder(source: Path, kind: InputKind) -> list[SizedClip]:
    """The clips of a folder, every frame read once. Raises :class:`UserError` that names the damaged file."""
    folders = {"": source} if kind == "frames" else {folder.name: folder for folder in list_sequences(source)}
    return [_open_clip(name, list_frames(folder)) for name, folder in folders.items()]


def _open_clip(name: str, files: list[Path]) -> SizedClip:
    """Frame files as a clip. Raises :class:`UserError` for a broken, too small or differently sized frame."""
    stems: dict[str, Path] = {}
    height, width, _ = read_frame(files[0]).shape
    for file in files:
        if file.stem in stems:
            raise UserError(f"{file} and {stems[file.stem].name} would both be written as {file.stem}.png: rename one")
        stems[file.stem] = file
        found = read_frame(file).shape
        if found != (height, width, 3):
            raise UserError(
                f"the frames of a sequence must be of one size: {file} is {found[1]}x{found[0]}, "
                f"{files[0].name} is {width}x{height}"
            )
    check_size(height, width, files[0])
    return SizedClip(name, tuple(files), height, width)


def check_size(height: int, width: int, where: Path) -> None:
    """Raise :class:`UserError` for frames too small for the networks."""
    if min(height, width) < SMALLEST_FRAME:
        raise UserError(f"{where} is {width}x{height}: frames of at least {SMALLEST_FRAME} pixels a side are needed")


def remove_damaged(frames: list[Path]) -> None:
    """Remove finished frames that are not whole, as after a power cut; they are then made again."""
    for path in frames:
        if path.exists() and not is_whole(path):
            print(f"{path} is damaged: making it again", file=sys.stderr)
            path.unlink()
