"""Results that depend on the ground truth alone, kept on disk and shared by all methods of a study.

One small file for each consecutive pair of frames and each kind of result (a flow field, an LPIPS distance), named by a
digest of the two frames' pixels; the kind names the network, its weights and the versions that made it. Files appear
whole or not at all, so any number of processes can share a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stablevsr.runtime.io import atomic_file


class PairCache:
    """Tensors by (kind, pair of frames); without a folder it remembers nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def pairs(self, kind: str, keys: Sequence[str], compute: Callable[[], Tensor], device: torch.device) -> Tensor:
        """The results of all pairs, first axis = pair, from the folder if it holds them all, else from ``compute``."""
        found = self.peek(kind, keys, device)
        if found is not None:
            return found
        values = compute()
        if self.folder is not None:
            for key, value in zip(keys, values.cpu().numpy(), strict=True):
                with atomic_file(self._file(kind, key)) as stream:
                    np.save(stream, value)
        return values

    def peek(self, kind: str, keys: Sequence[str], device: torch.device) -> Tensor | None:
        """The stored results of all pairs, or None if one is absent."""
        if self.folder is None:
            return None
        arrays = [_load(self._file(kind, key)) for key in keys]
        present = [array for array in arrays if array is not None]
        return torch.from_numpy(np.stack(present)).to(device) if len(present) == len(keys) else None

    def _file(self, kind: str, key: str) -> Path:
        assert self.folder is not None
        return self.folder / kind / key[:2] / f"{key}.npy"


def _load(file: Path) -> np.ndarray | None:
    """A file that is absent or that a full disk cut short counts as not stored."""
    try:
        array: np.ndarray = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array
