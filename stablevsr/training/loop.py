"""The training loop: the same for the TCM, the UNet's fine-tuning and the tiny base model.

What is trained is a :class:`Job`. The loop owns the optimiser, the schedule, accumulation, clipping, the average of the
weights, logging, and states that survive a kill: every random draw is a function of (seed, step), so a state needs only
weights, optimiser and step to go on exactly as an undisturbed run would have.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from stablevsr.data.frames import atomic_file, write_text
from stablevsr.errors import UserError
from stablevsr.locks import sole_writer
from stablevsr.training.samples import StepSampler, step_generator, to_device


class LoopSettings(BaseModel):
    """How to optimise. Defaults are the released ``train.sh`` and ``train.py`` (batch over all devices)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = 20_000
    batch: int = 32
    micro_batch: int | None = None  #: samples a device takes at once; None = its whole share of the batch
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = 5e-5
    learning_rate_new: float | None = None  #: for layers that are not copied from the base model; None = the same
    weight_decay: float = 1e-2
    schedule: Literal["constant", "one_cycle"] = "constant"
    warmup_steps: int = 500
    max_grad_norm: float = 1.0
    ema: float = 0.0  #: decay of the weights' running average that is saved in the end; 0 = the last weights
    seed: int = 0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    workers: int = 2
    save_every: int = 500
    log_every: int = 50


class Job(ABC):
    """Something that can be trained: its data, its loss, and how its result is saved."""

    model: Any  #: the nn.Module that is optimised (of diffusers' classes, which mypy cannot see into)
    data: Dataset[dict[str, Tensor]]

    @abstractmethod
    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """Scalar loss of one micro-batch; all randomness comes from ``generator`` (on the CPU)."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the trained weights into ``folder`` in diffusers' layout."""

    def parameter_groups(self, settings: LoopSettings) -> list[dict[str, Any]]:
        """Optimiser groups; jobs with copied and new layers override it."""
        return [{"params": [p for p in self.model.parameters() if p.requires_grad], "lr": settings.learning_rate}]

    def validate(self) -> dict[str, float]:
        """Figures on fixed held-out windows, logged at every saved state; none by default."""
        return {}


def train(
    job: Job, settings: LoopSettings, state: Path, identity: dict[str, Any], device: str = "cpu"
) -> list[dict[str, float]]:
    """Run (or continue) ``job`` to the end; afterwards ``job.model`` holds the result. Returns the loss history.

    Args:
        job: what to train.
        settings: how.
        state: folder for the states; held by one process at a time.
        identity: everything that decides the weights; a state made under another identity is refused.
        device: ``cpu``, or anything else for the GPU that accelerate gives this process.
    """
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision={"fp32": "no"}.get(settings.precision, settings.precision),
        gradient_accumulation_steps=1,  # accumulation is done here, so that uneven micro-batches weigh correctly
    )
    if accelerator.is_main_process:
        with sole_writer(state):
            return _run(job, settings, state, identity, accelerator)
    return _run(job, settings, state, identity, accelerator)


def _run(
    job: Job, settings: LoopSettings, state: Path, identity: dict[str, Any], accelerator: Accelerator
) -> list[dict[str, float]]:
    device = accelerator.device
    job.model.to(device)
    optimizer = _optimizer(job, settings)
    average = _Average(job.model, settings.ema)
    _check_identity(state, identity)
    start, history = _restore(state, job.model, optimizer, average)
    model, optimizer = accelerator.prepare(job.model, optimizer)
    bar = tqdm(
        total=settings.steps, initial=start, unit="step", desc="training", mininterval=2,
        disable=not accelerator.is_main_process,
    )  # fmt: skip
    waited, began, losses = 0.0, time.monotonic(), []
    batches = _batches(job, settings, start, accelerator)
    for step in range(start, settings.steps):
        mark = time.monotonic()
        batch = to_device(next(batches), device)
        waited += time.monotonic() - mark
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * rate_factor(settings, step)
        losses.append(_step(job, batch, settings, step, accelerator, optimizer, model))
        average.update(job.model)
        bar.update()
        done = step + 1
        if done % settings.log_every == 0 or done == settings.steps:
            history.append({"step": done, "loss": sum(losses) / len(losses)})
            share = waited / max(time.monotonic() - began, 1e-9)
            bar.set_postfix(loss=f"{history[-1]['loss']:.4f}", data_wait=f"{share:.0%}", refresh=False)
            losses = []
        if (done % settings.save_every == 0 or done == settings.steps) and accelerator.is_main_process:
            if done % settings.log_every == 0 or done == settings.steps:
                history[-1] |= job.validate()
            _save(state, done, job.model, optimizer, average, history, identity)
    bar.close()
    average.copy_to(job.model)
    return history


