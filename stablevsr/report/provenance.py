"""Where every number of a study comes from: settings, code, versions, manifests, and the files behind each table."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from stablevsr.report.inference_cost import manifests
from stablevsr.report.scores import read_json, sequences
from stablevsr.report.training_history import History, histories
from stablevsr.runtime.io import write_text
from stablevsr.runtime.machine import machine
from stablevsr.study.methods import Method, ResolvedStudy
from stablevsr.study.paths import Paths


def write(paths: Paths) -> Path:
    """Write ``results/<study>/provenance.json`` and return it; what is absent is null."""
    file = paths.results / "provenance.json"
    write_text(file, json.dumps(collect(paths), indent=1, sort_keys=True) + "\n")
    return file


def collect(paths: Paths) -> dict[str, Any]:
    """The content of ``provenance.json``; code and machine are those of this call, manifests name those of the jobs."""
    study = paths.study
    return {
        "study": study.name,
        "title": study.spec.title,
        "model": study.spec.model,
        "settings": study.spec.model_dump(mode="json"),
        "runs": {str(run): seeds for run, seeds in enumerate(_seeds(study))},
        **machine(),
        "datasets": {
            name: {"folder": str(paths.dataset(name)), "sequences": sequences(paths, name)}
            for name in study.spec.datasets
        },
        "methods": {method.name: _method(paths, method) for method in study.methods.values()},
        "trainings": {history.digest: _training(history) for history in histories(paths)},
        "cells": _cells(paths),
    }


def _seeds(study: ResolvedStudy) -> list[dict[str, int]]:
    """The seeds of every run: of the noise, and of the trainings of methods that set no seed themselves."""
    runs = max(study.runs(dataset) for dataset in study.spec.datasets)
    first = study.spec.method.training.seed
    return [{"sampling_seed": run, "training_seed": first + run} for run in range(runs)]


def _method(paths: Paths, method: Method) -> dict[str, Any]:
    return {
        "label": method.label,
        **_form(paths, method),
        "scores": {dataset: _hashed(paths.table(dataset, method.name)) for dataset in method.datasets},
        "runs": {
            dataset: {
                str(form.run): {
                    **_form(paths, form),
                    "frames": str(paths.frames(dataset, form.digest, form.run)),
                    "manifests": {str(file): read_json(file) for file in manifests(paths, dataset, form)},
                }
                for form in method.runs(dataset)
            }
            for dataset in method.datasets
        },
    }


def _form(paths: Paths, form: Method) -> dict[str, Any]:
    """What a form of a method runs with."""
    checkpoint = paths.training(form.training) if form.training else form.checkpoint
    return {
        "digest": form.digest,
        "settings": form.identity(),
        "model": paths.model(form.base) if form.base else None,
        "checkpoint": str(checkpoint) if checkpoint else None,
    }


def _training(history: History) -> dict[str, Any]:
    folder = history.folder
    return {
        "kind": history.kind.noun,
        "folder": str(folder),
        "settings": history.settings,
        "provenance": read_json(folder / "provenance.json") or None,
        "history": _hashed(folder / "history.csv"),
        "weights": {file.name: _hashed(file)["sha256"] for file in sorted(folder.glob(history.kind.weights))},
    }


def _hashed(file: Path) -> dict[str, str | None]:
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None
    return {"file": str(file), "sha256": digest}


def _cells(paths: Paths) -> dict[str, Any]:
    """The names of the methods in each table, by table and dataset."""
    study = paths.study
    rows = {"table1": study.table1()} | {name: [*study.ablation_methods(name).values()] for name in study.ablations}
    return {
        table: {dataset: [m.name for m in methods if dataset in m.datasets] for dataset in study.spec.datasets}
        for table, methods in rows.items()
    }
