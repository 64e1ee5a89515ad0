"""What makes the frames of ``stablevsr upscale``: the sampler with a model, or a baseline by its name.

An engine checks its options when it is made, before anything is loaded.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stablevsr.baselines import BASELINES
from stablevsr.data.downloads.fetch import fetched_weights
from stablevsr.data.downloads.record import file_stamp
from stablevsr.data.downloads.weights import published_hash
from stablevsr.method.model_folder import check_model, check_weights, default_guidance, find_model, tcm_folder
from stablevsr.method.settings import Sampling
from stablevsr.method.strategies import is_guided
from stablevsr.runtime.errors import UserError, near_miss
from stablevsr.runtime.parsing import parse
from stablevsr.runtime.torch_settings import configure_torch
from stablevsr.study.fingerprint import fingerprint
from stablevsr.upscale.clips import SizedClip, remove_damaged
from stablevsr.upscale.options import BASELINE_WINDOW, UpscaleOptions

if TYPE_CHECKING:  # torch is imported only once the arguments are checked
    from stablevsr.method.networks import ModelParts
    from stablevsr.upscale.baseline_run import BaselineRun
    from stablevsr.upscale.clip_run import ClipRun

ADAPTATION = "stablevsr.training.adaptation"  #: the module whose code adapted TCMs depend on


class Engine(Protocol):
    """What :class:`.run._UpscaleRun` needs of the sampler or a baseline."""

    def identity(self) -> list[Any]:
        """Everything that the frames depend on besides the input."""

    def make(
        self, clips: list[SizedClip], place: Path, title: str, first_clips: list[SizedClip] | None = None
    ) -> list[list[Path]]:
        """Make the x4 frames that are not there below ``place/frames``; returns their files, by clip.

        ``first_clips``: in a second pass, the clips of these names that the first one began with. Noise is then other
        than there, and TCMs are adapted to these.
        """


def engine_of(options: UpscaleOptions, device: str, adapted: Path) -> Engine:
    """The engine for ``options.model``, which keeps adapted TCMs below ``adapted``.

    Raises :class:`UserError` for wrong options or an unknown model.
    """
    if options.model in BASELINES:
        return _Baseline(options, device)
    hint = near_miss(options.model, BASELINES)
    if hint and "/" not in options.model and not Path(options.model).exists():
        raise UserError(f"there is no model or baseline {options.model}{hint}")
    return _Sampler(options, device, adapted)


class _Sampler:
    def __init__(self, options: UpscaleOptions, device: str, adapted: Path) -> None:
        self.options, self.device, self.adapted = options, device, adapted
        self.model, self.is_guided = find_model(options.model, options.revision), is_guided(options.strategy)
        self.tcm = tcm_folder(options.tcm) if options.tcm is not None else None
        check_model(self.model, without=() if self.is_guided and self.tcm is None else {"controlnet"})
        if self.tcm is not None:
            check_weights(self.tcm)
        for name in ("adapt", "tcm", "flow", "warp"):
            if getattr(options, name) and not self.is_guided:
                raise UserError(
                    f"--{name} has no effect on --strategy {options.strategy}, which runs no TCM: leave it out"
                )
        given = {"preset": options.preset, "strategy": options.strategy, "compile": options.compile}
        given |= {key: value for key in ("steps", "precision") if (value := getattr(options, key)) is not None}
        self.sampling = parse(Sampling, given, "upscale")
        if options.compile:
            from stablevsr.method.compiled import check_compiler

            check_compiler()
        self.guidance = default_guidance(self.model, options.flow, options.warp)
        if self.is_guided and self.guidance.flow == "raft":
            fetched_weights("raft")

    def identity(self) -> list[Any]:
        settings = [self.sampling.model_dump(), self.guidance.model_dump()]
        options = self.options
        others = [options.seed, options.window or 0, options.tile, options.adapt, self.device]
        folders = [folder for folder in (self.model, self.tcm) if folder is not None]
        # hashing gigabytes of weights would take too long
        weights = [[str(file.resolve()), file_stamp(file)] for folder in folders for file in sorted(folder.rglob("*"))]
        code = ["stablevsr.upscale.clip_run", "stablevsr.upscale.video", *([ADAPTATION] if options.adapt else [])]
        return [settings, others, weights, fingerprint(*code)]

    def make(
        self, clips: list[SizedClip], place: Path, title: str, first_clips: list[SizedClip] | None = None
    ) -> list[list[Path]]:
        from stablevsr.upscale.clip_run import ClipRun

        runs = [
            ClipRun(
                clip, place / "sampling" / (clip.name or "clip"), place / "frames" / clip.name,
                self.sampling, self.guidance, self.options.window or 0,
            )
            for clip in clips
        ]  # fmt: skip
        for run in runs:
            remove_damaged(run.outputs)
        pairs = zip(first_clips or clips, runs, strict=True)
        unfinished = [(self._tcm(clip), run) for clip, run in pairs if not run.is_finished()]
        if unfinished:
            self._sample(runs, unfinished, title, "/second" if first_clips else "")
        return [run.outputs for run in runs]

    def _tcm(self, clip: SizedClip) -> Path | None:
        """The folder of the TCM for ``clip``, which is adapted unless it is there; None for the model's own."""
        if not self.options.adapt:
            return self.tcm
        from stablevsr.training.adaptation import adapt_tcm

        configure_torch()
        return adapt_tcm(
            clip.files, self.model, self.options.adapt, self.adapted / fingerprint(ADAPTATION),
            tcm=self.tcm, guidance=self.guidance, precision=self.sampling.precision, device=self.device,
        )  # fmt: skip

    def _sample(
        self, runs: list[ClipRun], unfinished: list[tuple[Path | None, ClipRun]], title: str, suffix: str
    ) -> None:
        """Sample what is not finished, each clip with its TCM; ``suffix`` is the end of the noise's keys."""
        from tqdm import tqdm

        from stablevsr.method.flow import flow_by_name

        configure_torch()
        name = self.guidance.flow if self.is_guided else "dis"
        estimator = flow_by_name(name, self.device, self.guidance.raft_norm)
        total, done = sum(run.total for run in runs), sum(run.done() for run in runs)
        with tqdm(total=total, initial=done, unit="frame-step", desc=title, mininterval=1) as bar:
            for tcm, group in groupby(unfinished, key=itemgetter(0)):
                networks = self._networks(tcm)
                for _, run in group:
                    others = sum(other.unwritten() for other in runs if other is not run)
                    run.run(networks, estimator, f"{self.options.seed}/{run.clip.name}{suffix}", others, bar.update)
                del networks  # before those of the next TCM are loaded

    def _networks(self, tcm: Path | None) -> ModelParts:
        from stablevsr.method.pipeline import StableVSRPipeline

        options = self.options
        parts: dict[str, Any] = {"tcm": tcm} if self.is_guided else {"controlnet": None}
        pipe = StableVSRPipeline.from_pretrained(
            self.model, device=self.device, preset=options.preset, precision=self.sampling.precision,
            tile=options.tile or "auto", compile=self.sampling.compile, **parts,
        )  # fmt: skip
        if self.sampling.guidance_decoder == "small" and self.is_guided and pipe.guidance_decoder is None:
            print(f"{options.model} has no small decoder: the VAE decodes the guidance", file=sys.stderr)
        return pipe.networks


