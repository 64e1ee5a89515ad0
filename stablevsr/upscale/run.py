"""``stablevsr upscale``: a video, a folder of frames or a folder of such folders, upscaled x4.

All state is kept in ``.OUT.partial`` next to the output, in a folder named by a digest of the input, the settings, the
model and the code. The same command resumes where it was stopped; a different command does not use that state. The
output appears complete at the end, and the work folder is removed.

Noise is keyed by (seed, name of the sequence, frame, step); the name of a single clip is empty. So a sequence does not
depend on the others, nor a frame on where a run was resumed.
"""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stablevsr.data.downloads.download import FULL
from stablevsr.data.downloads.record import file_stamp
from stablevsr.data.downloads.weights import weight_file
from stablevsr.data.frames import list_frames
from stablevsr.method.model_folder import check_model, check_weights, default_guidance, find_model
from stablevsr.method.settings import SMALLEST_TILE, Flow, Grid, Precision, Sampling
from stablevsr.method.strategies import is_guided
from stablevsr.runtime.devices import device_of
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import content_hash, digest, file_hash
from stablevsr.runtime.io import sync_folder, write_text
from stablevsr.runtime.locks import single_writer
from stablevsr.study.fingerprint import fingerprint
from stablevsr.upscale import windows
from stablevsr.upscale.clips import Clip, check_free, check_places, kind_of, open_folder
from stablevsr.upscale.video import encode, extract, probe, rehearse

if TYPE_CHECKING:  # torch is imported only once the arguments are checked
    from stablevsr.upscale.clip_run import ClipRun

#: Bytes per LR pixel and frame that the rest of a run may need on disk: latents, and x4 frames that do not compress.
BYTES_A_PIXEL = 3 * 16 + 16 * 3


@dataclass(frozen=True)
class UpscaleOptions:
    """The options of ``stablevsr upscale``."""

    model: str = "claudiom4sir/StableVSR"  #: hub id, folder, or ``tiny``
    revision: str | None = None  #: commit, branch or tag of a hub model; None: that of the registry
    tcm: Path | None = None  #: folder of another TCM
    steps: int = 50
    strategy: str = "bidirectional"  #: a name of :data:`stablevsr.method.strategies.STRATEGIES`
    flow: Flow | None = None  #: None: the model's default
    warp: Grid | None = None  #: None: the model's default
    precision: Precision = "fp32"
    seed: int = 0
    window: int = 0  #: frames sampled together; 0 = the whole clip
    tile: int | None = None  #: side of the decoder's tiles in LR pixels; None = whole frames while they fit
    device: str = "auto"  #: cpu, cuda, cuda:1, ...; auto = CUDA where there is one

    def check(self) -> None:
        """Raise :class:`UserError` for a value out of range."""
        if not 1 <= self.steps <= 1000:
            raise UserError(f"--steps {self.steps} is out of range: 1 to 1000")
        if self.window < 0 or 0 < self.window < windows.SMALLEST:
            raise UserError(f"--window {self.window} is too small: at least {windows.SMALLEST} frames, or 0 for all")
        if self.tile is not None and self.tile < SMALLEST_TILE:
            raise UserError(f"--tile {self.tile} is too small: at least {SMALLEST_TILE} LR pixels")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed} is out of range: 0 to 2^63 - 1")


def upscale(source: Path, out: Path, options: UpscaleOptions) -> None:
    """Upscale ``source`` to ``out``, x4. A second call with the same arguments resumes the first.

    Raises:
        UserError: the input, the output, an option or the model folder is wrong (before a model is loaded); a video is
            damaged after its first frame; the disk is full or the GPU's memory too small.
    """
    options.check()
    run = _UpscaleRun(source, out, options)
    import torch

    try:
        with single_writer(run.work):
            if not run.was_delivered():
                check_free(out, run.kind)
                run.make()
                run.deliver()
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the frames of {source} do not fit into the GPU's memory: --precision fp16 needs half of it, "
            "--device cpu none"
        ) from error
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(
            f"{error.strerror} while {out} was made: free some space on its disk, then the same command goes on "
            f"where it stopped (its work is kept in {run.work})"
        ) from error
    print(f"{out}: done", file=sys.stderr)