def _step(
    job: Job,
    batch: dict[str, Tensor],
    settings: LoopSettings,
    step: int,
    accelerator: Accelerator,
    optimizer: Any,
    model: nn.Module,
) -> float:
    """One optimiser step over this process's share of the batch, in micro-batches. Returns the mean loss."""
    size = len(next(iter(batch.values())))
    micro = settings.micro_batch or size
    generator = step_generator(settings.seed, step, accelerator.process_index)
    total = 0.0
    for first in range(0, size, micro):
        part = {key: value[first : first + micro] for key, value in batch.items()}
        weight = len(next(iter(part.values()))) / size
        with accelerator.autocast():
            loss = job.loss(part, generator) * weight
        accelerator.backward(loss)
        total += float(loss.detach())
    if not math.isfinite(total):
        raise UserError(
            f"the loss is {total} at step {step + 1} (samples {step * settings.batch} to "
            f"{(step + 1) * settings.batch - 1} of seed {settings.seed}): lower the learning rate or use fp32"
        )
    if settings.max_grad_norm:
        accelerator.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def _batches(job: Job, settings: LoopSettings, start: int, accelerator: Accelerator) -> Iterator[dict[str, Tensor]]:
    world, rank = accelerator.num_processes, accelerator.process_index
    if settings.batch % world:
        raise UserError(f"a batch of {settings.batch} cannot be split over {world} processes")
    loader = DataLoader(
        job.data,
        batch_size=settings.batch // world,
        sampler=StepSampler(start, settings.steps, settings.batch, rank, world),
        num_workers=settings.workers,
        pin_memory=accelerator.device.type == "cuda",
        persistent_workers=settings.workers > 0,
    )
    return iter(loader)


def _optimizer(job: Job, settings: LoopSettings) -> torch.optim.Optimizer:
    groups = [group | {"peak_lr": group["lr"]} for group in job.parameter_groups(settings)]
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups)
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


def rate_factor(settings: LoopSettings, step: int) -> float:
    """The learning rate at ``step`` as a share of its peak: linear warm-up, then constant or a cosine to 0.2 %."""
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    if settings.schedule == "constant":
        return warm
    return warm * (0.002 + 0.998 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / settings.steps))))


class _Average:
    """Exponential moving average of the weights, with the usual warm-up of the decay; does nothing for decay 0."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.count = decay, 0
        self.weights = {k: v.detach().clone() for k, v in model.state_dict().items()} if decay else {}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        for key, value in model.state_dict().items() if self.weights else ():
            self.weights[key].lerp_(value, 1 - decay)

    def copy_to(self, model: nn.Module) -> None:
        if self.weights:
            model.load_state_dict(self.weights)


def _state_file(state: Path) -> Path:
    return state / "state.pt"


def _save(
    state: Path, step: int, model: nn.Module, optimizer: Any, average: _Average,
    history: list[dict[str, float]], identity: dict[str, Any],
) -> None:  # fmt: skip
    content = {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.weights,
        "average_count": average.count,
        "history": history,
    }
    write_text(state / "identity.json", json.dumps(identity, indent=1, sort_keys=True))
    with atomic_file(_state_file(state)) as stream:
        torch.save(content, stream)


def _restore(state: Path, model: nn.Module, optimizer: Any, average: _Average) -> tuple[int, list[dict[str, float]]]:
    if not _state_file(state).exists():
        return 0, []
    content = torch.load(_state_file(state), map_location="cpu", weights_only=True)
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    device = next(model.parameters()).device
    average.weights = {key: value.to(device) for key, value in content["average"].items()}
    average.count = content["average_count"]
    return int(content["step"]), list(content["history"])


def _check_identity(state: Path, identity: dict[str, Any]) -> None:
    file = state / "identity.json"
    if not file.exists():
        return
    before, now = json.loads(file.read_text()), json.loads(json.dumps(identity))
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if changed:
        key = changed[0]
        raise UserError(
            f"the training state in {state} was made with {key}={before.get(key)!r}, this run has {now.get(key)!r}: "
            f"remove that folder to start over"
        )


def write_history(history: list[dict[str, float]], path: Path) -> None:
    """Write the loss history as CSV: one row a logged step, empty cells where nothing was measured."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())