class _Baseline:
    USED = ("model", "scale", "precision", "window", "device")  #: the options that mean something here

    def __init__(self, options: UpscaleOptions, device: str) -> None:
        self.options, self.device, self.entry = options, device, BASELINES[options.model]
        used = self.USED if self.entry.recurrent else ("model", "scale", "device")
        for field in fields(options):
            if field.name not in used and getattr(options, field.name) != field.default:
                raise UserError(f"--{field.name} has no effect on {options.model}: leave it out")
        whole = BASELINE_WINDOW if options.window is None else options.window
        self.window = whole if self.entry.recurrent else 1

    def identity(self) -> list[Any]:
        settings = [self.options.model, self.options.precision or "fp32", self.window, self.device]
        weights = [published_hash(name) for name in self.entry.weights]
        code = fingerprint("stablevsr.upscale.baseline_run", "stablevsr.upscale.video", self.entry.module)
        return [settings, weights, code]

    def make(
        self, clips: list[SizedClip], place: Path, title: str, first_clips: list[SizedClip] | None = None
    ) -> list[list[Path]]:
        from stablevsr.upscale.baseline_run import BaselineRun

        runs = [
            BaselineRun(clip, place / "overlaps" / (clip.name or "clip"), place / "frames" / clip.name, self.window)
            for clip in clips
        ]
        for run in runs:
            remove_damaged([*run.outputs, *run.work.rglob("*.png")])
        if not all(run.is_finished() for run in runs):
            self._upscale(runs, title)
        return [run.outputs for run in runs]

    def _upscale(self, runs: list[BaselineRun], title: str) -> None:
        from tqdm import tqdm

        from stablevsr import baselines

        configure_torch()
        upscaler = baselines.load(self.options.model, self.device, self.options.precision or "fp32")
        longest = max(len(window) for run in runs for window in run.windows)
        if any(len(run.windows) > 1 for run in runs) and self.entry.recurrent:
            print(f"{self.options.model} gets at most {longest} frames at once (--window)", file=sys.stderr)
        total, done = sum(run.total for run in runs), sum(run.done() for run in runs)
        with tqdm(total=total, initial=done, unit="frame", desc=title, mininterval=1) as bar:
            for run in (run for run in runs if not run.is_finished()):
                run.run(upscaler, bar.update)
