"""A pool of frozen training samples, shared by the TCM variants of a small study.

Three quarters of a TCM training step are frozen: encoding, the neighbour's clean latent, its decoding, the flow and the
warp. The pool holds these once, for both neighbours of every window; a step then costs the TCM and the UNet alone. What
stays fresh at every use is the choice of neighbour and the centre frame's noise; timestep and neighbour noise are tied
to the sample, because the guidance image depends on them. An approximation for small budgets, not for the paper study.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from stablevsr.runtime.io import atomic_file
from stablevsr.runtime.locks import single_writer
from stablevsr.training.samples import WindowDataset, sample_generator
from stablevsr.training.tasks.tcm import NEXT, PAST, TCMJob

BATCH = 16


def build_pool(job: TCMJob, windows: WindowDataset, size: int, seed: int, file: Path) -> None:
    """Freeze ``size`` windows into ``file`` (safetensors, guidance images as float16); a second call does nothing."""
    with single_writer(file.parent):
        if file.exists():
            return
        parts = [
            _freeze(job, windows, range(first, min(first + BATCH, size)), seed)
            for first in tqdm(range(0, size, BATCH), desc="freezing samples", unit="batch", mininterval=2)
        ]
        tensors = {key: torch.cat([part[key] for part in parts]).contiguous() for key in parts[0]}
        with atomic_file(file) as stream:
            stream.write(save(tensors))


def _freeze(job: TCMJob, windows: WindowDataset, indices: range, seed: int) -> dict[str, Tensor]:
    items = [windows[i] for i in indices]
    window = {key: torch.stack([item[key] for item in items]).to(job.frozen.device) for key in items[0]}
    drawn = job.draw(window["lq"].shape[-1], [sample_generator(seed, index) for index in indices])
    frozen = {}
    for name, neighbour in (("past", PAST), ("next", NEXT)):
        sample = job.freeze(window, drawn | {"neighbour": torch.full((len(items),), neighbour)})
        frozen[f"guidance_{name}"] = sample["guidance"].half().cpu()
    return frozen | {key: sample[key].cpu() for key in ("latents", "timesteps", "lq")}


class PoolDataset(Dataset[dict[str, Tensor]]):
    """Frozen samples for :meth:`TCMJob.loss`; item ``index`` draws sample, neighbour and noise from (seed, index)."""

    def __init__(self, file: Path, both: bool, seed: int) -> None:
        with safe_open(str(file), framework="pt") as stored:
            self._pool = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (no mapping)
        self._both, self._seed = both, seed

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = sample_generator(self._seed, index)
        row = int(torch.randint(len(self._pool["latents"]), (1,), generator=generator))
        forward = bool(torch.randint(2, (1,), generator=generator)) and self._both
        latents = self._pool["latents"][row]
        return {
            "latents": latents,
            "noise": torch.randn(latents.shape, generator=generator),
            "timesteps": self._pool["timesteps"][row],
            "lq": self._pool["lq"][row],
            "guidance": self._pool["guidance_next" if forward else "guidance_past"][row].float(),
        }
