"""The sequences of a shard, in batches of one shape.

Batches are formed from the whole shard, finished sequences included: a resumed run gives the same bytes as an
uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stablevsr.data.frames import Frame, list_frames, read_frame
from stablevsr.runtime.errors import UserError

Batch = list[tuple[str, list[Path]]]  #: sequences by name, with their LR frame files
Progress = Callable[[int], Any]  #: called with the number of frame-steps (or frames) just done
#: Upscales a batch, from its LR frames by sequence: yields, per sequence, the frames uint8 (4h, 4w, 3).
BatchUpscaler = Callable[[Batch, list[list[Frame]]], Iterator[list[Frame]]]


@dataclass(frozen=True)
class Shard:
    """A part of a dataset: every ``count``-th sequence from ``index`` on."""

    dataset: str
    lr: Path  #: folder of sequences
    index: int = 0
    count: int = 1

    def batches(self, size: int) -> list[Batch]:
        """Groups of up to ``size`` neighbouring sequences with the same number and size of frames, sorted by name.

        Raises :class:`UserError` if the dataset is not prepared or a sequence is empty.
        """
        if not self.lr.is_dir():
            raise UserError(f"there is no {self.lr}: run stablevsr data prepare --dataset {self.dataset} first")
        groups: list[Batch] = []
        shape_before: tuple[int, ...] | None = None
        for folder in sorted(p for p in self.lr.iterdir() if p.is_dir())[self.index :: self.count]:
            files = list_frames(folder)
            if not files:
                raise UserError(f"sequence {folder.name} holds no frame")
            shape = (len(files), *read_frame(files[0]).shape)
            if groups and shape == shape_before and len(groups[-1]) < size:
                groups[-1].append((folder.name, files))
            else:
                groups.append([(folder.name, files)])
            shape_before = shape
        return groups


def read(batch: Batch) -> list[list[Frame]]:
    """The LR frames of a batch, by sequence."""
    return [[read_frame(file) for file in files] for _, files in batch]
