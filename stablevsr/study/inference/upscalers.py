"""The frames of a batch of sequences, from the sampler, a baseline, a command, or a folder of external frames."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stablevsr import baselines
from stablevsr.data.frames import Frame
from stablevsr.runtime.timing import StageTimer
from stablevsr.runtime.torch_settings import configure_torch
from stablevsr.study.inference.external import from_command, from_folder
from stablevsr.study.inference.shards import Batch, BatchUpscaler, Progress

if TYPE_CHECKING:
    import torch

    from stablevsr.method.pipeline import StableVSRPipeline
    from stablevsr.method.settings import Guidance, Sampling
    from stablevsr.study.methods import Method


@dataclass(frozen=True)
class NetworkPaths:
    """Where a method's networks come from, and the device they run on."""

    model: str  #: for :func:`stablevsr.method.model_folder.find_model`; empty for methods without networks
    device: str
    tcm: Path | None = None  #: None = the model's own
    decoder: Path | None = None  #: of the guidance; None = the VAE


class Pipelines:
    """Loads pipelines and keeps the last one, for the next method with the same networks."""

    def __init__(self) -> None:
        self._loaded: tuple[object, StableVSRPipeline] | None = None

    def load(self, networks: NetworkPaths, sampling: Sampling) -> StableVSRPipeline:
        """The pipeline with the networks of a method; without a TCM where ``sampling`` is not guided."""
        from stablevsr.method.pipeline import StableVSRPipeline
        from stablevsr.method.strategies import is_guided

        configure_torch(sampling.tf32)
        guided = is_guided(sampling.strategy)
        key = (networks, sampling.precision, sampling.weights, sampling.compile, sampling.tile, guided)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # makes room
            parts: dict[str, Any] = {} if guided else {"controlnet": None}
            self._loaded = (
                key,
                StableVSRPipeline.from_pretrained(
                    networks.model,
                    tcm=networks.tcm,
                    device=networks.device,
                    precision=sampling.precision,
                    **parts,
                    tile=sampling.tile,
                    guidance_decoder=networks.decoder,
                    weights=sampling.weights,
                    compile=sampling.compile,
                ),
            )
        return self._loaded[1]


def batch_upscaler(
    method: Method,
    dataset: str,
    seed: int,
    networks: NetworkPaths,
    pipelines: Pipelines,
    progress: Progress,
    timer: StageTimer,
) -> BatchUpscaler:
    """The upscaler of ``method`` on ``dataset``, with its networks loaded."""
    if method.sampling is not None:
        pipe = pipelines.load(networks, method.sampling)
        return _sampler(pipe, method.sampling, method.guidance, f"{seed}/{dataset}", progress, timer)
    if method.kind == "frames":
        return from_folder(method.name, method.frames_of(dataset), progress)
    if method.command is not None:
        return from_command(method.name, method.command, progress)
    return _baseline(method.kind, networks.device, progress)


def _sampler(
    pipe: StableVSRPipeline,
    sampling: Sampling,
    guidance: Guidance | None,
    key: str,
    progress: Progress,
    timer: StageTimer,
) -> BatchUpscaler:
    """Samples with noise whose key begins with ``key``; without ``guidance`` where no TCM is used."""
    import torch

    from stablevsr.method.flow import flow_by_name
    from stablevsr.method.noise import seeded_generator
    from stablevsr.method.pipeline import to_tensor
    from stablevsr.method.sampler import decode_frames, to_uint8
    from stablevsr.method.settings import Guidance

    flow = None
    if guidance and guidance.needs_flow:
        flow = flow_by_name(guidance.flow, pipe.device, guidance.raft_norm)

    def sample(names: list[str], lr: torch.Tensor) -> list[torch.Tensor]:
        """Finished latents by sequence. Where the GPU's memory is too small, the batch is halved."""
        keys = [f"{key}/{name}" for name in names]
        sources = keys if sampling.noise == "keyed" else [seeded_generator(text) for text in keys]
        try:
            return list(pipe.sample(lr, sources, sampling, guidance or Guidance(), flow, progress, timer.stage))
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
    if baselines.BASELINES[kind].on_torch:
        configure_torch()
    upscaler = baselines.load(kind, device)

    def upscale(_: Batch, lr: list[list[Frame]]) -> Iterator[list[Frame]]:
        for sequence in lr:
            frames = []
            for frame in upscaler.stream(np.stack(sequence)):
                frames.append(np.rint(frame * 255).astype(np.uint8))
                progress(1)
            yield frames

    return upscale
