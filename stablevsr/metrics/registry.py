"""All metrics by name: those of this package, and those that installed packages add by an entry point.

Each convention has a name: ``psnr`` (RGB, as published) and ``psnr_y`` are two metrics, and so are ``tof`` (RAFT as in
the authors' script) and ``tof_raft_std`` (RAFT as it was trained). Nothing heavy is imported.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import EntryPoint, EntryPoints

from stablevsr.data.downloads.weights import absence, location
from stablevsr.metrics.builtin import dists, flow, iqa, lpips, lr_consistency, psnr, sharpness, ssim
from stablevsr.metrics.metric import Metric
from stablevsr.runtime.errors import UserError, install_command, near_miss

FILES = (psnr, ssim, lr_consistency, sharpness, lpips, dists, iqa, flow)
GROUP = "stablevsr.metrics"  #: entry points: the name of a metric, and where its decorated function is


class Metrics(Mapping[str, Metric]):
    """Metrics by name; those of other packages are imported on lookup.

    Raises KeyError for an unknown name, and :class:`UserError` if two packages have a metric of that name or it cannot
    be imported.
    """

    def __init__(self) -> None:
        found = [value for file in FILES for value in vars(file).values() if isinstance(value, Metric)]
        self._known = {metric.name: metric for metric in found}

    @cached_property
    def _entries(self) -> EntryPoints:
        return importlib.metadata.entry_points(group=GROUP)

    def __getitem__(self, name: str) -> Metric:
        entries = list(self._entries.select(name=name))
        owners = (["stablevsr"] if name in self._known else []) + [_distribution(entry) for entry in entries]
        if len(owners) > 1:
            raise UserError(f"the metric '{name}' comes from {' and '.join(owners)}: uninstall all but one of them")
        return _load(entries[0]) if entries else self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._known, *(entry.name for entry in self._entries)]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def foreign(self, names: Sequence[str]) -> list[str]:
        """Name and version of the other packages that ``names`` come from."""
        found = [entry.dist for entry in self._entries if entry.name in names and entry.dist]
        return sorted({f"{package.name} {package.version}" for package in found})


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value


def _load(entry: EntryPoint) -> Metric:
    owner = _distribution(entry)
    try:
        metric = entry.load()
    except Exception as error:  # another package's code may fail in any way
        raise UserError(
            f"the metric '{entry.name}' of the package {owner} cannot be imported ({type(error).__name__}: {error}): "
            "repair or uninstall that package"
        ) from error
    if not isinstance(metric, Metric) or metric.name != entry.name:
        raise UserError(
            f"the package {owner} announces the metric '{entry.name}', but {entry.value} is no metric of that name: "
            "repair or uninstall that package"
        )
    return replace(metric, package=metric.package or owner)


METRICS = Metrics()


def resolve(names: Sequence[str]) -> list[Metric]:
    """The metrics of these names in order, without repeats. Raises :class:`UserError` for unknown names or none."""
    if not names:
        raise UserError(f"no metric is named: choose from {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            raise UserError(f"unknown metric '{name}'{near_miss(name, METRICS)}: choose from {', '.join(METRICS)}")
    return [METRICS[name] for name in dict.fromkeys(names)]


def missing(metric: Metric) -> str | None:
    """Why ``metric`` cannot be computed here, with the fix, or None; the contents of files are verified on loading."""
    absent = [name for name in metric.needs if not location(name).is_file()]
    return missing_package(metric) or (absence(absent[0]) if absent else None)


def missing_package(metric: Metric) -> str | None:
    """As :func:`missing`, for the package alone."""
    if metric.package:
        try:
            importlib.metadata.version(metric.package)
        except importlib.metadata.PackageNotFoundError:
            return f"the package {metric.package} is not installed: {install_command(metric.extra)}"
    return None
