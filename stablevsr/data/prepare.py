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

from stablevsr.data.degradation import degrade
from stablevsr.data.frames import read_frame, write_frame, write_text
from stablevsr.data.layouts import Sequence, load_sequences, vimeo_lr_folder
from stablevsr.errors import UserError, near_miss
from stablevsr.locks import sole_writer

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
    """Fill in missing LR frames by MATLAB-compatible bicubic, cached in ``root/BIx4`` (the field's name)."""
    if all(sequence.lr for sequence in sequences):
        return list(sequences)  # and nothing is written: the folder may be shared and read-only
    complete = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, sole_writer(vimeo_lr_folder(root)):
        for sequence in sequences:
            if sequence.lr:
                complete.append(sequence)
                continue
            lr = tuple(_low_resolution_path(path, root) for path in sequence.gt)
            list(pool.map(_degrade_file, sequence.gt, lr))
            complete.append(Sequence(sequence.name, sequence.gt, lr))
    return complete


def _low_resolution_path(gt: Path, root: Path) -> Path:
    for base in (root / "sequences", root / "gt"):
        if gt.is_relative_to(base):
            return vimeo_lr_folder(root) / gt.relative_to(base)
    raise UserError(f"cannot tell where the low-resolution copy of {gt} belongs")


def _degrade_file(gt: Path, lr: Path) -> None:
    if not lr.exists():
        write_frame(lr, degrade(read_frame(gt)))


def link_dataset(sequences: Many[Sequence], out: Path) -> None:
    """Link ``sequences`` into ``out/{gt,lr}`` and write ``out/manifest.json`` with counts, sizes and content hashes."""
    for side in ("gt", "lr"):
        shutil.rmtree(out / side, ignore_errors=True)
    described: dict[str, Any] = {}
    for sequence in sequences:
        for side, files in (("gt", sequence.gt), ("lr", sequence.lr)):
            folder = out / side / sequence.name
            folder.mkdir(parents=True)
            for file in files:
                (folder / file.name).symlink_to(os.path.relpath(file, folder))
        height, width = read_frame(sequence.lr[0]).shape[:2]
        described[sequence.name] = {
            "frames": len(sequence.gt),
            "lr_height": height,
            "lr_width": width,
            "sha256": content_hash([*sequence.gt, *sequence.lr]),
        }
    write_text(out / "manifest.json", json.dumps({"sequences": described}, indent=1, sort_keys=True) + "\n")


def content_hash(files: Many[Path]) -> str:
    """sha256 over the contents of ``files``, in order."""
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()
