"""Pairs the frames of two or more ``DIR/sequence/frame.png`` trees and checks every file before any metric runs.

``DIR/frame.png`` of one sequence is accepted too, if all folders have that form. Errors name missing or surplus
sequences and frames, differing sizes, grey or 16-bit frames, and damaged files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stablevsr.data.degradation import SCALE
from stablevsr.data.frames import list_frames, list_sequences, open_image, to_rgb8
from stablevsr.runtime.errors import UserError, near_miss

Size = tuple[int, int]  #: height, width
Against = Literal["gt", "lr"]  #: what results are compared with: ground truth, or LR frames
Tree = dict[str, dict[str, Path]]  #: sequence -> stem -> file
FORM = "give DIR/sequence/frame.png, or DIR/frame.png of one sequence"
READERS = 8
#: Parts of PNG files that change how their pixels are read: orientation, transparency, animation.
SLOW = (b"eXIf", b"tiff:Orientation", b"tRNS", b"acTL")
SEPTUPLET = 7  #: frames of a sequence of Vimeo-90K, of which the centre one is usually scored
NAMED = 4  # names listed in a message; the others are counted


@dataclass(frozen=True)
class FramePaths:
    """One sequence: frame stems in order, the file of each in the reference and, per method, in its output."""

    name: str
    stems: tuple[str, ...]
    reference: tuple[Path, ...]  #: ground truth, or LR frames
    outputs: tuple[tuple[Path, ...], ...]
    size: Size  #: of the outputs
    centre: str | None = None  #: stem of the centre frame, if the sequence is a septuplet


def pair_folders(
    reference: Path,
    outputs: Sequence[Path],
    *,
    sequences: Sequence[str] | None = None,
    centre_only: bool = False,
    against: Against = "gt",
) -> list[FramePaths]:
    """Pair the frames of ``reference`` with those of every folder in ``outputs``, by sequence name and file stem.

    Args:
        sequences: use only these; by default both sides must hold the same sequences. A folder of loose frames is one
            sequence, named like the reference's folder.
        centre_only: keep the centre frame of each sequence of the reference (frame 4 of 7), the usual protocol of
            Vimeo-90K-T; the outputs then need that frame only.
        against: what ``reference`` holds; outputs are as large as ground truth, and 4 times as large as LR frames.

    Raises :class:`UserError`, one sentence with names and counts.
    """
    truth, *found = _trees(reference, outputs, sequences)
    centres = {name: list(frames)[SEPTUPLET // 2] for name, frames in truth.items() if len(frames) == SEPTUPLET}
    if centre_only:
        truth = {name: dict([list(frames.items())[len(frames) // 2]]) for name, frames in truth.items()}
    expected = _frame_names(truth, truth)
    for folder, tree in zip(outputs, found, strict=True):
        present = _frame_names(tree, truth)
        if centre_only:
            found_here = set(present)
            present = [name for name in expected if name in found_here]
        _require_same(folder, reference, present, expected, "frames")
    files = {name: [tuple(tree[name][stem] for stem in truth[name]) for tree in (truth, *found)] for name in truth}
    sizes = _inspect([file for sides in files.values() for side in sides for file in side])
    _require_sizes(files, sizes, against)
    return [
        FramePaths(name, tuple(truth[name]), own, tuple(others), sizes[others[0][0]], centres.get(name))
        for name, (own, *others) in files.items()
    ]


def sequence_names(folder: Path) -> list[str]:
    """The sequences in ``folder``, in natural order; loose frames are one sequence, named like the folder."""
    return list(_sequence_folders(folder)) or [folder.resolve().name]


def _trees(reference: Path, outputs: Sequence[Path], sequences: Sequence[str] | None) -> list[Tree]:
    """The frames of ``reference`` and of each output, which hold the same sequences; only ``sequences`` unless None."""
    folders = {folder: _sequence_folders(folder) for folder in (reference, *outputs)}
    for folder in outputs:
        if bool(folders[folder]) != bool(folders[reference]):
            form, other = ("sequence folders" if folders[side] else "loose frames" for side in (folder, reference))
            raise UserError(
                f"{folder} holds {form} but {reference} holds {other}: give both as DIR/sequence/frame.png, or both as "
                "DIR/frame.png of one sequence"
            )
    sides = []
    for folder in (reference, *outputs):
        side = folders[folder] or {reference.resolve().name: folder}
        for name in sequences or ():
            if name not in side:
                raise UserError(f"{folder} has no sequence '{name}'{near_miss(name, side)}: it holds {_list(side)}")
        sides.append({name: path for name, path in side.items() if sequences is None or name in sequences})
        _require_same(folder, reference, sides[-1], list(sides[0]), "sequences")
    return [{name: _frames(side[name]) for name in sides[0]} for side in sides]


def _sequence_folders(folder: Path) -> dict[str, Path]:
    """The folders of sequences by name; none if ``folder`` holds the frames of one sequence itself."""
    if not folder.is_dir():
        raise UserError(f"the folder {folder} does not exist: {FORM}")
    folders = list_sequences(folder)
    if not folders and not list_frames(folder):
        raise UserError(f"the folder {folder} is empty: {FORM}")
    return {path.name: path for path in folders}


def _frames(folder: Path) -> dict[str, Path]:
    frames: dict[str, Path] = {}
    for file in list_frames(folder):
        if file.stem in frames:
            raise UserError(f"{folder} holds both {frames[file.stem].name} and {file.name}: remove one of them")
        frames[file.stem] = file
    if not frames:
        raise UserError(f"the sequence folder {folder} holds no frames: remove it or add its frames")
    return frames


def _frame_names(tree: Tree, sequences: Iterable[str]) -> list[str]:
    return [f"{name}/{stem}" for name in sequences for stem in tree[name]]


def _require_same(
    folder: Path, reference: Path, present: Collection[str], expected: Collection[str], what: str
) -> None:
    parts, known, wanted = [], set(present), set(expected)
    if absent := [name for name in expected if name not in known]:
        parts.append(f"{folder} lacks {len(absent)} of the {len(expected)} {what} of {reference} ({_list(absent)})")
    if surplus := [name for name in present if name not in wanted]:
        parts.append(f"{folder} holds {len(surplus)} {what} that {reference} lacks ({_list(surplus)})")
    if parts:
        raise UserError(" and ".join(parts) + f": both sides must hold the same {what}")


def _list(names: Collection[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(list(names)[:NAMED]) + more


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
        with open_image(file) as image:
            # Pillow opens 16-bit RGB as "RGB" and drops the low byte; only the raw layout shows the depth.
            if ";16" in str(getattr(image, "tile", "")) or image.mode.startswith(("I", "F")):
                return f"frame {file} has more than 8 bits a channel: metrics are defined on 8-bit RGB, convert it"
            if image.mode in ("L", "LA", "1"):
                return f"frame {file} is grey: metrics are defined on 8-bit RGB, convert it"
            content = file.read_bytes()
            if (image.format, image.mode) != ("PNG", "RGB") or any(name in content for name in SLOW):
                height, width, _ = to_rgb8(image, f"frame {file}").shape
                return height, width
            image.verify()  # the checksum of every chunk, without decompressing
            return image.height, image.width
    except UserError as error:
        return str(error)


def _require_sizes(files: dict[str, list[tuple[Path, ...]]], sizes: dict[Path, Size], against: Against) -> None:
    """``files``: for each sequence, those of the reference and of each method."""
    factor, wanted = (SCALE, f"{SCALE} times as large as") if against == "lr" else (1, "as large as")
    uneven, wrong = [], []
    for reference, *outputs in files.values():
        height, width = size = sizes[reference[0]]
        uneven += [_not_of(size, file, sizes) for file in reference if sizes[file] != size]
        size = (factor * height, factor * width)
        wrong += [_not_of(size, file, sizes) for side in outputs for file in side if sizes[file] != size]
    for faults, rule in (
        (uneven, "the frames of a sequence must be of one size"),
        (wrong, f"outputs must be {wanted} their {'LR frames' if against == 'lr' else 'ground truth'}"),
    ):
        if faults:
            more = f" and {len(faults) - 2} more" if len(faults) > 2 else ""
            raise UserError(f"frames have the wrong size ({', '.join(faults[:2])}{more}): {rule}")


def _not_of(size: Size, file: Path, sizes: dict[Path, Size]) -> str:
    (height, width), (expected_height, expected_width) = sizes[file], size
    return f"{file} is {width}x{height} instead of {expected_width}x{expected_height}"
