"""The on-disk layouts of REDS, Vimeo-90K and plain folders, read as sequences of ground-truth and LR frames.

The readers open no image, but check names and counts, so that a wrong folder is reported before anything runs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stablevsr.data.frames import list_frames, list_sequences
from stablevsr.runtime.errors import UserError

Layout = Literal["reds", "vimeo90k", "plain"]
Split = Literal["train", "train_regrouped", "val", "test"]

REDS4 = ("000", "011", "015", "020")  #: the four clips of REDS's training set on which methods are tested


@dataclass(frozen=True)
class Clip:
    """One clip: its frame files in order. ``lr`` is empty if the low-resolution frames do not exist yet.

    ``scene`` names the camera shot: sequences of one scene are no independent samples.
    """

    name: str
    gt: tuple[Path, ...]
    lr: tuple[Path, ...]
    scene: str = ""  #: empty: a scene of its own, with the sequence's name

    def __post_init__(self) -> None:
        if self.gt and self.lr and [p.stem for p in self.gt] != [p.stem for p in self.lr]:
            paired = {p.stem for p in self.gt} & {p.stem for p in self.lr}
            single = next(p for p in (*self.gt, *self.lr) if p.stem not in paired)
            raise UserError(
                f"sequence {self.name} has {len(self.gt)} sharp and {len(self.lr)} low-resolution frames, and {single} "
                f"has no partner of the same name: compare {self.gt[0].parent} with {self.lr[0].parent}"
            )


def load_sequences(layout: Layout, root: Path, split: Split) -> list[Clip]:
    """The sequences of one split, sorted by name. Raises :class:`UserError` for a missing or empty folder."""
    reader = {"reds": _reds, "vimeo90k": _vimeo90k, "plain": _plain}[layout]
    sequences = reader(root, split)
    if not sequences:
        raise UserError(f"no sequence of the {layout} layout, split {split}, under {root}: is it the right folder?")
    return sequences


def _reds_folder(root: Path, outer: str, name: str, row: str) -> Path:
    """The folder ``name`` below ``root``, or below ``root/outer`` as in the archives; the error names ``row``."""
    for candidate in (root / name, root / outer / name):
        if candidate.is_dir():
            return candidate
    raise UserError(f"folder {root / name} is missing: put the set there (the published one: `stablevsr fetch {row}`)")


def _frames(folder: Path) -> tuple[Path, ...]:
    frames = tuple(list_frames(folder))
    if not frames:
        raise UserError(f"folder {folder} holds no frame")
    names = Counter(frame.stem for frame in frames)
    if double := [frame for frame in frames if names[frame.stem] > 1]:
        raise UserError(f"{double[0]} and {double[1].name} are both frame {double[0].stem}: remove one of them")
    return frames


def _clips(sharp: Path, low: Path, names: list[str], rename: int = 0) -> list[Clip]:
    sequences = []
    for name in names:
        for folder in (sharp / name, low / name):
            if not folder.is_dir():
                raise UserError(f"clip folder {folder} is missing: fetch or unpack the dataset again")
        shown = f"{int(name) + rename:03d}" if rename else name
        sequences.append(Clip(shown, _numbered(sharp / name), _numbered(low / name)))
    return sequences


def _numbered(folder: Path) -> tuple[Path, ...]:
    """The frames of a REDS clip, numbered from 0; a gap is an error: training windows would skip frames."""
    frames = _frames(folder)
    for number, frame in enumerate(frames):
        if frame.stem != f"{number:08d}":
            raise UserError(
                f"frame {folder / f'{number:08d}.png'} is missing ({frame.name} comes next): fetch or unpack "
                "the dataset again"
            )
    return frames


def _reds(root: Path, split: Split) -> list[Clip]:
    """REDS as distributed: ``train_sharp/000/00000000.png`` and ``train_sharp_bicubic/X4/000/...``.

    ``train`` is the published split (all training clips but REDS4: 236 of 240), ``train_regrouped`` adds the 30
    validation clips as 240..269 (EDVR's regrouping, 266 clips), ``val`` is those 30, ``test`` is REDS4.
    """
    if split == "val":
        return _reds_validation(root)
    rows = "reds4" if split == "test" else "reds_train_sharp reds_train_sharp_bicubic"
    sharp = _reds_folder(root, "train", "train_sharp", rows)
    low = _reds_folder(root, "train", "train_sharp_bicubic/X4", rows)
    if split == "test":
        return _clips(sharp, low, list(REDS4))
    names = sorted(p.name for p in list_sequences(sharp) if p.name not in REDS4)
    clips = _clips(sharp, low, names)
    return clips + _reds_validation(root, rename=240) if split == "train_regrouped" else clips


def _reds_validation(root: Path, rename: int = 0) -> list[Clip]:
    sharp = _reds_folder(root, "val", "val_sharp", "reds_val_sharp")
    low = _reds_folder(root, "val", "val_sharp_bicubic/X4", "reds_val_sharp_bicubic")
    names = sorted(p.name for p in list_sequences(sharp))
    if strange := [name for name in names if not name.isdecimal()]:
        raise UserError(f"{sharp / strange[0]} is no clip of REDS, whose folders are numbers: move it away")
    return _clips(sharp, low, names, rename)


def _vimeo90k(root: Path, split: Split) -> list[Clip]:
    """Vimeo-90K septuplets as distributed: ``sequences/00001/0266/im1.png``..``im7.png`` and the two lists.

    Sequences are named ``00001_0266``, because the evaluation expects ``root/sequence/frame``. The folder (``00001``)
    is taken as the scene, since its septuplets come from one video. LR frames, which are not distributed, are read
    from ``root/BIx4``.
    """
    if split == "val":
        raise UserError("Vimeo-90K has no validation split: name another set")
    listing = root / ("sep_testlist.txt" if split == "test" else "sep_trainlist.txt")
    if not listing.is_file():
        raise UserError(f"the list {listing} is missing: fetch or unpack Vimeo-90K again")
    sequences = []
    for name in sorted(listing.read_text(encoding="utf-8", errors="replace").split()):
        gt, lr = (tuple(root / part / name / f"im{i}.png" for i in range(1, 8)) for part in ("sequences", "BIx4"))
        missing = next((frame for frame in gt if not frame.exists()), None)
        if missing:
            raise UserError(f"frame {missing} is missing although {listing} names its septuplet: unpack the set again")
        lr = lr if all(p.exists() for p in lr) else ()
        sequences.append(Clip(name.replace("/", "_"), gt, lr, scene=name.partition("/")[0]))
    lacking = [clip for clip in sequences if not clip.lr]
    if 0 < len(lacking) < len(sequences):
        count = f"{len(lacking)} of {len(sequences)} septuplets, {lacking[0].name} among them"
        raise UserError(f"{root / 'BIx4'} lacks frames of {count}: complete it, or remove it to have LR frames made")
    return sequences


def _plain(root: Path, split: Split) -> list[Clip]:
    """Other data: ``root/gt/sequence/frame`` and ``root/lr/sequence/frame`` (Vid4, UDM10 and SPMCS fit it)."""
    sharp, low = root / "gt", root / "lr"
    if not sharp.is_dir():
        raise UserError(f"folder {sharp} is missing: the plain layout is root/gt/sequence/frame and root/lr/...")
    names = sorted(p.name for p in list_sequences(sharp))
    return [Clip(name, _frames(sharp / name), _frames(low / name) if (low / name).is_dir() else ()) for name in names]
