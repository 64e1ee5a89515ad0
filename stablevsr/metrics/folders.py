"""Pairs the frames of two (or more) ``DIR/sequence/frame.png`` trees and checks every file.

Folders that hold the frames of one sequence themselves (``DIR/frame.png``) are paired as well, if all are of that form.
Everything that can be wrong with the input is found here, before any metric runs: missing or surplus sequences and
frames, sizes, grey or 16-bit frames, damaged files.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from stablevsr.data.frames import list_frames, natural_key, read_frame
from stablevsr.runtime.errors import UserError, near_miss

Size = tuple[int, int]  #: width, height
FORM = "give DIR/sequence/frame.png, or DIR/frame.png of one sequence"
READERS = 8
NAMED = 4  # names given in a message before it says how many more there are


@dataclass(frozen=True)
class FramePaths:
    """One sequence: frame stems in order, the ground-truth file of each and, per method, the output file of each."""

    name: str
    stems: tuple[str, ...]
    gt: tuple[Path, ...]
    outputs: tuple[tuple[Path, ...], ...]
    size: Size


def pair_folders(
    gt: Path, outputs: Sequence[Path], *, sequences: Sequence[str] | None = None, centre_only: bool = False
) -> list[FramePaths]:
    """Pair the frames of ``gt`` with those of every folder in ``outputs``, by sequence name and file stem.

    ``sequences`` restricts all sides to these; otherwise both sides must hold the same ones. ``centre_only`` keeps the
    centre frame of each ground-truth sequence (frame 4 of 7), the usual protocol of Vimeo-90K-T, and then asks the
    outputs for that frame only. A folder of loose frames is a sequence named like the ground truth's folder. Raises
    :class:`UserError`, one sentence with names and counts.
    """
    found_in = {folder: _sequence_folders(folder) for folder in (gt, *outputs)}
    sides = [_chosen(folder, _as_one_side(folder, gt, found_in), sequences) for folder in (gt, *outputs)]
    names = list(sides[0])
    for folder, side in zip(outputs, sides[1:], strict=True):
        _require_same(folder, gt, list(side), names, "sequences")
    truth, *found = [{name: _frames(side[name]) for name in names} for side in sides]
    if centre_only:
        truth = {name: _centre(frames) for name, frames in truth.items()}
    expected = [f"{name}/{stem}" for name in names for stem in truth[name]]
    for folder, tree in zip(outputs, found, strict=True):
        present = [f"{name}/{stem}" for name in names for stem in tree[name]]
        _require_same(folder, gt, set(expected).intersection(present) if centre_only else present, expected, "frames")
    files = {name: [tuple(tree[name][stem] for stem in truth[name]) for tree in (truth, *found)] for name in names}
    sizes = _inspect([file for sides in files.values() for side in sides for file in side])
    _require_sizes(files, sizes)
    return [
        FramePaths(name, tuple(truth[name]), gt_files, tuple(others), sizes[gt_files[0]])
        for name, (gt_files, *others) in files.items()
    ]


Tree = dict[str, dict[str, Path]]  #: sequence -> stem -> file


def _centre(frames: dict[str, Path]) -> dict[str, Path]:
    stem = list(frames)[len(frames) // 2]
    return {stem: frames[stem]}


def sequence_names(folder: Path) -> list[str]:
    """The sequences in ``folder``, in natural order; loose frames are one sequence, named like the folder."""
    return list(_sequence_folders(folder)) or [folder.resolve().name]


def _sequence_folders(folder: Path) -> dict[str, Path]:
    """The folders of sequences by name; none where the frames of one sequence lie loose."""
    if not folder.is_dir():
        raise UserError(f"the folder {folder} does not exist: {FORM}")
    folders = [p for p in sorted(folder.iterdir(), key=natural_key) if p.is_dir() and not p.name.startswith(".")]
    if not folders and not list_frames(folder):
        raise UserError(f"the folder {folder} is empty: {FORM}")
    return {path.name: path for path in folders}


def _as_one_side(folder: Path, gt: Path, found_in: dict[Path, dict[str, Path]]) -> dict[str, Path]:
    """The sequences of ``folder``, whose form must be that of ``gt``; loose frames are a sequence named like ``gt``."""
    if bool(found_in[folder]) != bool(found_in[gt]):
        form, other = ("sequence folders" if found_in[side] else "loose frames" for side in (folder, gt))
        raise UserError(
            f"{folder} holds {form} but {gt} holds {other}: give both as DIR/sequence/frame.png, or both as "
            "DIR/frame.png of one sequence"
        )
    return found_in[folder] or {gt.resolve().name: folder}


def _chosen(folder: Path, found: dict[str, Path], sequences: Sequence[str] | None) -> dict[str, Path]:
    """Only ``sequences``, all of which must be there; None = all."""
    for name in sequences or ():
        if name not in found:
            raise UserError(f"{folder} has no sequence '{name}'{near_miss(name, found)}: it holds {_list(list(found))}")
    return {name: path for name, path in found.items() if sequences is None or name in set(sequences)}


def _frames(folder: Path) -> dict[str, Path]:
    files = list_frames(folder)
    if not files:
        raise UserError(f"the sequence folder {folder} holds no frames: remove it or add its frames")
    frames: dict[str, Path] = {}
    for file in files:
        if file.stem in frames:
            raise UserError(f"{folder} holds both {frames[file.stem].name} and {file.name}: remove one of them")
        frames[file.stem] = file
    return frames


def _require_same(folder: Path, gt: Path, present: Collection[str], expected: Sequence[str], what: str) -> None:
    absent = [name for name in expected if name not in set(present)]
    surplus = [name for name in present if name not in set(expected)]
    if not absent and not surplus:
        return
    parts = []
    if absent:
        parts.append(f"{folder} lacks {len(absent)} of the {len(expected)} {what} of {gt} ({_list(absent)})")
    if surplus:
        parts.append(f"{folder} holds {len(surplus)} {what} that {gt} lacks ({_list(surplus)})")
    raise UserError(" and ".join(parts) + f": both sides must hold the same {what}")


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _inspect(files: Sequence[Path]) -> dict[Path, Size]:
    """Sizes of all files; raises one UserError for the first unusable file, with the count of all."""
    with ThreadPoolExecutor(READERS) as pool:
        results = dict(zip(files, pool.map(_inspect_one, files), strict=True))
    faults = [result for result in results.values() if isinstance(result, str)]
    if faults:
        others = f" ({len(faults)} of {len(files)} frames are unusable)" if len(faults) > 1 else ""
        raise UserError(faults[0] + others)
    return {file: result for file, result in results.items() if not isinstance(result, str)}


def _inspect_one(file: Path) -> Size | str:
    """The size of one frame, or what is wrong with it."""
    try:
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            mode, size, layout = image.mode, image.size, str(image.tile)
            if image.format == "PNG":
                image.verify()  # the checksum of every chunk, without decompressing
            else:
                image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, struct.error) as error:
        return f"frame {file} cannot be read ({error}): the file is damaged, replace it"
    # Pillow opens 16-bit RGB as "RGB" and drops the low byte; only the raw layout tells.
    if ";16" in layout or mode.startswith(("I", "F")):
        return f"frame {file} has more than 8 bits a channel: metrics are defined on 8-bit RGB, convert it"
    if mode in ("L", "LA", "1"):
        return f"frame {file} is grey: metrics are defined on 8-bit RGB, convert it"
    if mode != "RGB":
        try:
            read_frame(file)
        except UserError as error:
            return str(error)
    return size


def _require_sizes(files: dict[str, list[tuple[Path, ...]]], sizes: dict[Path, Size]) -> None:
    """``files``: of each sequence, those of the ground truth and of each method."""
    wrong = []
    for sides in files.values():
        first = sizes[sides[0][0]]
        wrong += [(file, first) for side in sides for file in side if sizes[file] != first]
    if wrong:
        shown = [
            f"{file} is {sizes[file][0]}x{sizes[file][1]} instead of {size[0]}x{size[1]}" for file, size in wrong[:2]
        ]
        more = f" and {len(wrong) - 2} more" if len(wrong) > 2 else ""
        raise UserError(
            f"{len(wrong)} frames differ in size from their ground-truth sequence ({', '.join(shown)}{more}): metrics "
            "compare frames of equal size"
        )
