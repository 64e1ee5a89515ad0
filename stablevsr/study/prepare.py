"""Preparing a dataset: making the LR frames that it lacks, and linking it into the plain layout with a manifest.

The plain layout is ``gt/sequence/frame.png``, ``lr/sequence/frame.png``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stablevsr.data.degradation import SCALE, degrade
from stablevsr.data.frames import read_frame, write_frame
from stablevsr.data.layouts import Clip, load_sequences
from stablevsr.runtime.errors import DamagedError, UserError, near_miss
from stablevsr.runtime.hashing import content_hash
from stablevsr.runtime.locks import single_writer
from stablevsr.runtime.records import read_record, write_record

if TYPE_CHECKING:
    from stablevsr.study.files import Dataset


def open_dataset(spec: Dataset, made: Path) -> list[Clip]:
    """The sequences that a study's dataset entry names; LR frames that the set lacks are made below ``made``.

    Raises :class:`UserError` for unknown sequences, and for frames that are missing.
    """
    sequences = load_sequences(spec.layout, spec.root, spec.split)
    if spec.sequences is not None:
        known = {s.name: s for s in sequences}
        for name in spec.sequences:
            if name not in known:
                raise UserError(f"dataset {spec.root} has no sequence {name}{near_miss(name, known)}")
        sequences = [known[name] for name in spec.sequences]
    stop = None if spec.frames is None else spec.frames * spec.every
    chosen = slice(None, stop, spec.every)
    return make_low_resolution([replace(s, gt=s.gt[chosen], lr=s.lr[chosen]) for s in sequences], made)


#: What file systems round times down to, in nanoseconds: not at all, as some network file systems to microseconds or
#: seconds, as FAT to every second one.
TIME_UNITS = (1, 1_000, 1_000_000_000, 2_000_000_000)


def make_low_resolution(sequences: Sequence[Clip], made: Path) -> list[Clip]:
    """Fill in missing LR frames by MATLAB-compatible bicubic, as ``made/<sequence>/<frame>.png``.

    What an interrupted call made is kept. Raises :class:`UserError` for a frame that cannot be read or whose sides are
    no multiples of 4.
    """
    todo: dict[Path, Path] = {}  # ground truth by LR frame
    filled = []
    for s in sequences:
        lr = s.lr or tuple(made / s.name / f"{frame.stem}.png" for frame in s.gt)
        todo |= {} if s.lr else dict(zip(lr, s.gt, strict=True))
        filled.append(replace(s, lr=lr))
    if not all(_is_current(lr, gt) for lr, gt in todo.items()):
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool, single_writer(made):
            for _ in pool.map(_degrade_file, todo.values(), todo):
                pass  # raises the error of the first frame that failed, and starts no more
    return filled


def _is_current(lr: Path, gt: Path) -> bool:
    """Whether ``lr`` was made from this ground truth: it has its time, which may be older than the former one's."""
    if not lr.exists():
        return False
    made, source = lr.stat().st_mtime_ns, gt.stat().st_mtime_ns
    return any(made == source // unit * unit for unit in TIME_UNITS)


def _degrade_file(gt: Path, lr: Path) -> None:
    if _is_current(lr, gt):
        return
    frame = read_frame(gt)
    height, width = frame.shape[:2]
    if height % SCALE or width % SCALE:
        raise UserError(
            f"frame {gt} has {width}x{height} pixels, no multiples of {SCALE}, so no x{SCALE} frame fits it: crop the "
            f"sequence to {width // SCALE * SCALE}x{height // SCALE * SCALE}"
        )
    time = gt.stat().st_mtime_ns
    write_frame(lr, degrade(frame))
    os.utime(lr, ns=(time, time))


def link_dataset(sequences: Sequence[Clip], out: Path) -> None:
    """Link ``sequences`` into ``out/{gt,lr}`` and write ``out/manifest.json``: scenes, frame counts and content hashes.

    Where links and manifest are current nothing is written, so jobs that use them stay finished. Otherwise there is no
    manifest until the links are complete. Raises :class:`UserError` that names the frames where the ground truth is not
    4 times as large as the LR frame.
    """
    described = {sequence.name: _describe(sequence) for sequence in sequences}
    links = {side: _links(sequences, side, out / side) for side in ("gt", "lr")}
    manifest = out / "manifest.json"
    if _known(manifest) == described and all(_found(out / side) == links[side] for side in links):
        return
    manifest.unlink(missing_ok=True)
    for side, targets in links.items():
        part = out / f".{side}.part"  # as deep as the folder itself: the links are relative
        shutil.rmtree(part, ignore_errors=True)
        for name, target in targets.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).symlink_to(target)
        shutil.rmtree(out / side, ignore_errors=True)
        part.replace(out / side)
    write_record(manifest, {"sequences": described})


def _describe(sequence: Clip) -> dict[str, Any]:
    check_sizes(sequence)
    return {
        "scene": sequence.scene or sequence.name,
        "frames": len(sequence.gt),
        "sha256": content_hash([*sequence.gt, *sequence.lr]),
    }


def _links(sequences: Sequence[Clip], side: str, folder: Path) -> dict[str, str]:
    """The links that belong into ``folder``: their targets by ``sequence/frame.png``."""
    return {
        f"{sequence.name}/{file.name}": os.path.relpath(file, folder / sequence.name)
        for sequence in sequences
        for file in (sequence.gt if side == "gt" else sequence.lr)
    }


def _found(folder: Path) -> dict[str, str]:
    """The links that are in ``folder``, as :func:`_links` gives them."""
    links = (path for path in folder.glob("*/*") if path.is_symlink())
    return {path.relative_to(folder).as_posix(): str(path.readlink()) for path in links}


def _known(manifest: Path) -> Any:
    """The sequences that a manifest describes; None if it is damaged or not there."""
    try:
        return read_record(manifest).get("sequences")
    except DamagedError:
        return None


def check_sizes(sequence: Clip) -> None:
    """Raise :class:`UserError` unless the first frame is 4 times as large as its LR frame."""
    height, width = read_frame(sequence.lr[0]).shape[:2]
    sharp = read_frame(sequence.gt[0]).shape[:2]
    if sharp != (SCALE * height, SCALE * width):
        raise UserError(
            f"frame {sequence.gt[0]} has {sharp[1]}x{sharp[0]} pixels and {sequence.lr[0]} {width}x{height}: the first "
            f"must be exactly {SCALE} times as large"
        )
