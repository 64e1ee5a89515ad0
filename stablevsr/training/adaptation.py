"""Zero-shot adaptation: the TCM trained for a few hundred steps on one clip alone.

The clip's own LR frames are the targets and their MATLAB-compatible bicubic LR/4 the inputs; UNet and VAE stay as they
are. The training is that of :mod:`.tasks.tcm` with the loop of :mod:`.loop`, and resumes from its sealed states. Torch
is imported only once there is something to train.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stablevsr.data.degradation import SCALE, degrade
from stablevsr.data.downloads.record import file_stamp
from stablevsr.data.frames import is_whole, read_frame, write_frame
from stablevsr.data.layouts import Clip
from stablevsr.method.model_folder import check_model, check_weights, default_guidance, find_model
from stablevsr.method.settings import SMALLEST_FRAME, Guidance, Precision, Training
from stablevsr.runtime.devices import device_of
from stablevsr.runtime.errors import DamagedError, UserError
from stablevsr.runtime.hashing import content_hash, digest, tree_hash
from stablevsr.runtime.locks import single_writer
from stablevsr.runtime.records import read_record, write_record

if TYPE_CHECKING:
    from stablevsr.training.tasks.tcm import TCMTask

SMALLEST_SIDE = SCALE * SMALLEST_FRAME  #: LR pixels, so that LR/4 is no smaller than the networks take
LARGEST_CROP = 256  #: LR pixels; as in the published training
SAVE_EVERY = 50  #: steps that a killed run loses at most


def adapt_tcm(
    files: Sequence[Path],
    model: str | Path,
    steps: int,
    folder: Path,
    *,
    tcm: Path | None = None,
    guidance: Guidance | None = None,
    precision: Precision = "fp32",
    device: str = "auto",
) -> Path:
    """Adapt a TCM to one clip; returns the folder of the adapted one, for ``from_pretrained(..., tcm=...)``.

    A second call with the same arguments returns what the first one made; one that was killed resumes.

    Args:
        files: the clip's LR frames in order, all of one size, with names that differ.
        model: hub id, folder or ``tiny``.
        steps: of the training.
        folder: for the results, each in a folder named by a digest of the frames and the arguments.
        tcm: folder of the TCM to start from; None = the model's.
        guidance: flow estimator and warp grid; None = the model's defaults.
        precision: of the computation and the frozen networks; what is trained stays in float32.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        UserError: the frames are too few, too small or unequal, or the model is wrong.
    """
    where = files[0].parent if files else "the clip"
    if steps < 1:
        raise UserError(f"{steps} steps of adaptation are too few: at least 1")
    root, device = find_model(model), device_of(device)
    start = tcm or root / "controlnet"
    check_model(root, without={"controlnet"})
    check_weights(start)
    height, width = read_frame(files[0]).shape[:2] if files else (0, 0)
    check_clip(len(files), height, width, where)
    settings = adaptation_settings(height, width, steps, precision, guidance or default_guidance(root))
    weights = [file for part in (root / "unet", root / "vae", start) for file in sorted(part.rglob("*"))]
    identity = {
        "clip": content_hash(files),
        "weights": digest([[str(file.resolve()), file_stamp(file)] for file in weights]),
        "device": device,
        **settings.model_dump(mode="json"),
    }
    place = folder / digest(identity)
    with single_writer(place):
        if not _is_finished(place):
            print(f"adapting the TCM to the {len(files)} frames in {where}", file=sys.stderr)
            clip = low_resolution(files, place / "lr")
            _train(_task(clip, root, start, settings, device), place, identity, device)
    return place / "tcm"


def check_clip(frames: int, height: int, width: int, where: object) -> None:
    """Raise :class:`UserError` for a clip that has no neighbours, or whose LR/4 is too small for the networks."""
    if frames < 2:
        raise UserError(f"{where} has fewer than 2 frames, so no TCM can be adapted: upscale it without adaptation")
    if min(height, width) < SMALLEST_SIDE:
        raise UserError(
            f"{where} is {width}x{height}, and a TCM can be adapted to frames of at least {SMALLEST_SIDE} pixels a "
            "side: upscale it without adaptation"
        )


def adaptation_settings(height: int, width: int, steps: int, precision: Precision, guidance: Guidance) -> Training:
    """The settings of an adaptation to frames of ``height`` and ``width``: the published ones, with a small batch.

    The crop is the largest square of multiples of :data:`SMALLEST_SIDE` that fits, up to the published one. Float16
    becomes bfloat16, which needs no loss scale.
    """
    crop = min(LARGEST_CROP, min(height, width) // SMALLEST_SIDE * SMALLEST_SIDE)
    kept: Precision = "bf16" if precision == "fp16" else precision
    return Training(steps=steps, batch=4, crop=crop, start="model", guidance=guidance, precision=kept)


def low_resolution(files: Sequence[Path], folder: Path) -> Clip:
    """The clip as a training sequence: its frames as ground truth, and their LR/4 in ``folder`` (made unless there).

    Sides that are no multiples of 4 lose up to 3 pixels on the right and at the bottom. The ends are mirrored (1, 0, 1,
    ..., n-1, n-2), so that in windows of three each frame is once the centre, and two frames are enough.
    """
    low = [folder / f"{file.stem}.png" for file in files]
    if len(set(low)) < len(low):
        raise UserError(f"two frames in {files[0].parent} differ only in their ending: rename one")
    shape = read_frame(files[0]).shape
    for file, target in zip(files, low, strict=True):
        if not is_whole(target):
            frame = read_frame(file)
            if frame.shape != shape:
                raise UserError(f"{file} and {files[0].name} differ in size: give frames of one size")
            height, width = (side // SCALE * SCALE for side in shape[:2])
            write_frame(target, degrade(frame[:height, :width]))
    order = [1, *range(len(files)), len(files) - 2]
    return Clip(folder.name, tuple(files[i] for i in order), tuple(low[i] for i in order))


def _is_finished(place: Path) -> bool:
    """Whether the adapted TCM is there, as it was written."""
    try:
        return bool(read_record(place / "finished.json")["sha256"] == tree_hash(place / "tcm"))
    except DamagedError:
        return False


def _task(clip: Clip, model: Path, start: Path, settings: Training, device: str) -> TCMTask:
    import torch

    from stablevsr.method.flow import flow_by_name
    from stablevsr.method.loading import load_network
    from stablevsr.method.pipeline import load_networks
    from stablevsr.training.samples import WindowDataset
    from stablevsr.training.tasks.tcm import WINDOW, TCMTask

    guidance = settings.guidance or Guidance()
    networks = load_networks(model, device, settings.precision, with_tcm=False)
    module = load_network("controlnet", start, torch.float32).to(device).train().requires_grad_(True)
    estimator = flow_by_name(guidance.flow, device, guidance.raft_norm) if settings.needs_flow else None
    data = WindowDataset([clip], WINDOW, settings.crop, settings.seed)
    return TCMTask(module, networks, settings, guidance, estimator, data)


def _train(task: TCMTask, place: Path, identity: dict[str, Any], device: str) -> None:
    """Train or resume ``task``, and write its TCM into ``place/tcm``; what only the training needed is removed."""
    import torch

    from stablevsr.training.loop import accelerator_for, train
    from stablevsr.training.task import LoopSettings

    given = task.settings.model_dump(include=set(LoopSettings.model_fields))
    settings = LoopSettings(**given, workers=0, save_every=SAVE_EVERY, log_every=10)
    # accelerate takes the current GPU, whichever the device names
    with nullcontext() if device == "cpu" else torch.cuda.device(device):
        train(task, settings, place / "state", identity, accelerator_for(settings.precision, device))
    task.save(place / "tcm")
    write_record(place / "finished.json", {"sha256": tree_hash(place / "tcm")})
    for name in ("state", "lr"):
        shutil.rmtree(place / name)
