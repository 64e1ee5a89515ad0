"""A dataset made ready for inference and evaluation: low-resolution frames made where the set comes without them, and
every sequence linked into the plain layout (``gt/sequence/frame.png``, ``lr/sequence/frame.png``) with a manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence as Many
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stablevsr.data.degradation import SCALE, degrade
from stablevsr.data.frames import read_frame, write_frame
from stablevsr.data.layouts import Sequence, load_sequences, vimeo_lr_folder
from stablevsr.runtime.errors import UserError, near_miss
from stablevsr.runtime.io import write_text
from stablevsr.runtime.locks import single_writer

if TYPE_CHECKING:
    from stablevsr.study.files import Dataset


def open_dataset(spec: Dataset) -> list[Sequence]:
    """The sequences that a study's dataset entry names, low-resolution frames made if the set lacks them.

    Raises :class:`UserError` for unknown sequences, and for frames that are missing.
    """
    root = spec.root
    sequences = load_sequences(spec.layout, root, spec.split)
    if spec.sequences is not None:
        known = {s.name: s for s in sequences}
        for name in spec.sequences:
            if name not in known:
                raise UserError(f"dataset {root} has no sequence {name}{near_miss(name, known)}")
        sequences = [known[name] for name in spec.sequences]
    sequences = make_low_resolution(sequences, root)
    stop = None if spec.frames is None else spec.frames * spec.every
    chosen = slice(None, stop, spec.every)
    return [Sequence(s.name, s.gt[chosen], s.lr[chosen]) for s in sequences]


def make_low_resolution(sequences: Many[Sequence], root: Path) -> list[Sequence]:
    """Fill in missing LR frames by MATLAB-compatible bicubic, cached in ``root/BIx4`` (the field's name).

    What an interrupted call made is kept. Raises :class:`UserError` for a frame that cannot be read or whose sides are
    no multiples of 4.
    """
    cached = {sequence.name: _with_cached(sequence, root) for sequence in sequences if not sequence.lr}
    pairs = [pair for sequence in cached.values() for pair in zip(sequence.gt, sequence.lr, strict=True)]
    todo = [(gt, lr) for gt, lr in pairs if not lr.exists()]
    if todo:  # else nothing is written, not even a lock: the folder may be shared and read-only
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool, single_writer(vimeo_lr_folder(root)):
            for _ in pool.map(_degrade_file, *zip(*todo, strict=True)):
                pass  # raises what a frame raised, and starts no more of them
    return [cached.get(sequence.name, sequence) for sequence in sequences]


def _with_cached(sequence: Sequence, root: Path) -> Sequence:
    return Sequence(sequence.name, sequence.gt, tuple(_low_resolution_path(path, root) for path in sequence.gt))


def _low_resolution_path(gt: Path, root: Path) -> Path:
    for base in (root / "sequences", root / "gt"):
        if gt.is_relative_to(base):
            return (vimeo_lr_folder(root) / gt.relative_to(base)).with_suffix(".png")
    raise UserError(f"cannot tell where the low-resolution copy of {gt} belongs")


def _degrade_file(gt: Path, lr: Path) -> None:
    if lr.exists():  # made by the process that held the lock before
        return
    frame = read_frame(gt)
    height, width = frame.shape[:2]
    if height % SCALE or width % SCALE:
        raise UserError(
            f"frame {gt} has {width}x{height} pixels, no multiples of {SCALE}, so no x{SCALE} frame fits it: crop the "
            f"sequence to {width // SCALE * SCALE}x{height // SCALE * SCALE}"
        )
    write_frame(lr, degrade(frame))


def link_dataset(sequences: Many[Sequence], out: Path) -> None:
    """Link ``sequences`` into ``out/{gt,lr}`` and write ``out/manifest.json`` with counts, sizes and content hashes.

    Raises :class:`UserError` that names the frames where the ground truth is not 4 times as large as the LR frame.
    """
    for side in ("gt", "lr"):
        shutil.rmtree(out / side, ignore_errors=True)
    described: dict[str, Any] = {}
    for sequence in sequences:
        for side, files in (("gt", sequence.gt), ("lr", sequence.lr)):
            folder = out / side / sequence.name
            folder.mkdir(parents=True)
            for file in files:
                (folder / file.name).symlink_to(os.path.relpath(file, folder))
        height, width = _fitting_size(sequence)
        described[sequence.name] = {
            "frames": len(sequence.gt),
            "lr_height": height,
            "lr_width": width,
            "sha256": content_hash([*sequence.gt, *sequence.lr]),
        }
    write_text(out / "manifest.json", json.dumps({"sequences": described}, indent=1, sort_keys=True) + "\n")


def _fitting_size(sequence: Sequence) -> tuple[int, int]:
    """Height and width of the sequence's LR frames, by its first."""
    height, width = read_frame(sequence.lr[0]).shape[:2]
    sharp = read_frame(sequence.gt[0]).shape[:2]
    if sharp != (SCALE * height, SCALE * width):
        raise UserError(
            f"frame {sequence.gt[0]} has {sharp[1]}x{sharp[0]} pixels and {sequence.lr[0]} {width}x{height}: the first "
            f"must be exactly {SCALE} times as large"
        )
    return height, width


def content_hash(files: Many[Path]) -> str:
    """sha256 over the contents of ``files``, in order."""
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()
