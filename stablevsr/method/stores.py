"""Stores for the tensors of sampling: a dictionary in memory, or a folder on disk with the same interface.

A folder holds one file per tensor, with a checksum and written atomically. Plain files are used because a full disk is
then an OSError that can be reported; with memory maps it would be a signal.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load, save
from torch import Tensor

from stablevsr.runtime.errors import DamagedError
from stablevsr.runtime.io import read_sealed, write_sealed


class Store(Protocol):
    """Tensors by name; a ``dict`` is one."""

    def __getitem__(self, name: str, /) -> Tensor: ...
    def __setitem__(self, name: str, value: Tensor, /) -> None: ...
    def __contains__(self, name: object, /) -> bool: ...


class MainMemory(dict[str, Tensor]):
    """Tensors by name in the main memory, wherever they come from; readers move them to their device."""

    def __setitem__(self, name: str, value: Tensor) -> None:
        super().__setitem__(name, value.cpu())


class FolderStore:
    """Tensors by name in files of ``folder``, read back bit for bit onto ``device``.

    Reading raises :class:`~stablevsr.runtime.errors.DamagedError` for a file that is missing or not as it was written.

    Args:
        folder: made when the first tensor is written.
        device: of the tensors that are read.
        reserve: bytes of the disk to leave free: a tensor that would leave less is not kept and must be computed
            again. None = everything is kept, and a full disk is an OSError.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu", reserve: int | None = None) -> None:
        self.folder, self._device, self._reserve = folder, device, reserve

    def __getitem__(self, name: str) -> Tensor:
        try:
            return load(read_sealed(self._file(name)))["value"].to(self._device)
        except FileNotFoundError as error:
            raise DamagedError(self._file(name)) from error

    def __setitem__(self, name: str, value: Tensor) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._reserve is not None and shutil.disk_usage(self.folder).free - value.nbytes < self._reserve:
            return
        # waiting for the disk would take longer than some frame-steps; the checksum tells what a power cut lost
        write_sealed(self._file(name), save({"value": value.detach().contiguous()}), durable=False)

    def __contains__(self, name: object) -> bool:
        return self._file(str(name)).exists()

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.tensor"


class State:
    """The progress of sampling some frames, and their latents, in a store.

    A frame's latents alternate between two entries, one read and one written by a step, so that an interrupted
    frame-step can be repeated.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def done(self) -> int:
        """How many frame-steps are finished."""
        return int(self._store["done"]) if "done" in self._store else 0

    def latent(self, step: int, frame: int) -> Tensor:
        """(S, 4, h, w): the input of ``step``; for ``step`` = the number of steps, the finished latent."""
        return self._store[f"latent{frame:08d}-{step % 2}"]

    def guide(self, frame: int) -> Tensor:
        """(S, 4, h, w): x̂0 (or x_t) of the latest visit of ``frame``, which guides its neighbours."""
        return self._store[f"guide{frame:08d}"]

    def start(self, frame: int, latent: Tensor) -> None:
        """Keep an initial latent."""
        self._store[f"latent{frame:08d}-0"] = latent

    def finish(self, step: int, frame: int, latent: Tensor, guide: Tensor, done: int) -> None:
        """Keep the results of a frame-step, then the number of finished frame-steps, ``done``."""
        self._store[f"latent{frame:08d}-{(step + 1) % 2}"] = latent
        self._store[f"guide{frame:08d}"] = guide
        self._store["done"] = torch.tensor(done)
