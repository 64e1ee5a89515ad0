"""Frames that are made elsewhere: found in a folder, or made by the command of a method. Both are checked here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from stablevsr.baselines.command import Command, folders
from stablevsr.data.degradation import SCALE
from stablevsr.data.frames import Frame, list_frames, read_frame
from stablevsr.runtime.errors import UserError
from stablevsr.study.inference.shards import Batch, BatchUpscaler, Progress


def from_folder(method: str, root: Path, progress: Progress) -> BatchUpscaler:
    """Frames from ``root/sequence/``, found by the names of the LR frames; others there are ignored."""

    def upscale(batch: Batch, _: list[list[Frame]]) -> Iterator[list[Frame]]:
        for name, files in batch:
            frames = _checked(method, root / name, files)
            progress(len(files))
            yield frames

    return upscale


def from_command(method: str, command: Command, progress: Progress) -> BatchUpscaler:
    """Frames that a command makes of copies of the LR frames."""

    def upscale(batch: Batch, _: list[list[Frame]]) -> Iterator[list[Frame]]:
        below = {name: name if command.whole_shard else "" for name, _ in batch}
        with folders() as (lr, frames, own):
            for name, files in batch:
                for folder in (lr / below[name], frames / below[name]):
                    folder.mkdir(exist_ok=True)
                for file in files:
                    shutil.copy(file, lr / below[name])
            command.run(lr, frames, own, method)
            for name, files in batch:
                made = _checked(method, frames / below[name], files, f"sequence {name}: what its command made")
                progress(len(files))
                yield made

    return upscale


def _checked(method: str, folder: Path, files: list[Path], command: str = "") -> list[Frame]:
    """The frames in ``folder`` with the names of the LR frames ``files``, four times as large.

    Args:
        method: for errors.
        folder: with the frames.
        files: LR frames of the sequence.
        command: what to call the folder that a command wrote, in which no other frames may be; empty for a user's.

    Raises:
        UserError: a frame is missing or has another size, or the command made others.
    """
    where = command or str(folder)
    found = {path.stem: path for path in (list_frames(folder) if folder.is_dir() else [])}
    missing = [file.stem for file in files if file.stem not in found]
    if missing:
        others = sorted(found.keys() - {file.stem for file in files})
        there = f" (there is {others[0]})" if others else ""
        lacks = f"{where} lacks {len(missing)} of {len(files)} frames, the first is {missing[0]}{there}"
        raise UserError(f"method {method}: {lacks}")
    if command and len(found) != len(files):
        raise UserError(f"method {method}: {where} has {len(found)} frames for {len(files)} LR frames")
    height, width, _ = (SCALE * side for side in read_frame(files[0]).shape)
    frames = [read_frame(found[file.stem]) for file in files]
    for file, frame in zip(files, frames, strict=True):
        if frame.shape[:2] != (height, width):
            what = f"{command}, frame {file.stem}," if command else found[file.stem]
            size = f"{frame.shape[1]}x{frame.shape[0]}, four times its LR frame is {width}x{height}"
            raise UserError(f"method {method}: {what} is {size}")
    return frames
