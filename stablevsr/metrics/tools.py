"""What the metrics of one run share: the device, networks, weight files, and the cache of ground-truth results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch

from stablevsr.data.downloads import weights
from stablevsr.metrics.cache import PairCache

Built = TypeVar("Built")
FindWeights = Callable[[str], Path]  #: from a name in the registry of downloads to the file


class Tools:
    """Handed to each metric once, before the first frame.

    Args:
        chosen: names of all metrics of the run.
        device: where frames and networks are.
        cache: folder of ground-truth results, shared by methods and processes; None keeps nothing.
        find: the file of a name of weights; by default the verified one, or :class:`UserError`.
    """

    def __init__(
        self,
        chosen: Iterable[str],
        device: torch.device,
        cache: Path | None = None,
        find: FindWeights = weights.weight_file,
    ) -> None:
        self.chosen, self.device, self.cache, self.find = frozenset(chosen), device, PairCache(cache), find
        self._built: dict[Callable[[Tools], Any], Any] = {}

    def once(self, build: Callable[[Tools], Built]) -> Built:
        """``build(self)``, made by the first metric that asks and shared by the others."""
        if build not in self._built:
            self._built[build] = build(self)
        return self._built[build]

    def cache_kind(self, what: str, weight: str) -> str:
        """The name under which results of a network are cached; devices and versions differ by rounding."""
        return f"{what}-{weights.published_hash(weight)[:8]}-{self.device.type}-torch{torch.__version__}"
