"""Features of a clip's frames: on the device while there is room, then in a temporary file.

A recurrent network that reads a clip in both directions keeps features of every frame (BasicVSR++: 59 MB a frame of
320x180 in float32). With the file, memory does not grow with the clip's length; the operating system keeps in its cache
what fits there.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Hashable
from typing import IO, NamedTuple

import torch
from torch import Tensor

from stablevsr.runtime.errors import UserError

ON_CPU = 64 * 2**20  #: bytes in memory on a CPU, where reading a file is little beside the computation


def room(device: torch.device) -> int:
    """The bytes of features that may stay on ``device``: half of a GPU's free memory."""
    if device.type != "cuda":
        return ON_CPU
    free, _ = torch.cuda.mem_get_info(device)
    return (free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)) // 2


class _Place(NamedTuple):
    """Where a tensor lies in the file, and what it was."""

    offset: int
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


class FeatureStore:
    """Tensors by key, read back bit for bit onto the device that they came from.

    Args:
        limit: bytes to keep on the device. Further tensors go to a nameless file in the folder for temporary files
            (``TMPDIR``), which vanishes with the store.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._near: dict[Hashable, Tensor] = {}
        self._far: dict[Hashable, _Place] = {}
        self._file: IO[bytes] | None = None

    def __contains__(self, key: Hashable) -> bool:
        return key in self._near or key in self._far

    def __setitem__(self, key: Hashable, value: Tensor) -> None:
        """Keep a tensor under a new key. Raises :class:`UserError` if the disk is full."""
        if self._held + value.nbytes <= self._limit:
            self._near[key] = value
            self._held += value.nbytes
            return
        try:
            self._far[key] = _Place(self._write(value), value.shape, value.dtype, value.device)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f"the features of a clip of this length do not fit into {tempfile.gettempdir()}: let the environment "
                "variable TMPDIR name a folder with more space"
            ) from error

    def __getitem__(self, key: Hashable) -> Tensor:
        if key in self._near:
            return self._near[key]
        place = self._far[key]
        assert self._file is not None
        self._file.seek(place.offset)
        data = bytearray(self._file.read(place.shape.numel() * place.dtype.itemsize))
        return torch.frombuffer(data, dtype=place.dtype).view(place.shape).to(place.device)

    def drop(self, key: Hashable) -> None:
        """Forget a tensor; the room that it took on the device is free again."""
        if key in self._near:
            self._held -= self._near.pop(key).nbytes
        self._far.pop(key, None)

    def _write(self, value: Tensor) -> int:
        """Append to the file; returns the offset."""
        self._file = self._file or tempfile.TemporaryFile(prefix="stablevsr-features-")  # noqa: SIM115 (lives with the store)
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(value.contiguous().cpu().flatten().view(torch.uint8).numpy().data)
        self._file.flush()
        return offset
