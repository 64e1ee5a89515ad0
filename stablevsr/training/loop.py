"""The training loop: the same for the TCM, the UNet's fine-tuning, the small decoder and the tiny base model.

What is trained is a :class:`~.task.TrainingTask`. Every random draw is a function of (seed, sample): a killed run
resumes from weights, optimiser and step to the same result, and micro-batches and processes change no draw.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import remove_unfinished
from stablevsr.runtime.locks import single_writer
from stablevsr.runtime.timing import peak_memory
from stablevsr.training.samples import sample_generator, sample_numbers
from stablevsr.training.state import EMA, HistoryRow, check_identity, restore, save
from stablevsr.training.task import LoopSettings, TrainingTask

#: How long processes wait for the first one, which hashes the training set: for Vimeo-90K torch's 10 minutes are few.
WAIT = timedelta(hours=4)


@dataclass(frozen=True)
class Outcome:
    """The whole history of a training, and the cost of this run (without earlier ones that it resumed)."""

    history: list[HistoryRow]
    seconds_per_step: float | None  #: without validation and saving; None if nothing was left to do
    data_wait: float  #: share of the steps' time spent waiting for data
    peak_memory_bytes: int  #: of the GPU, or of this process on the CPU


def accelerator_for(precision: str, device: str) -> Accelerator:
    """This process's share of the machine: ``device`` cpu, or anything else for the GPU that accelerate gives it."""
    # else every later training in a process would have the precision and the device of its first one
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    patient = InitProcessGroupKwargs(timeout=WAIT)
    mixed = {"fp32": "no"}.get(precision, precision)
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed, kwargs_handlers=[patient])


def train(
    task: TrainingTask,
    settings: LoopSettings,
    state: Path,
    identity: dict[str, Any],
    accelerator: Accelerator | None = None,
    logged: Callable[[HistoryRow], None] | None = None,
) -> Outcome:
    """Run (or continue) ``task`` to the end; afterwards ``task.model`` holds the result in every process.

    Args:
        task: what to train; its networks are on the accelerator's device.
        settings: how.
        state: folder for the states; held by one process at a time.
        identity: everything that the weights depend on; a state with another identity is refused.
        accelerator: this process among those that a launcher started; None = one process on the CPU.
        logged: called with every row of the history as it is made; None in all processes but the first.

    Raises:
        UserError: ``state`` was made by another training, the batch cannot be divided among the processes, or the loss
            is 0 or not finite.
    """
    accelerator = accelerator or accelerator_for(settings.precision, "cpu")
    with single_writer(state) if accelerator.is_main_process else nullcontext():
        return _run(task, settings, state, identity, accelerator, logged)


def _run(
    task: TrainingTask, settings: LoopSettings, state: Path, identity: dict[str, Any], accelerator: Accelerator,
    logged: Callable[[HistoryRow], None] | None,
) -> Outcome:  # fmt: skip
    if accelerator.is_main_process:
        remove_unfinished(state)
    accelerator.wait_for_everyone()  # the first process holds the lock: no state is written while the others read it
    task.model.to(accelerator.device)
    optimizer = optimizer_for(task, settings)
    ema = EMA(task.model, settings.ema)
    check_identity(state, identity)
    start, history = restore(state, task.model, optimizer, ema, accelerator.scaler)
    optimizer = accelerator.prepare(optimizer)  # the model stays as it is: gradients are averaged here, once a step
    bar = tqdm(
        total=settings.steps, initial=start, unit="step", desc="training", mininterval=2,
        disable=not accelerator.is_main_process,
    )  # fmt: skip
    waited, worked, losses = 0.0, 0.0, []
    batches = _batches(task, settings, start, accelerator)
    for step in range(start, settings.steps):
        mark = time.monotonic()
        batch = {key: value.to(accelerator.device, non_blocking=True) for key, value in next(batches).items()}
        waited += time.monotonic() - mark
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * rate_factor(settings, step)
        losses.append(training_step(task, batch, settings, step, accelerator, optimizer))
        ema.update(task.model)
        worked += time.monotonic() - mark
        bar.update()
        done = step + 1
        if done % settings.log_every == 0 or done == settings.steps:
            history.append({"step": done, "loss": sum(losses) / len(losses)})
            bar.set_postfix(loss=f"{history[-1]['loss']:.4f}", data_wait=f"{waited / worked:.0%}", refresh=False)
            losses = []
        if (done % settings.save_every == 0 or done == settings.steps) and accelerator.is_main_process:
            if done % settings.log_every == 0 or done == settings.steps:
                history[-1] |= task.validate(state / "validation" / f"step{done:06d}.png")
            save(state, done, task.model, optimizer, ema, accelerator.scaler, history, identity)
        if logged and history and history[-1]["step"] == done:
            logged(history[-1])
    bar.close()
    ema.copy_to(task.model)
    if start == settings.steps:
        return Outcome(history, None, 0.0, peak_memory(accelerator.device))
    return Outcome(history, worked / (settings.steps - start), waited / worked, peak_memory(accelerator.device))


def training_step(
    task: TrainingTask,
    batch: dict[str, Tensor],
    settings: LoopSettings,
    step: int,
    accelerator: Accelerator,
    optimizer: Any,
) -> float:
    """One optimiser step over this process's share of the batch, in micro-batches. Returns the batch's mean loss.

    Raises :class:`UserError` if it is 0 or not finite.
    """
    size = len(next(iter(batch.values())))
    micro = settings.micro_batch or size
    number = step * settings.batch + accelerator.process_index * size  # of this share's first sample
    total = 0.0
    for first in range(0, size, micro):
        part = {key: value[first : first + micro] for key, value in batch.items()}
        count = len(next(iter(part.values())))
        generators = [sample_generator(settings.seed, number + first + row) for row in range(count)]
        with accelerator.autocast():
            loss = task.loss(part, generators) * (count / size)
        accelerator.backward(loss)
        total += float(loss.detach())
    if not math.isfinite(total) or total == 0:
        raise UserError(
            f"the loss is {total} at step {step + 1} (samples {number} to {number + size - 1} of seed "
            f"{settings.seed}), so nothing can be learned: lower the learning rate or use fp32"
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
    """Replace every gradient by its mean over the processes, whose shares have equal sizes; returns the mean loss."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = accelerator.reduce(parameter.grad, reduction="mean")
    return float(accelerator.reduce(torch.tensor(loss, device=accelerator.device), reduction="mean"))


def _batches(
    task: TrainingTask, settings: LoopSettings, start: int, accelerator: Accelerator
) -> Iterator[dict[str, Tensor]]:
    world, rank = accelerator.num_processes, accelerator.process_index
    if settings.batch % world:
        raise UserError(f"a batch of {settings.batch} cannot be split over {world} processes")
    loader = DataLoader(
        task.data,
        batch_size=settings.batch // world,
        sampler=sample_numbers(start, settings.steps, settings.batch, rank, world),
        num_workers=settings.workers,
        pin_memory=accelerator.device.type == "cuda",
        persistent_workers=settings.workers > 0,
    )
    return iter(loader)


def optimizer_for(task: TrainingTask, settings: LoopSettings) -> torch.optim.Optimizer:
    """The optimiser of a task, every group with the ``peak_lr`` that the schedule starts from."""
    groups = [group | {"peak_lr": group["lr"]} for group in task.parameter_groups(settings)]
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups)
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


def rate_factor(settings: LoopSettings, step: int) -> float:
    """The learning rate at ``step`` as a share of its peak: linear warm-up, then constant or a cosine to 0.2 %."""
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    if settings.schedule == "constant":
        return warm
    return warm * (0.002 + 0.998 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / settings.steps))))
