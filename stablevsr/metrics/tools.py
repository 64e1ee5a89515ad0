"""What the metrics of one run share: the device, networks, weight files, and a disk cache of ground-truth results."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from stablevsr.data.downloads import weights
from stablevsr.runtime.errors import DamagedError
from stablevsr.runtime.io import read_sealed, write_sealed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Built = TypeVar("Built")
FindWeights = Callable[[str], Path]  #: from a name in the registry of downloads to the file


class Tools:
    """Passed to each metric once, before the first frame.

    Args:
        device: where frames and networks are.
        cache: folder of ground-truth results, shared by methods and safe between processes; None keeps nothing.
        find: from the name of weights to their file; the default verifies it and raises
            :class:`~stablevsr.runtime.errors.UserError` if it is missing or damaged.
    """

    def __init__(
        self, device: torch.device | str, cache: Path | None = None, find: FindWeights = weights.weight_file
    ) -> None:
        self._device, self.cache, self.find = device, cache, find
        self._built: dict[Callable[[Tools], Any], Any] = {}

    @property
    def device(self) -> torch.device:
        """Where frames and networks are."""
        import torch

        return torch.device(self._device)

    def once(self, build: Callable[[Tools], Built]) -> Built:
        """``build(self)``, computed for the first metric that asks and shared by the others."""
        if build not in self._built:
            self._built[build] = build(self)
        return self._built[build]

    def cached(self, kind: str, keys: Sequence[str], compute: Callable[[], Tensor]) -> Tensor:
        """``compute()``, one result for each pair of frames along the first axis, or the same from the cache.

        ``kind`` names the network, its weights and versions; ``keys`` are :attr:`Chunk.pair_keys`, one file each.
        """
        if self.cache is None:
            return compute()
        import torch

        files = [self.cache / kind / key[:2] / f"{key}.array" for key in keys]
        try:
            stored = [np.load(io.BytesIO(read_sealed(file)), allow_pickle=False) for file in files]
            return torch.from_numpy(np.stack(stored)).to(self.device)
        except FileNotFoundError:
            values = compute()
        except DamagedError as error:
            print(f"{error}: computing it again", file=sys.stderr)
            values = compute()
        for file, value in zip(files, values.cpu().numpy(), strict=True):
            content = io.BytesIO()
            np.save(content, value)
            write_sealed(file, content.getvalue(), durable=False)
        return values

    def cache_kind(self, what: str, weight: str) -> str:
        """A kind of result for :meth:`cached` of a network; devices and versions of torch differ by rounding."""
        import torch

        return f"{what}-{weights.published_hash(weight)[:8]}-{self.device.type}-torch{torch.__version__}"
