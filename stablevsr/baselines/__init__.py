"""Other upscalers to compare with: a sequence of LR frames in, x4 frames out.

A module of this package registers a function that loads a baseline and returns an :data:`Upscaler`; its name is then a
``kind`` of a study's methods. Modules import heavy packages inside that function only.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stablevsr.runtime.devices import device_of
from stablevsr.runtime.errors import UserError, install_command, near_miss

#: LR frames uint8 (N, h, w, 3) of one sequence -> float32 (N, 4h, 4w, 3) in [0, 1].
Upscaler = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Loader = Callable[[str], Upscaler]  #: from a torch device, which baselines that do not run on torch ignore


@dataclass(frozen=True)
class Registration:
    """A registered baseline."""

    load: Loader
    packages: tuple[str, ...]  #: import names of the packages that it needs, from the extra ``study``
    weights: tuple[str, ...]  #: names of its weights in the registry of downloads

    @property
    def module(self) -> str:
        """The module with its code, for fingerprints."""
        return self.load.__module__

    def missing(self) -> list[str]:
        """Its packages that are not installed."""
        return [package for package in self.packages if importlib.util.find_spec(package) is None]


BASELINES: dict[str, Registration] = {}


def register(name: str, packages: tuple[str, ...] = (), weights: tuple[str, ...] = ()) -> Callable[[Loader], Loader]:
    """Register a loading function as the baseline ``name``."""

    def add(load: Loader) -> Loader:
        BASELINES[name] = Registration(load, packages, weights)
        return load

    return add


def load(name: str, device: str | None = None) -> Upscaler:
    """The baseline ``name``, ready to use; weights that are missing are fetched.

    ``device`` is for baselines that run on torch; None takes CUDA where there is one. Raises :class:`UserError` for an
    unknown name, a missing package, or weights that cannot be fetched; the upscaler raises it where a frame is not
    finite.
    """
    if name not in BASELINES:
        raise UserError(f"there is no baseline {name}{near_miss(name, BASELINES)}: known are {', '.join(BASELINES)}")
    if missing := BASELINES[name].missing():
        raise UserError(f"{name} needs the package {missing[0]}: {install_command('study')}")
    upscale = BASELINES[name].load(device or device_of("auto"))

    def checked(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        result = upscale(frames)
        if not (finite := np.isfinite(result).all(axis=(1, 2, 3))).all():
            frame = int(finite.argmin())
            raise UserError(f"{name} gave values that are not finite numbers at frame {frame}: fetch its weights again")
        return result

    return checked


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
