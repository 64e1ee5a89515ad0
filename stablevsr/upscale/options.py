"""The options of ``stablevsr upscale``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stablevsr.method.settings import SMALLEST_TILE, Flow, Grid, Precision, Preset
from stablevsr.runtime.errors import UserError
from stablevsr.upscale import windows

LARGEST_SCALE = 16  #: of two passes of x4
BASELINE_WINDOW = 100  #: frames; as many as a clip of REDS has, on which baselines are tested


@dataclass(frozen=True)
class UpscaleOptions:
    """The options of ``stablevsr upscale``."""

    model: str = "claudiom4sir/StableVSR"  #: hub id, folder, ``tiny``, or the name of a baseline
    revision: str | None = None  #: commit, branch or tag of a hub model; None: that of the registry
    tcm: Path | None = None  #: folder of another TCM
    adapt: int = 0  #: steps of training the TCM on each clip first (:mod:`stablevsr.training.adaptation`)
    scale: float = 4.0  #: of the sides; below 4 the x4 result is down-scaled, above it there is a second pass
    preset: Preset = "exact"  #: gives the settings whose value is None
    steps: int | None = None
    strategy: str = "bidirectional"  #: a name of :data:`stablevsr.method.strategies.STRATEGIES`
    flow: Flow | None = None  #: None: the model's default
    warp: Grid | None = None  #: None: the model's default
    precision: Precision | None = None
    compile: bool = False  #: compile the networks' blocks first
    seed: int = 0
    #: Frames taken together; 0 = the whole clip; None = the whole clip, or for a baseline :data:`BASELINE_WINDOW`.
    window: int | None = None
    tile: int | None = None  #: side of the decoder's tiles in LR pixels; None = whole frames while they fit
    device: str = "auto"  #: cpu, cuda, cuda:1, ...; auto = CUDA where there is one

    def check(self) -> None:
        """Raise :class:`UserError` for a value out of range."""
        if not 1 < self.scale <= LARGEST_SCALE:  # also false for nan
            raise UserError(f"--scale {self.scale:g} is out of range: above 1, at most {LARGEST_SCALE}")
        if self.adapt < 0:
            raise UserError(f"--adapt {self.adapt} is out of range: a number of steps, or 0 for no adaptation")
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise UserError(f"--steps {self.steps} is out of range: 1 to 1000")
        if self.window is not None and (self.window < 0 or 0 < self.window < windows.SMALLEST):
            raise UserError(f"--window {self.window} is too small: at least {windows.SMALLEST} frames, or 0 for all")
        if self.tile is not None and self.tile < SMALLEST_TILE:
            raise UserError(f"--tile {self.tile} is too small: at least {SMALLEST_TILE} LR pixels")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed} is out of range: 0 to 2^63 - 1")
