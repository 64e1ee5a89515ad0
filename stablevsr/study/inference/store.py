"""Finished sequences on disk: a folder appears once all frames are written, with a record of how they were made."""

from __future__ import annotations

import shutil
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stablevsr.data.frames import Frame, list_frames, write_frame
from stablevsr.runtime.errors import DamagedError
from stablevsr.runtime.hashing import content_hash, digest, folder_hash
from stablevsr.runtime.records import read_record, write_record
from stablevsr.study.inference.upscalers import NetworkPaths

if TYPE_CHECKING:
    from stablevsr.study.methods import Method

MARK = ".done.json"
_hash = cache(folder_hash)  # several methods of a job have the same weights


class SequenceCost(NamedTuple):
    """What it cost to make a sequence."""

    seconds: float
    stages: dict[str, float]  #: seconds by stage
    memory: int  #: peak in bytes
    hardware: str  #: the GPU, or the processor


def identity(method: Method, seed: int, networks: NetworkPaths) -> str:
    """A digest of what a sequence's frames depend on besides its :func:`sources`: settings, code, weights."""
    from stablevsr.method.model_folder import FROZEN_PARTS, find_model

    weights: dict[str, Any] = {
        "tcm": _hash(networks.tcm) if networks.tcm else None,
        "decoder": _hash(networks.decoder) if networks.decoder else None,
    }
    if method.kind == "stablevsr":
        folder = find_model(networks.model)
        weights |= {part: _hash(folder / part) for part in FROZEN_PARTS}
        if method.takes_model_tcm:
            weights["model_tcm"] = _hash(folder / "controlnet")
    return digest({"method": method.identity(), "seed": seed, "model": networks.model, **weights})


def sources(method: Method, dataset: str, sequence: str, lr: list[Path]) -> list[Path]:
    """The files that a sequence's frames are made from: its LR frames, and those that a method takes from a folder."""
    external = method.frames_of(dataset) / sequence if method.frames is not None else None
    return [*lr, *(list_frames(external) if external and external.is_dir() else [])]


def is_done(folder: Path, files: list[Path], made_from: str) -> bool:
    """Whether ``folder`` holds the frames made from :func:`sources` ``files`` with the same :func:`identity`."""
    if not (folder / MARK).exists():
        return False
    if not is_whole(folder):
        print(f"the frames in {folder} are damaged: making them again", file=sys.stderr)
        return False
    content = read_mark(folder)
    return bool(content["made_from"] == made_from and content["input"] == content_hash(files))


def is_whole(folder: Path) -> bool:
    """Whether the frames in ``folder`` are those that its mark was written for."""
    try:
        content = read_mark(folder)
        return bool(content["sha256"] == content_hash(list_frames(folder)))
    except DamagedError:
        return False


def read_mark(folder: Path) -> dict[str, Any]:
    """What :func:`write_sequence` wrote about a finished sequence."""
    return read_record(folder / MARK)


def write_sequence(
    folder: Path, names: list[str], frames: list[Frame], files: list[Path], made_from: str, cost: SequenceCost
) -> None:
    """Write frames, as ``NAME.png``, into a temporary folder and move that to ``folder``, replacing what was there.

    ``files`` are the :func:`sources` of the sequence.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for name, frame in zip(names, frames, strict=True):
        write_frame(part / f"{name}.png", frame)
    mark = {
        "made_from": made_from,
        "input": content_hash(files),
        "frames": len(frames),
        "sha256": content_hash(list_frames(part)),
        "seconds": round(cost.seconds, 3),
        "stages": {stage: round(spent, 3) for stage, spent in cost.stages.items()},
        "peak_memory_bytes": cost.memory,
        "hardware": cost.hardware,
    }
    write_record(part / MARK, mark)
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)
