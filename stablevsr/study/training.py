"""Running a training of a study: its data, task and loop, and the files that it writes.

A training may run in several processes, started by ``torchrun`` or ``accelerate launch``: each trains on its share of
every batch, and the first one writes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator

from stablevsr.data.layouts import Clip
from stablevsr.method.model_folder import FROZEN_PARTS, find_model
from stablevsr.method.settings import ROUNDING_ONLY, Training
from stablevsr.runtime.devices import usable_cores
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import digest, file_hash, folder_hash, tree_hash
from stablevsr.runtime.io import write_text
from stablevsr.runtime.locks import single_writer
from stablevsr.runtime.machine import machine_of_job
from stablevsr.runtime.records import write_record
from stablevsr.study.prepare import open_dataset
from stablevsr.study.training_data import record_training_data
from stablevsr.training import tasks
from stablevsr.training.cached_samples import cache_samples, is_current
from stablevsr.training.loop import Outcome, accelerator_for, train
from stablevsr.training.state import HistoryRow, write_history
from stablevsr.training.task import LoopSettings, TaskInputs, TrainingTask

if TYPE_CHECKING:
    from stablevsr.study.methods import TrainingRun
    from stablevsr.study.paths import Paths


def train_run(run: TrainingRun, paths: Paths, device: str, board: Path | None = None) -> None:
    """Train one network into ``paths.training(run)``: weights, ``settings.json``, ``history.csv``, ``provenance.json``.

    Args:
        run: what to train.
        paths: where models, LR frames, cached samples and resume states are.
        device: cpu or cuda.
        board: folder for TensorBoard's files; None = none.

    Raises:
        UserError: data or model are missing, or the loss is not a number.
    """
    accelerator = accelerator_for(run.settings.precision, device)
    samples = make_samples(run, paths, str(accelerator.device)) if run.samples else None
    model, clips = find_model(paths.model(run.base)), [] if samples else _clips(run, paths)
    inputs = TaskInputs(model, run.settings, clips, _held_out(run, paths), accelerator.device, samples)
    task = tasks.build(run.kind, inputs)
    with accelerator.main_process_first():  # it writes the record, the others read it
        data = record_training_data(run.dataset, paths)["sha256"]
    identity = {
        "training": run.digest,
        "inputs": digest([_networks_hash(run, model), file_hash(samples) if samples else data]),
        **run.settings.model_dump(mode="json", exclude={"dataset", *ROUNDING_ONLY}),
    }  # fmt: skip
    state = paths.state(run.digest) / digest(identity)
    logged = _tensorboard(board) if board and accelerator.is_main_process else None
    outcome = train(task, loop_settings(run), state, identity, accelerator, logged)
    if accelerator.is_main_process:
        with single_writer(state):
            _write(run, task, outcome, paths.training(run), state, accelerator, data)


def _tensorboard(folder: Path) -> Callable[[HistoryRow], None]:
    """A function that writes a row of the history below ``folder``, to watch a long training in a browser."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("--tensorboard needs a package: pip install -c requirements.lock tensorboard") from error
    board = SummaryWriter(str(folder))

    def write(row: HistoryRow) -> None:
        for name in row.keys() - {"step"}:
            board.add_scalar(name, row[name], int(row["step"]))
        board.flush()

    return write


def make_samples(run: TrainingRun, paths: Paths, device: str) -> Path:
    """Compute the cached samples of ``run`` unless they are there; returns the file."""
    file, settings = paths.samples(run), run.settings
    if file is None:
        raise UserError(f"the training {run.digest} takes fresh samples: cached_samples is not set")
    assert isinstance(settings, Training) and settings.cached_samples is not None
    model = find_model(paths.model(run.base))
    made_from = digest([_networks_hash(run, model), record_training_data(run.dataset, paths)["sha256"]])
    if not is_current(file, made_from):
        inputs = TaskInputs(model, settings.of_samples, _clips(run, paths), [], torch.device(device))
        task: Any = tasks.build(run.kind, inputs)
        cache_samples(task, settings.cached_samples, settings.seed, file, made_from)
    return file


def _networks_hash(run: TrainingRun, model: Path) -> str:
    """A digest of the networks of the base model that a training depends on."""
    starts_from_tcm = isinstance(run.settings, Training) and run.settings.start == "model"
    parts = (*FROZEN_PARTS, "controlnet") if starts_from_tcm else FROZEN_PARTS
    return digest([folder_hash(model / part) for part in parts])


def _clips(run: TrainingRun, paths: Paths) -> list[Clip]:
    return open_dataset(run.dataset, paths.low_resolution(run.dataset))


def _held_out(run: TrainingRun, paths: Paths) -> list[Clip]:
    """The validation clips of the training set; none if it names no validation set."""
    spec = run.dataset.validation
    return open_dataset(spec, paths.low_resolution(spec)) if spec else []


def _write(
    run: TrainingRun, task: TrainingTask, outcome: Outcome, out: Path, state: Path, accelerator: Accelerator, data: str
) -> None:
    """Write the weights and the records of a training into ``out``; ``provenance.json`` comes last."""
    for folder in task.copied:
        shutil.copytree(folder, out / folder.name, dirs_exist_ok=True)
    task.save(out)
    for weights in out.rglob("*.safetensors"):
        weights.chmod(0o644)  # safetensors makes files that only their owner can read, not the others of a cluster
    write_history(outcome.history, out / "history.csv")
    write_text(out / "settings.json", json.dumps(run.settings.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")
    if (state / "validation").exists():
        shutil.copytree(state / "validation", out / "validation", dirs_exist_ok=True)
    provenance = {
        "kind": run.kind,
        "training": run.digest,
        "sha256": tree_hash(out),
        "model": run.base.name,
        "data": data,
        "parameters": sum(p.numel() for p in task.model.parameters()),
        "device": str(accelerator.device),
        "processes": accelerator.num_processes,
        "machine": machine_of_job(str(accelerator.device)),
        "seconds_per_step": outcome.seconds_per_step,
        "data_wait": outcome.data_wait,
        "peak_memory_bytes": outcome.peak_memory_bytes,
    }
    write_record(out / "provenance.json", provenance)


def loop_settings(run: TrainingRun) -> LoopSettings:
    """The loop's settings of a training."""
    short = run.settings.steps < 5000
    return LoopSettings(
        **run.settings.model_dump(include=set(LoopSettings.model_fields)),
        workers=0 if run.samples else _workers(),
        save_every=100 if short else 500,
        log_every=20 if short else 50,
    )


def _workers() -> int:
    """Data loader workers for each training process on this machine."""
    return max(1, min(4, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE") or 1)))
