"""The training loop: the same for the TCM, the UNet's fine-tuning and the tiny base model.

What is trained is a :class:`Job`. The loop owns the optimiser, the schedule, accumulation, clipping, the average of the
weights, logging, and states that survive a kill: every random draw is a function of (seed, sample), so a state needs
only weights, optimiser and step to go on exactly as an undisturbed run would have, and neither micro-batches nor
processes change what is drawn.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from stablevsr.runtime.errors import UserError
from stablevsr.runtime.locks import single_writer
from stablevsr.runtime.timing import peak_memory
from stablevsr.training.samples import StepSampler, sample_generator, to_device
from stablevsr.training.state import Average, Row, check_identity, restore, save


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
    def loss(self, batch: dict[str, Tensor], generators: Sequence[torch.Generator]) -> Tensor:
        """Scalar loss of one micro-batch; a row's randomness comes from its own generator (on the CPU)."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the trained weights into ``folder`` in diffusers' layout."""

    def parameter_groups(self, settings: LoopSettings) -> list[dict[str, Any]]:
        """Optimiser groups; jobs with copied and new layers override it."""
        return [{"params": [p for p in self.model.parameters() if p.requires_grad], "lr": settings.learning_rate}]

    def validate(self, picture: Path) -> dict[str, float]:
        """Figures on fixed held-out windows, and what they look like in ``picture`` (PNG); none by default."""
        return {}


@dataclass(frozen=True)
class Outcome:
    """What a run of the loop reports: the whole history, and what this run (not an earlier part of it) cost."""

    history: list[Row]
    seconds_per_step: float | None  #: None if nothing was left to do
    data_wait: float  #: share of the time in which the device waited for data
    peak_memory_bytes: int  #: of the GPU, or of this process on the CPU


def accelerator_for(precision: str, device: str) -> Accelerator:
    """This process's share of the machine: ``device`` cpu, or anything else for the GPU that accelerate gives it."""
    AcceleratorState._reset_state()  # it holds every later training to the precision of a process's first one
    return Accelerator(cpu=device == "cpu", mixed_precision={"fp32": "no"}.get(precision, precision))


def train(
    job: Job,
    settings: LoopSettings,
    state: Path,
    identity: dict[str, Any],
    accelerator: Accelerator | None = None,
    logged: Callable[[Row], None] | None = None,
) -> Outcome:
    """Run (or continue) ``job`` to the end; afterwards ``job.model`` holds the result in every process.

    Args:
        job: what to train; its networks are on the accelerator's device.
        settings: how.
        state: folder for the states; held by one process at a time.
        identity: everything that decides the weights; a state made under another identity is refused.
        accelerator: this process among those that a launcher started; None = one process on the CPU.
        logged: called in the first process with every row of the history as it is made.
    """
    accelerator = accelerator or accelerator_for(settings.precision, "cpu")
    if accelerator.is_main_process:
        with single_writer(state):
            return _run(job, settings, state, identity, accelerator, logged)
    return _run(job, settings, state, identity, accelerator, None)


def _run(
    job: Job, settings: LoopSettings, state: Path, identity: dict[str, Any], accelerator: Accelerator,
    logged: Callable[[Row], None] | None,
) -> Outcome:  # fmt: skip
    accelerator.wait_for_everyone()  # the first process holds the state now: nobody reads one that is being written
    job.model.to(accelerator.device)
    optimizer = optimizer_for(job, settings)
    average = Average(job.model, settings.ema)
    check_identity(state, identity)
    start, history = restore(state, job.model, optimizer, average)
    optimizer = accelerator.prepare(optimizer)  # the model stays as it is: gradients are averaged here, once a step
    bar = tqdm(
        total=settings.steps, initial=start, unit="step", desc="training", mininterval=2,
        disable=not accelerator.is_main_process,
    )  # fmt: skip
    waited, began, losses = 0.0, time.monotonic(), []
    batches = _batches(job, settings, start, accelerator)
    for step in range(start, settings.steps):
        mark = time.monotonic()
        batch = to_device(next(batches), accelerator.device)
        waited += time.monotonic() - mark
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * rate_factor(settings, step)
        losses.append(training_step(job, batch, settings, step, accelerator, optimizer))
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
                history[-1] |= job.validate(state / "validation" / f"step{done:06d}.png")
            save(state, done, job.model, optimizer, average, history, identity)
        if logged and history and history[-1]["step"] == done:
            logged(history[-1])
    bar.close()
    average.copy_to(job.model)
    spent = time.monotonic() - began
    steps = settings.steps - start
    return Outcome(history, spent / steps if steps else None, waited / spent, peak_memory(accelerator.device))


def training_step(
    job: Job, batch: dict[str, Tensor], settings: LoopSettings, step: int, accelerator: Accelerator, optimizer: Any
) -> float:
    """One optimiser step over this process's share of the batch, in micro-batches. Returns the batch's mean loss."""
    size = len(next(iter(batch.values())))
    micro = settings.micro_batch or size
    number = step * settings.batch + accelerator.process_index * size  # of this share's first sample
    total = 0.0
    for first in range(0, size, micro):
        part = {key: value[first : first + micro] for key, value in batch.items()}
        count = len(next(iter(part.values())))
        generators = [sample_generator(settings.seed, number + first + row) for row in range(count)]
        with accelerator.autocast():
            loss = job.loss(part, generators) * (count / size)
        accelerator.backward(loss)
        total += float(loss.detach())
    if not math.isfinite(total):
        raise UserError(
            f"the loss is {total} at step {step + 1} (samples {number} to {number + size - 1} of seed "
            f"{settings.seed}): lower the learning rate or use fp32"
        )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if accelerator.num_processes > 1:
        total = _average_over_processes(parameters, total, accelerator)
    if settings.max_grad_norm:
        accelerator.clip_grad_norm_(parameters, settings.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def _average_over_processes(parameters: list[Tensor], loss: float, accelerator: Accelerator) -> float:
    """Replace every gradient by its mean over the processes, whose shares are of one size; returns the mean loss."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = accelerator.reduce(parameter.grad, reduction="mean")
    return float(accelerator.reduce(torch.tensor(loss, device=accelerator.device), reduction="mean"))


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


def optimizer_for(job: Job, settings: LoopSettings) -> torch.optim.Optimizer:
    """The optimiser of a job, every group with the ``peak_lr`` that the schedule starts from."""
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
