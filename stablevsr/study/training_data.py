"""The record of a training set: its clips, their numbers of frames, and hashes of what the frames hold.

Hashing a large set takes minutes, so it is done once, by ``stablevsr data prepare-training``. It is done again when the
size or the time of a file has changed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stablevsr.data.layouts import Clip
from stablevsr.runtime.errors import DamagedError
from stablevsr.runtime.hashing import content_hash, digest
from stablevsr.runtime.records import read_record, write_record
from stablevsr.study.prepare import check_sizes, open_dataset

if TYPE_CHECKING:
    from stablevsr.study.files import Dataset
    from stablevsr.study.paths import Paths


def record_training_data(spec: Dataset, paths: Paths) -> dict[str, Any]:
    """The record of a training set and its validation set, written to ``paths.training_data(spec)`` if it is not there.

    Keys: ``sequences`` and ``validation``, by name of a clip its number of ``frames`` and ``sha256``; ``sha256`` of all
    training clips together; ``files``, a digest of the files' sizes and times. Raises :class:`UserError` for frames
    that are missing, and for clips that are not 4 times as large as their LR frames.
    """
    clips, held_out = (
        open_dataset(part, paths.low_resolution(part)) if part else [] for part in (spec, spec.validation)
    )
    files, target = _stamps([*clips, *held_out]), paths.training_data(spec)
    try:
        known = read_record(target)
    except DamagedError:  # also where there is none
        known = {}
    if known.get("files") != files:
        for clip in (*clips, *held_out):
            check_sizes(clip)
        sequences = _describe(clips)
        known = {
            "sequences": sequences,
            "validation": _describe(held_out),
            "sha256": digest(sequences),
            "files": files,
        }
        write_record(target, known)
    return known


def _describe(clips: Sequence[Clip]) -> dict[str, Any]:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        hashes = list(pool.map(lambda clip: content_hash([*clip.gt, *clip.lr]), clips))
    return {clip.name: {"frames": len(clip.gt), "sha256": h} for clip, h in zip(clips, hashes, strict=True)}


def _stamps(clips: Sequence[Clip]) -> str:
    return digest([_stamp(file) for clip in clips for file in (*clip.gt, *clip.lr)])


def _stamp(file: Path) -> tuple[str, int, int]:
    status = file.stat()
    return str(file), status.st_size, status.st_mtime_ns
