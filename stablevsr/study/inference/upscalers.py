"""The frames of a batch of sequences, from the sampler, a baseline, or a folder of external frames."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stablevsr import baselines
from stablevsr.data.degradation import SCALE
from stablevsr.data.frames import Frame, list_frames, read_frame
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.timing import StageTimer
from stablevsr.study.inference.shards import Batch

if TYPE_CHECKING:
    from stablevsr.study.methods import Method

Progress = Callable[[int], Any]  #: called with the number of frame-steps (or frames) just done
#: Upscales a batch, from its LR frames by sequence: yields, per sequence, the frames uint8 (4h, 4w, 3).
BatchUpscaler = Callable[[Batch, list[list[Frame]]], Iterator[list[Frame]]]


@dataclass(frozen=True)
class Networks:
    """Where a method's networks come from, and the device they run on."""

    model: str  #: for :func:`stablevsr.method.model_folder.find_model`; empty for methods without networks
    device: str
    tcm: Path | None = None  #: None = the model's own
    decoder: Path | None = None  #: of the guidance; None = the VAE


def batch_upscaler(
    method: Method, dataset: str, seed: int, networks: Networks, progress: Progress, timer: StageTimer
) -> BatchUpscaler:
    """The upscaler of ``method`` on ``dataset``, with its networks loaded."""
    if method.kind == "stablevsr":
        return _sampler(method, dataset, seed, networks, progress, timer)
    if method.kind == "frames":
        return _external(method, dataset, progress)
    return _baseline(method.kind, networks.device, progress)


def _sampler(
    method: Method, dataset: str, seed: int, networks: Networks, progress: Progress, timer: StageTimer
) -> BatchUpscaler:
    from stablevsr.method.flow import flow_by_name
    from stablevsr.method.noise import seeded_generator
    from stablevsr.method.pipeline import StableVSRPipeline, to_tensor
    from stablevsr.method.sampler import decode_frames, to_uint8
    from stablevsr.method.settings import Guidance
    from stablevsr.method.strategies import is_guided

    assert method.sampling is not None
    sampling, guidance = method.sampling, method.guidance or Guidance()
    guided = is_guided(sampling.strategy)
    parts: dict[str, Any] = {} if guided else {"controlnet": None}
    pipe = StableVSRPipeline.from_pretrained(
        networks.model,
        tcm=networks.tcm,
        device=networks.device,
        precision=sampling.precision,
        **parts,
        tile=sampling.tile,
        guidance_decoder=networks.decoder,
        weights=sampling.weights,
    )
    flow = flow_by_name(guidance.flow, pipe.device) if guided and guidance.needs_flow else None

    def sample(names: list[str], lr: torch.Tensor) -> list[torch.Tensor]:
        """Finished latents by sequence. Where the GPU's memory is too small, the batch is halved."""
        keys = [f"{seed}/{dataset}/{name}" for name in names]
        sources = keys if sampling.noise == "keyed" else [seeded_generator(key) for key in keys]
        try:
            return list(pipe.sample(lr, sources, sampling, guidance, flow, progress, timer.stage))
        except torch.OutOfMemoryError:
            if len(names) == 1:
                raise
        torch.cuda.empty_cache()
        half = len(names) // 2
        print(f"the GPU's memory ran out: {half} sequences at once instead of {len(names)}", file=sys.stderr)
        return sample(names[:half], lr[:half]) + sample(names[half:], lr[half:])

    def upscale(batch: Batch, frames: list[list[Frame]]) -> Iterator[list[Frame]]:
        lr = torch.stack([to_tensor(sequence) for sequence in frames])
        for latents in sample([name for name, _ in batch], lr):
            yield [to_uint8(image) for image in decode_frames(pipe.networks, latents, timer.stage)]

    return upscale


def _baseline(kind: str, device: str, progress: Progress) -> BatchUpscaler:
    upscaler = baselines.load(kind, device)

    def upscale(_: Batch, lr: list[list[Frame]]) -> Iterator[list[Frame]]:
        for sequence in lr:
            frames = []
            for frame in upscaler.stream(np.stack(sequence)):
                frames.append(np.rint(frame * 255).astype(np.uint8))
                progress(1)
            yield frames

    return upscale


def _external(method: Method, dataset: str, progress: Progress) -> BatchUpscaler:
    """Frames from the folder that a method names, found by the names of the LR frames."""
    root = method.frames_of(dataset)

    def upscale(batch: Batch, _: list[list[Frame]]) -> Iterator[list[Frame]]:
        for name, files in batch:
            found = {path.stem: path for path in (list_frames(root / name) if (root / name).is_dir() else [])}
            missing = [file.stem for file in files if file.stem not in found]
            if missing:
                lacks = f"{root / name} lacks {len(missing)} of {len(files)} frames, the first is {missing[0]}"
                raise UserError(f"method {method.name}: {lacks}")
            height, width, _ = (SCALE * side for side in read_frame(files[0]).shape)
            frames = [read_frame(found[file.stem]) for file in files]
            for file, frame in zip(files, frames, strict=True):
                if frame.shape[:2] != (height, width):
                    size = f"{frame.shape[1]}x{frame.shape[0]}, four times its LR frame is {width}x{height}"
                    raise UserError(f"method {method.name}: {found[file.stem]} is {size}")
            progress(len(files))
            yield frames

    return upscale
