"""From a resolved training to a folder: data, frozen networks, loop, validation, provenance.

``train_tcm`` makes a TCM, ``finetune`` a base model with a fine-tuned UNet, ``distil`` a small decoder for the
guidance. Each runs in one process, or in several that ``torchrun`` or ``accelerate launch`` started: then every process
trains on its share and the first one writes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from torch.utils.data import Dataset

from stablevsr.data.layouts import Sequence
from stablevsr.method import tcm
from stablevsr.method.flow import FlowEstimator
from stablevsr.method.loading import (
    DTYPES,
    load_for_training,
    load_prompt,
    load_scheduler,
    load_vae,
)
from stablevsr.method.model_folder import check_model, find_model
from stablevsr.method.pipeline import flow_by_name, load_networks
from stablevsr.method.settings import ROUNDING_ONLY, Guidance, Optimisation, Training
from stablevsr.method.small_decoder import SmallDecoder
from stablevsr.runtime.io import write_text
from stablevsr.runtime.locks import single_writer
from stablevsr.study.fingerprint import fingerprint, folder_hash
from stablevsr.study.methods import DecoderRun, FinetuningRun, TrainingRun, digest
from stablevsr.study.paths import pool_file
from stablevsr.study.prepare import open_dataset
from stablevsr.training import validation
from stablevsr.training.cached_samples import PoolDataset, build_pool
from stablevsr.training.loop import Job, LoopSettings, Outcome, accelerator_for, train
from stablevsr.training.samples import WindowDataset
from stablevsr.training.state import write_history
from stablevsr.training.tasks.decoder import DistillationJob
from stablevsr.training.tasks.tcm import TCMJob
from stablevsr.training.tasks.unet import UNetJob
from stablevsr.training.tensorboard import writer

WINDOW = 3  #: frames of a TCM's training window, as published


def train_tcm(
    run: TrainingRun, model: str, out: Path, state: Path, pools: Path, device: str, board: Path | None = None
) -> None:
    """Train one TCM into ``out``: diffusers weights, ``settings.json``, ``history.csv``, ``provenance.json``.

    Args:
        run: what to train.
        model: the base model, for :func:`stablevsr.method.model_folder.find_model`.
        out: the TCM's folder.
        state: folder for resume states.
        pools: the frozen samples shared between trainings.
        device: cpu or cuda.
        board: folder for TensorBoard's files; None = none.

    Raises:
        UserError: ``state`` belongs to other settings, or the loss is not a number.
    """
    accelerator = accelerator_for(run.settings.precision, device)
    folder = find_model(model)
    if run.settings.pool:
        file = make_pool(run, model, pools, str(accelerator.device))
        data: Dataset[dict[str, torch.Tensor]] = PoolDataset(file, run.settings.neighbour == "both", run.settings.seed)
        seen = _file_hash(file)
    else:
        clips = open_dataset(run.dataset)
        data, seen = WindowDataset(clips, WINDOW, run.settings.crop, run.settings.seed), _sizes(clips)
    job = _tcm_job(run, folder, str(accelerator.device), data)
    job.held_out = validation.held_out(job, run.dataset, WINDOW, run.settings.crop, accelerator.device)
    if run.settings.gradient_checkpointing:
        job.model.enable_gradient_checkpointing()
        job.frozen.unet.enable_gradient_checkpointing()
    identity = _identity(run.settings, run.digest, folder, seen)
    _train(job, run.settings, identity, out, state, accelerator, board, training=run.digest, model=run.base.name)


def finetune(run: FinetuningRun, out: Path, state: Path, device: str, board: Path | None = None) -> None:
    """Fine-tune a UNet; ``out`` becomes a whole base model: its UNet, and copies of everything else but the TCM.

    Arguments and errors as for :func:`train_tcm`. A UNet with class labels (the x4 upscaler's noise level) loses them:
    the released UNet has none and the released code passes none.
    """
    accelerator = accelerator_for(run.settings.precision, device)
    folder, settings = find_model(run.start), run.settings
    check_model(folder, without={"controlnet"})
    clips = open_dataset(run.dataset)
    job = _unet_job(folder, settings, clips, accelerator)
    job.held_out = validation.held_out(job, run.dataset, 1, settings.crop, accelerator.device)
    if settings.gradient_checkpointing:
        job.model.enable_gradient_checkpointing()
    identity = _identity(settings, run.digest, folder, _sizes(clips))
    copied = [folder / part for part in ("vae", "text_encoder", "tokenizer", "scheduler")]
    _train(job, settings, identity, out, state, accelerator, board, copied, finetuning=run.digest, model=run.start)


def distil(run: DecoderRun, model: str, out: Path, state: Path, device: str, board: Path | None = None) -> None:
    """Distil a small decoder of the guidance from a model's VAE; arguments, files and errors as for a TCM."""
    accelerator = accelerator_for(run.settings.precision, device)
    folder, settings = find_model(model), run.settings
    clips = open_dataset(run.dataset)
    source = _unet_job(folder, settings, clips, accelerator)
    torch.manual_seed(settings.seed)  # the initial weights
    decoder = SmallDecoder(int(source.model.config.out_channels), settings.width).to(accelerator.device)
    job = DistillationJob(decoder, source)
    job.held_out = validation.held_out(source, run.dataset, 1, settings.crop, accelerator.device)
    identity = _identity(settings, run.digest, folder, _sizes(clips))
    _train(job, settings, identity, out, state, accelerator, board, distillation=run.digest, model=run.base.name)


def _unet_job(folder: Path, settings: Optimisation, clips: list[Sequence], accelerator: Accelerator) -> UNetJob:
    return UNetJob(
        load_for_training(folder / "unet").to(accelerator.device),
        load_vae(folder, DTYPES[settings.precision]),
        DDPMScheduler.from_config(load_scheduler(folder).config),
        load_prompt(folder).to(accelerator.device),
        WindowDataset(clips, 1, settings.crop, settings.seed),
    )


def _train(
    job: Job, settings: Optimisation, identity: dict[str, Any], out: Path, state: Path, accelerator: Accelerator,
    board: Path | None, copied: Iterable[Path] = (), **what: Any,
) -> None:  # fmt: skip
    """Run the loop, then write what was trained, the folders ``copied`` beside it, and ``what`` it is, into ``out``."""
    states = state / digest(identity)
    logged = writer(board) if board and accelerator.is_main_process else None
    outcome = train(job, loop_settings(settings), states, identity, accelerator, logged)
    if accelerator.is_main_process:
        with single_writer(states):
            for folder in copied:
                shutil.copytree(folder, out / folder.name, dirs_exist_ok=True)
            job.save(out)
            what |= {"code": identity["code"], "parameters": tcm.parameter_count(job.model)}
            _describe(out, settings, outcome, states, accelerator, what)


def _identity(settings: Optimisation, of: str, folder: Path, data: str) -> dict[str, Any]:
    """What a state is tied to: settings, code, weights and data. Others would give what nothing can give again."""
    weights = [folder_hash(folder / part) for part in ("unet", "vae")]
    return {
        "training": of,
        "code": fingerprint("stablevsr.study.training"),
        "inputs": digest([*weights, data]),
        **settings.model_dump(mode="json", exclude={"dataset", *ROUNDING_ONLY}),
    }


def _file_hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sizes(clips: list[Sequence]) -> str:
    """A digest of the frames' names and sizes: REDS has 34 GB to hash."""
    return digest([(str(file), file.stat().st_size) for clip in clips for file in clip.gt])


def _describe(
    out: Path, settings: Optimisation, outcome: Outcome, states: Path, accelerator: Accelerator, what: dict[str, Any]
) -> None:
    """Write what made the weights in ``out``; ``provenance.json`` comes last."""
    write_history(outcome.history, out / "history.csv")
    write_text(out / "settings.json", json.dumps(settings.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")
    if (states / "validation").exists():
        shutil.copytree(states / "validation", out / "validation", dirs_exist_ok=True)
    provenance = {
        **what,
        "device": str(accelerator.device),
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "seconds_per_step": outcome.seconds_per_step,
        "data_wait": outcome.data_wait,
        "peak_memory_bytes": outcome.peak_memory_bytes,
    }
    write_text(out / "provenance.json", json.dumps(provenance, indent=1, sort_keys=True) + "\n")


def loop_settings(settings: Optimisation) -> LoopSettings:
    """The loop's share of a training's settings."""
    shared = set(LoopSettings.model_fields) & set(type(settings).model_fields)
    small = settings.steps < 5000
    return LoopSettings(
        **settings.model_dump(include=shared),
        workers=0 if isinstance(settings, Training) and settings.pool else _workers(),
        save_every=100 if small else 500,
        log_every=20 if small else 50,
    )


def _workers() -> int:
    """Processes that read crops, for each of the processes that train on this machine."""
    return max(1, min(4, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE") or 1)))


def make_pool(run: TrainingRun, model: str, pools: Path, device: str) -> Path:
    """Freeze the samples of ``run`` unless a training with the same ones did already; returns the file."""
    file = pool_file(run, pools)
    if not file.exists():
        assert run.settings.pool is not None
        windows = WindowDataset(open_dataset(run.dataset), WINDOW, run.settings.crop, run.settings.seed)
        job = _tcm_job(run, find_model(model), device, windows)
        build_pool(job, windows, run.settings.pool, run.settings.seed, file)
    return file


def _tcm_job(run: TrainingRun, folder: Path, device: str, data: Dataset[dict[str, torch.Tensor]]) -> TCMJob:
    networks = load_networks(folder, device, with_tcm=False)
    torch.manual_seed(run.settings.seed)  # the new layers' initial weights
    module = tcm.from_unet(networks.unet, run.settings.conditioning_init).to(device)
    networks.freeze_in(run.settings.precision)  # after the copy: what is trained keeps float32
    return TCMJob(module, networks, run.settings, run.guidance, _estimator(run.guidance, device), data)


def _estimator(guidance: Guidance, device: str) -> FlowEstimator | None:
    return flow_by_name(guidance.flow, device) if guidance.needs_flow else None
