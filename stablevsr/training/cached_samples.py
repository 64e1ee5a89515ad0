"""Cached training samples, shared by the TCM variants of a small study.

Three quarters of a TCM training step have no gradient: encoding, the neighbour's clean latent, its decoding, flow and
warp. The cache holds their results for both neighbours of every window. The choice of neighbour and the noise of the
centre frame are drawn at every use; timestep and neighbour noise are fixed, because the guidance image depends on them.
This is an approximation for small budgets; the paper study does not use it.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.utils.data import Dataset
from tqdm import tqdm

from stablevsr.runtime.io import atomic_file
from stablevsr.runtime.locks import single_writer
from stablevsr.training.denoising import DenoisingTask
from stablevsr.training.samples import NEXT, PAST, sample_generator
from stablevsr.training.task import Sample

BATCH = 16


def cache_samples(task: DenoisingTask, size: int, seed: int, file: Path, made_from: str) -> None:
    """Write ``size`` frozen samples of a TCM's ``task`` into ``file`` (safetensors, guidance images as float16).

    ``made_from`` is a digest of the data and networks. A second call with the same does nothing.
    """
    with single_writer(file.parent):
        if is_current(file, made_from):
            return
        parts = [
            _freeze(task, range(first, min(first + BATCH, size)), seed)
            for first in tqdm(range(0, size, BATCH), desc="caching samples", unit="batch", mininterval=2)
        ]
        tensors = {key: torch.cat([part[key] for part in parts]).contiguous() for key in parts[0]}
        with atomic_file(file) as stream:
            stream.write(save(tensors, {"crc32": _checksum(tensors), "made_from": made_from}))


def is_current(file: Path, made_from: str) -> bool:
    """Whether ``file`` holds what :func:`cache_samples` wrote for ``made_from``; a message says why not."""
    if not file.exists():
        return False
    reason = "is damaged"
    try:
        with safe_open(str(file), framework="pt") as stored:
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (no mapping)
            metadata = stored.metadata() or {}
            if metadata.get("crc32") == _checksum(tensors):
                reason = "" if metadata.get("made_from") == made_from else "was made from other data or networks"
    except SafetensorError:
        pass
    if reason:
        print(f"{file} {reason}: computing the samples again", file=sys.stderr)
    return not reason


def _checksum(tensors: dict[str, torch.Tensor]) -> str:
    total = 0
    for key in sorted(tensors):
        total = zlib.crc32(tensors[key].numpy().tobytes(), zlib.crc32(key.encode(), total))
    return f"{total:08x}"


def _freeze(task: DenoisingTask, indices: range, seed: int) -> Sample:
    device = next(task.model.parameters()).device
    items = [task.data[i] for i in indices]
    window = {key: torch.stack([item[key] for item in items]).to(device) for key in items[0]}
    drawn = task.draw(window["lq"].shape[-1], [sample_generator(seed, index) for index in indices])
    frozen: Sample = {}
    for name, neighbour in (("past", PAST), ("next", NEXT)):
        sample = task.freeze(window, drawn | {"neighbour": torch.full((len(items),), neighbour)})
        frozen[f"guidance_{name}"] = sample["guidance"].half().cpu()
        if "to_neighbour" in sample:
            frozen[f"to_neighbour_{name}"] = sample["to_neighbour"].cpu()
    return frozen | {key: sample[key].cpu() for key in ("latents", "timesteps", "lq")}


class CachedSamples(Dataset[Sample]):
    """Frozen samples for a TCM's loss; item ``index`` draws sample, neighbour and noise from (seed, index).

    ``both``: the neighbour is the past or the next frame, not always the past one. ``blank``: a blank (mid-grey)
    image takes the place of the guidance image.
    """

    def __init__(self, file: Path, both: bool, seed: int, blank: bool = False) -> None:
        with safe_open(str(file), framework="pt") as stored:
            self._stored = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (no mapping)
        self._both, self._seed, self._blank = both, seed, blank

    def __getitem__(self, index: int) -> Sample:
        generator = sample_generator(self._seed, index)
        row = int(torch.randint(len(self._stored["latents"]), (1,), generator=generator))
        forward = bool(torch.randint(2, (1,), generator=generator)) and self._both
        latents = self._stored["latents"][row]
        side = "_next" if forward else "_past"
        of_neighbour = {
            key.removesuffix(side): values[row].float() for key, values in self._stored.items() if key.endswith(side)
        }
        if self._blank:
            of_neighbour["guidance"] = torch.zeros_like(of_neighbour["guidance"])
        return of_neighbour | {
            "latents": latents,
            "noise": torch.randn(latents.shape, generator=generator),
            "timesteps": self._stored["timesteps"][row],
            "lq": self._stored["lq"][row],
        }
