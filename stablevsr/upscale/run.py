"""``stablevsr upscale``: a video, a folder of frames or a folder of such folders in, the same x4 out.

All state is kept in ``.OUT.partial`` beside the output, in a folder named by a digest of the input, the settings, the
model and the code: the same command resumes where it was stopped, and another command never uses its state. The output
appears complete at the end, and the work folder is removed.

Noise: a single clip is sampled with ``torch.Generator().manual_seed(seed)`` and so equals ``StableVSRPipeline`` called
with that generator; in a folder of sequences each is seeded from (seed, its name), whatever other sequences there are.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stablevsr.data.frames import list_frames
from stablevsr.method.model_folder import check_model, check_weights, default_guidance, find_model
from stablevsr.method.settings import (
    SMALLEST_TILE,
    Flow,
    Grid,
    Guidance,
    Precision,
    Sampling,
)
from stablevsr.method.strategies import is_guided
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import write_text
from stablevsr.runtime.locks import single_writer
from stablevsr.upscale import windows
from stablevsr.upscale.clips import Clip, Kind, check_free, check_places, kind_of, open_folder

if TYPE_CHECKING:
    import torch

    from stablevsr.upscale.clip_run import ClipRun
    from stablevsr.upscale.video import Timing, VideoInfo

FRAMES = "frames"  #: in the work folder, the finished frames
#: Bytes a LR pixel and frame that the rest of a run may need on disk: latents, and x4 frames that do not compress.
BYTES_A_PIXEL = 3 * 16 + 16 * 3
MARK = "delivered"  #: in the work folder, once its result has been moved to the output


@dataclass(frozen=True)
class UpscaleOptions:
    """What decides the frames; see ``stablevsr upscale --help``."""

    model: str = "claudiom4sir/StableVSR"  #: hub id, folder, or ``tiny``
    tcm: Path | None = None  #: folder of another TCM
    steps: int = 50
    strategy: str = "bidirectional"  #: a name of :data:`stablevsr.method.strategies.STRATEGIES`
    flow: Flow | None = None  #: None: the model's default
    warp: Grid | None = None  #: None: the model's default
    precision: Precision = "fp32"
    seed: int = 0
    window: int = 0  #: frames sampled together; 0 = the whole clip
    tile: int | None = None  #: decode in tiles of so many LR pixels; None = whole frames while they fit
    device: str | None = None  #: None: CUDA where there is one

    def sampling(self) -> Sampling:
        """The sampling settings."""
        return Sampling(strategy=self.strategy, steps=self.steps, precision=self.precision)

    def guidance(self, folder: Path) -> Guidance:
        """The guidance settings: those chosen here, and the defaults of the model in ``folder`` for the others."""
        defaults = default_guidance(folder)
        return Guidance(warp=self.warp or defaults.warp, flow=self.flow or defaults.flow)

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


@dataclass(frozen=True)
class Request:
    """One call whose arguments were checked: the input, the output, and the work folder."""

    source: Path
    out: Path
    kind: Kind
    options: UpscaleOptions
    clips: list[Clip]  #: empty for a video, whose frames are extracted into the work folder first
    video: VideoInfo | None

    @property
    def work(self) -> Path:
        """The work folder beside the output."""
        return self.out.with_name(f".{self.out.name}.partial")


def upscale(source: Path, out: Path, options: UpscaleOptions) -> None:
    """Upscale ``source`` to ``out``, x4. A second call with the same arguments resumes the first.

    Raises:
        UserError: anything wrong with input, output, options or model folder (before a model is loaded); a video
            damaged further on; a full disk.
    """
    request = _open(source, out, options)
    model, device = _find_networks(options)
    key = _key(request, model, device)
    with _limits_as_user_errors(request), single_writer(request.work):
        if not _was_delivered(request, key):
            check_free(request.out, request.kind)
            _make(request, request.work / key, model, device)
            _deliver(request, key)
    print(f"{request.out}: done", file=sys.stderr)


def _open(source: Path, out: Path, options: UpscaleOptions) -> Request:
    """Check input and output."""
    options.check()
    kind = kind_of(source)
    check_places(source, out, kind)
    request = Request(source, out, kind, options, [], None)
    if not (request.work / MARK).exists():  # left where a run was killed between delivering its result and cleaning up
        check_free(out, kind)
    if kind != "video":
        return replace(request, clips=open_folder(source, kind))
    from stablevsr.upscale.video import probe, rehearse

    info = probe(source)
    rehearse(source, info, out)
    for note in info.notes:
        print(f"{source}: {note}", file=sys.stderr)
    return replace(request, video=info)


def _find_networks(options: UpscaleOptions) -> tuple[Path, str]:
    """The model folder, checked, and the device; nothing is loaded yet."""
    from stablevsr.data.downloads.weights import weight_file

    device = _device(options.device)
    guided = is_guided(options.strategy)
    folder = find_model(options.model)
    check_model(folder, without=() if guided and options.tcm is None else {"controlnet"})
    if options.tcm is not None:
        check_weights(options.tcm)
    if guided and options.guidance(folder).flow == "raft":
        weight_file("raft")
    return folder, device


def _device(wanted: str | None) -> str:
    import torch

    devices = torch.cuda.device_count()
    try:
        device = torch.device(wanted or ("cuda" if devices else "cpu"))
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {wanted} is neither cpu nor cuda (or cuda:1, ...)")
    if device.type == "cuda" and (device.index or 0) >= devices:
        raise UserError(f"--device {wanted}: torch sees {devices} CUDA devices here; --device cpu takes the processor")
    return str(device)


def _key(request: Request, model: Path, device: str) -> str:
    """A digest of everything that decides the frames: input, settings, model, code, device."""
    from stablevsr.runtime.hashing import content_hash
    from stablevsr.study.fingerprint import fingerprint

    source: Any = [(clip.name, [f.name for f in clip.files], content_hash(list(clip.files))) for clip in request.clips]
    if request.video is not None:
        with request.source.open("rb") as stream:
            source = hashlib.file_digest(stream, "sha256").hexdigest()
    options = request.options
    decisive = {
        "input": source,
        "settings": [
            options.sampling().model_dump(),
            options.guidance(model).model_dump(),
            options.seed,
            options.window,
            options.tile,
            device,
        ],
        "model": [_stamps(model), _stamps(options.tcm) if options.tcm else None],
        "code": fingerprint("stablevsr.upscale.clip_run", "stablevsr.upscale.video"),
    }
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of every file: gigabytes of weights are not read for a key."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in files]


def _make(request: Request, place: Path, model: Path, device: str) -> None:
    """Make the complete result in the folder ``place``."""
    clips = request.clips
    timings: list[Timing] = []
    if request.video is not None:
        clips, timings = _extracted(request, request.video, place)
    runs = [_clip_run(request, clip, place, model) for clip in clips]
    if not all(run.is_finished() for run in runs):
        _sample(request, runs, model, device)
    if request.video is not None:
        from stablevsr.upscale.video import encode

        print(f"{request.out}: encoding", file=sys.stderr)
        encode(request.source, request.video, runs[0].outputs, timings, _result(request, place))


def _extracted(request: Request, info: VideoInfo, place: Path) -> tuple[list[Clip], list[Timing]]:
    from stablevsr.upscale.video import extract

    try:
        timings = extract(request.source, info, place / "lr")
    except UserError:
        shutil.rmtree(request.work)  # a damaged video leaves nothing behind
        raise
    return [Clip("", tuple(list_frames(place / "lr")), info.height, info.width)], timings


def _clip_run(request: Request, clip: Clip, place: Path, model: Path) -> ClipRun:
    from stablevsr.upscale.clip_run import ClipRun

    frames = place / FRAMES / clip.name
    options = request.options
    work = place / "sampling" / (clip.name or "clip")
    return ClipRun(clip, work, frames, options.sampling(), options.guidance(model), options.window)


def _sample(request: Request, runs: list[ClipRun], model: Path, device: str) -> None:
    from tqdm import tqdm

    from stablevsr.method.pipeline import StableVSRPipeline, flow_by_name

    options = request.options
    guided = is_guided(options.strategy)
    pipe = StableVSRPipeline.from_pretrained(
        model,
        tcm=options.tcm,
        device=device,
        precision=options.precision,
        with_tcm=guided,
        tile=options.tile or "auto",
    )
    estimator = flow_by_name(options.guidance(model).flow if guided else "dis", device)
    reserve = sum(len(run.outputs) * run.clip.height * run.clip.width for run in runs) * BYTES_A_PIXEL
    total, done = sum(run.total for run in runs), sum(run.done() for run in runs)
    with tqdm(total=total, initial=done, unit="frame-step", desc=request.out.name, mininterval=1) as bar:
        for run in runs:
            if not run.is_finished():
                run.run(pipe.networks, estimator, _generator(options.seed, run.clip.name), reserve, bar.update)


def _generator(seed: int, name: str) -> torch.Generator:
    """The noise of one clip, on the CPU: of ``seed`` alone for a single clip, of (seed, name) for one of several."""
    import torch

    if name:
        seed = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(seed)


def _result(request: Request, place: Path) -> Path:
    return place / (FRAMES if request.video is None else f"result{request.out.suffix.lower()}")


def _deliver(request: Request, key: str) -> None:
    """Move the result to its place in one step, and clean up."""
    result = _result(request, request.work / key)
    for stray in result.rglob(".*.part"):  # half a frame of a killed run
        stray.unlink()
    write_text(request.work / MARK, key)
    result.replace(request.out)  # also where an empty folder stands
    shutil.rmtree(request.work, ignore_errors=True)


def _was_delivered(request: Request, key: str) -> bool:
    """Whether a killed run had delivered this very result; what a delivered run left is removed in any case."""
    mark = request.work / MARK
    if not mark.exists() or _result(request, request.work / mark.read_text()).exists():
        return False
    same = mark.read_text() == key and request.out.exists()
    shutil.rmtree(request.work)
    return same


@contextmanager
def _limits_as_user_errors(request: Request) -> Iterator[None]:
    """Turns a full disk, and a graphics card that is too small, into a :class:`UserError`."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the frames of {request.source} do not fit the memory of the graphics card: --precision fp16 needs half, "
            "--device cpu none"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(
            f"{error.strerror} while {request.out} was made: free some on its disk, and the same command goes on where "
            f"it stopped (its work is kept in {request.work})"
        ) from error