class _UpscaleRun:
    """One call with checked arguments: nothing is loaded or written before :meth:`make`."""

    def __init__(self, source: Path, out: Path, options: UpscaleOptions) -> None:
        self.source, self.out, self.options = source, out, options
        self.kind = kind_of(source)
        check_places(source, out, self.kind)
        self.work = out.with_name(f".{out.name}.partial")
        self.mark = self.work / "delivered"  # written just before the result is moved to the output
        if not self.mark.exists():  # else a run was killed after that, and ``out`` is its result
            check_free(out, self.kind)
        self.video = probe(source) if self.kind == "video" else None
        if self.video is None:
            self.clips = open_folder(source, self.kind)
        else:
            rehearse(source, self.video, out)
            for note in self.video.notes:
                print(f"{source}: {note}", file=sys.stderr)
        self.device = device_of(options.device)
        self.model, self.is_guided = find_model(options.model, options.revision), is_guided(options.strategy)
        check_model(self.model, without=() if self.is_guided and options.tcm is None else {"controlnet"})
        if options.tcm is not None:
            check_weights(options.tcm)
        self.sampling = Sampling(strategy=options.strategy, steps=options.steps, precision=options.precision)
        self.guidance = default_guidance(self.model, options.flow, options.warp)
        if self.is_guided and self.guidance.flow == "raft":
            weight_file("raft")
        self.key = self._key()

    def _key(self) -> str:
        """A digest of everything that the frames depend on: input, settings, model, code, device."""
        if self.video is None:
            content: list[Any] = [[c.name, [file.name for file in c.files], content_hash(c.files)] for c in self.clips]
        else:
            content = [file_hash(self.source)]
        settings = [self.sampling.model_dump(), self.guidance.model_dump()]
        others = [self.options.seed, self.options.window, self.options.tile, self.device]
        folders = [folder for folder in (self.model, self.options.tcm) if folder is not None]
        # hashing gigabytes of weights would take too long
        weights = [[str(file.resolve()), file_stamp(file)] for folder in folders for file in sorted(folder.rglob("*"))]
        code = fingerprint("stablevsr.upscale.clip_run", "stablevsr.upscale.video")
        return digest([content, settings, others, weights, code])

    def _result(self, key: str) -> Path:
        """The finished result in the work folder."""
        return self.work / key / ("frames" if self.video is None else f"result{self.out.suffix.lower()}")

    def make(self) -> None:
        """Make the complete result in the work folder."""
        from stablevsr.upscale.clip_run import ClipRun

        place = self.work / self.key
        if self.video is not None:
            try:
                timings = extract(self.source, self.video, place / "lr")
            except UserError:
                shutil.rmtree(self.work)  # a damaged video leaves no files behind
                raise
            files = tuple(list_frames(place / "lr"))
            self.clips = [Clip("", files, self.video.height, self.video.width)]
        runs = [
            ClipRun(
                clip, place / "sampling" / (clip.name or "clip"), place / "frames" / clip.name,
                self.sampling, self.guidance, self.options.window,
            )
            for clip in self.clips
        ]  # fmt: skip
        for run in runs:
            run.remove_damaged()
        if not all(run.is_finished() for run in runs):
            self._sample(runs)
        if self.video is not None:
            print(f"{self.out}: encoding", file=sys.stderr)
            encode(self.source, self.video, runs[0].outputs, timings, self._result(self.key))

    def _sample(self, runs: list[ClipRun]) -> None:
        from tqdm import tqdm

        from stablevsr.method.flow import flow_by_name
        from stablevsr.method.pipeline import StableVSRPipeline

        options = self.options
        parts: dict[str, Any] = {"tcm": options.tcm} if self.is_guided else {"controlnet": None}
        pipe = StableVSRPipeline.from_pretrained(
            self.model, device=self.device, precision=options.precision, tile=options.tile or "auto", **parts
        )
        estimator = flow_by_name(self.guidance.flow if self.is_guided else "dis", self.device)
        reserve = sum(len(run.outputs) * run.clip.height * run.clip.width for run in runs) * BYTES_A_PIXEL
        total, done = sum(run.total for run in runs), sum(run.done() for run in runs)
        with tqdm(total=total, initial=done, unit="frame-step", desc=self.out.name, mininterval=1) as bar:
            for run in (run for run in runs if not run.is_finished()):
                run.run(pipe.networks, estimator, f"{options.seed}/{run.clip.name}", reserve, bar.update)

    def deliver(self) -> None:
        """Move the result to the output in one step, and remove the work folder."""
        result = self._result(self.key)
        for stray in result.rglob(".*.part"):  # half a frame of a killed run
            stray.unlink()
        write_text(self.mark, self.key)
        result.replace(self.out)  # also replaces an empty folder
        sync_folder(self.out.parent)
        shutil.rmtree(self.work, ignore_errors=True)

    def was_delivered(self) -> bool:
        """Whether a killed run had delivered this result. Removes the work folder of any run that had delivered."""
        if not self.mark.exists():
            return False
        key = self.mark.read_text(encoding="utf-8", errors="replace")
        if not re.fullmatch("[0-9a-f]{16}", key):
            print(f"{self.mark} is damaged: removed, the work goes on", file=sys.stderr)
            self.mark.unlink()
            return False
        if self._result(key).exists():
            return False
        same = key == self.key and self.out.exists()
        shutil.rmtree(self.work)
        return same
