"""Other upscalers to compare with: a sequence of LR frames in, x4 frames out.

A module of this package registers a function that loads a baseline and returns an :data:`Upscaler`; its name is then a
``kind`` of a study's methods. Modules import heavy packages inside that function only.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from stablevsr.runtime.devices import device_of
from stablevsr.runtime.errors import UserError, install_command, near_miss


@dataclass(frozen=True)
class Upscaler:
    """A loaded baseline. Called with a sequence's LR frames, uint8 (N, h, w, 3): float32 (N, 4h, 4w, 3) in [0, 1]."""

    #: From the same LR frames: the x4 frames one after another, each float32 (4h, 4w, 3) in [0, 1].
    stream: Callable[[NDArray[np.uint8]], Iterator[NDArray[np.float32]]]

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """All x4 frames at once. Raises :class:`UserError` for frames of another type or shape."""
        frames = np.ascontiguousarray(frames)  # torch takes no negative strides, as of BGR turned into RGB
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or frames.size == 0:
            raise UserError(f"frames to upscale are uint8 (N, h, w, 3), and these are {frames.dtype} {frames.shape}")
        made = self.stream(frames)
        first = next(made)
        result = np.empty((len(frames), *first.shape), np.float32)  # a list of frames and then an array: twice as much
        for index, frame in enumerate(chain([first], made)):
            result[index] = frame
        return result


#: From a torch device and a precision (fp32, bf16, fp16), which baselines that do not run on torch ignore.
Loader = Callable[[str, str], Upscaler]


@dataclass(frozen=True)
class Registration:
    """A registered baseline."""

    load: Loader
    packages: tuple[str, ...]  #: import names of the packages that it needs, from the extra ``study``
    weights: tuple[str, ...]  #: names of its weights in the registry of downloads
    recurrent: bool = False  #: whether it looks at more than one frame; those baselines also run in bf16 and fp16

    @property
    def on_torch(self) -> bool:
        """Whether it runs on torch, and so on a GPU: those that have their weights from the registry of downloads."""
        return bool(self.weights)

    @property
    def module(self) -> str:
        """The module with its code, for fingerprints."""
        return self.load.__module__

    def missing(self) -> list[str]:
        """Its packages that are not installed."""
        return [package for package in self.packages if importlib.util.find_spec(package) is None]


BASELINES: dict[str, Registration] = {}


def register(
    name: str, packages: tuple[str, ...] = (), weights: tuple[str, ...] = (), recurrent: bool = False
) -> Callable[[Loader], Loader]:
    """Register a loading function as the baseline ``name``."""

    def add(load: Loader) -> Loader:
        BASELINES[name] = Registration(load, packages, weights, recurrent)
        return load

    return add


def load(name: str, device: str | None = None, precision: str = "fp32") -> Upscaler:
    """The baseline ``name``, ready to use; weights that are missing are fetched.

    Args:
        name: of :data:`BASELINES`.
        device: for baselines that run on torch; None takes CUDA where there is one.
        precision: fp32, or for recurrent networks bf16 or fp16.

    Raises:
        UserError: an unknown name, a missing package, weights that cannot be fetched, a precision that it lacks; the
            upscaler raises it where a frame is not finite.
    """
    if name not in BASELINES:
        raise UserError(f"there is no baseline {name}{near_miss(name, BASELINES)}: known are {', '.join(BASELINES)}")
    if missing := BASELINES[name].missing():
        raise UserError(f"{name} needs the package {missing[0]}: {install_command('study')}")
    if precision != "fp32" and not BASELINES[name].recurrent:
        raise UserError(f"{name} computes in one precision only: leave out {precision}")
    upscaler = BASELINES[name].load(device or device_of("auto"), precision)

    def finite(frames: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        for index, frame in enumerate(upscaler.stream(frames)):
            if not np.isfinite(frame).all():
                fix = "fetch its weights again" if precision == "fp32" else "take precision fp32"
                raise UserError(f"{name} gave values that are not finite numbers at frame {index}: {fix}")
            yield frame

    return Upscaler(finite)


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
