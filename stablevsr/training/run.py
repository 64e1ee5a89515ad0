"""From a resolved training to a checkpoint folder: data, frozen model, loop, validation, provenance."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stablevsr import models, tcm
from stablevsr.data.frames import write_text
from stablevsr.data.prepare import open_dataset
from stablevsr.errors import UserError
from stablevsr.motion import FlowEstimator
from stablevsr.pipeline import flow_by_name
from stablevsr.settings import Guidance, Training
from stablevsr.study.files import Dataset as DatasetSpec
from stablevsr.study.paths import pool_file
from stablevsr.study.provenance import TRAINING_CODE, folder_hash, source_hash
from stablevsr.study.resolve import TrainingRun, digest
from stablevsr.training.loop import LoopSettings, train, write_history
from stablevsr.training.pool import PoolDataset, build_pool
from stablevsr.training.samples import WindowDataset, step_generator
from stablevsr.training.tcm import TCMJob

WINDOW = 3  #: frames of a training window, as published
VALIDATION_SAMPLES = 48
LEVELS = {"low": (0, 333), "mid": (333, 667), "high": (667, 1000)}  #: noise levels by timestep (of 1000)


def train_tcm(run: TrainingRun, out: Path, state: Path, pools: Path, device: str) -> None:
    """Train one TCM into ``out``: diffusers weights, ``settings.json``, ``history.csv``, ``provenance.json``.

    ``state`` holds the resume states, ``pools`` the frozen samples shared between trainings. Raises
    :class:`UserError` if ``state`` belongs to other settings, or if the loss is not a number.
    """
    began = time.monotonic()
    job, held_out = _job(run, pools, device)
    job_with_validation = _Validated(job, held_out)
    # States are kept apart by code, weights and data: going on with others would give what nothing can give again.
    code = source_hash(TRAINING_CODE)
    identity = {
        "training": run.digest,
        "code": code,
        "inputs": _inputs(run, pools),
        **run.settings.model_dump(mode="json"),
    }
    history = train(job_with_validation, loop_settings(run.settings), state / digest(identity), identity, device)
    job.save(out)
    write_history(history, out / "history.csv")
    write_text(out / "settings.json", json.dumps(run.settings.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")
    provenance = {
        "training": run.digest,
        "model": run.model,
        "parameters": tcm.parameter_count(job.model),
        "code": code,
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "seconds_this_run": round(time.monotonic() - began, 1),
    }
    write_text(out / "provenance.json", json.dumps(provenance, indent=1, sort_keys=True) + "\n")


def _inputs(run: TrainingRun, pools: Path) -> str:
    """A digest of what the training reads: the base model's weights, and the frozen samples or the frames."""
    folder = models.find_model(run.model)
    weights = [folder_hash(folder / part) for part in ("unet", "vae")]
    if run.settings.pool:
        with pool_file(run, pools).open("rb") as stream:
            return digest([*weights, hashlib.file_digest(stream, "sha256").hexdigest()])
    frames = [file for clip in open_dataset(run.dataset) for file in clip.gt]
    return digest([*weights, [(str(file), file.stat().st_size) for file in frames]])  # sizes: REDS has 34 GB to hash


def loop_settings(settings: Training) -> LoopSettings:
    """The loop's share of a training's settings."""
    names = set(LoopSettings.model_fields) & set(Training.model_fields)
    small = settings.steps < 5000
    return LoopSettings(
        **settings.model_dump(include=names),
        workers=0 if settings.pool else 4,
        save_every=100 if small else 500,
        log_every=20 if small else 50,
    )


def make_pool(run: TrainingRun, pools: Path, device: str) -> Path:
    """Freeze the samples of ``run`` unless a training with the same ones did already; returns the file."""
    file = pool_file(run, pools)
    if not file.exists():
        assert run.settings.pool is not None
        clips = open_dataset(run.dataset)
        windows = WindowDataset(clips, WINDOW, run.settings.crop, run.settings.seed)
        build_pool(_frozen_job(run, device, windows), windows, run.settings.pool, run.settings.seed, file)
    return file


def _job(run: TrainingRun, pools: Path, device: str) -> tuple[TCMJob, dict[str, Tensor] | None]:
    settings = run.settings
    data: Dataset[dict[str, Tensor]]
    if settings.pool:
        data = PoolDataset(make_pool(run, pools, device), settings.neighbour == "both", settings.seed)
    else:
        data = WindowDataset(open_dataset(run.dataset), WINDOW, settings.crop, settings.seed)
    job = _frozen_job(run, device, data)
    return job, _held_out(job, run, device)


def _frozen_job(run: TrainingRun, device: str, data: Dataset[dict[str, Tensor]]) -> TCMJob:
    components = models.load_components(models.find_model(run.model), device=device, with_tcm=False)
    torch.manual_seed(run.settings.seed)  # the new layers' initial weights
    module = tcm.from_unet(components.unet, run.settings.conditioning_init).to(device)
    return TCMJob(module, components, run.settings, run.guidance, _estimator(run.guidance, device), data)


def _estimator(guidance: Guidance, device: str) -> FlowEstimator | None:
    return flow_by_name(guidance.flow, device) if guidance.needs_flow else None


def _held_out(job: TCMJob, run: TrainingRun, device: str) -> dict[str, Tensor] | None:
    """Fixed frozen samples from the test split of the training set, timesteps spread evenly; None if there is none."""
    spec: DatasetSpec = run.dataset.model_copy(update={"split": "test", "sequences": None})
    try:
        clips = open_dataset(spec)
    except UserError:
        return None
    windows = WindowDataset(clips, WINDOW, run.settings.crop, seed=12345)
    items = [windows[i] for i in range(VALIDATION_SAMPLES)]
    window = {key: torch.stack([item[key] for item in items]).to(device) for key in items[0]}
    drawn = job.draw(len(items), window["lq"].shape[-1], step_generator(12345, 0))
    steps = int(job.scheduler.config.num_train_timesteps)
    drawn["timesteps"] = torch.linspace(0, steps - 1, len(items)).round().long()
    return job.freeze(window, drawn)


class _Validated(TCMJob):
    """The job with the figure that tells whether the module learns: loss with and without the TCM, by noise level."""

    def __init__(self, job: TCMJob, held_out: dict[str, Tensor] | None) -> None:
        super().__init__(job.model, job.frozen, job.settings, job.guidance, job.estimator, job.data)
        self._held_out = held_out
        self._without: Tensor | None = None

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """``val_loss_<level>`` and ``val_ratio_<level>`` (loss with the TCM over loss without it) for three levels."""
        if self._held_out is None:
            return {}
        if self._without is None:
            self._without = self.errors(self._held_out, with_tcm=False).mean((1, 2, 3)).cpu()
        errors = self.errors(self._held_out).mean((1, 2, 3)).cpu()
        figures: dict[str, Any] = {}
        for level, (low, high) in LEVELS.items():
            rows = ((self._held_out["timesteps"] >= low) & (self._held_out["timesteps"] < high)).cpu()
            figures[f"val_loss_{level}"] = float(errors[rows].mean())
            figures[f"val_ratio_{level}"] = float(errors[rows].mean() / self._without[rows].mean())
        return figures
