"""``stablevsr evaluate``: score frames against ground truth, in one pass over them for all metrics and methods.

Names, weights and every input file are checked before anything is computed. Each method gets a CSV file (one row a
frame) and ``FILE.csv.json`` (means, conventions, versions, the reasons for empty columns), both written atomically.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from stablevsr.data.downloads.weights import location, sha256_of
from stablevsr.metrics.chunks import read_chunks
from stablevsr.metrics.folders import Against, FramePaths, pair_folders
from stablevsr.metrics.metric import Metric
from stablevsr.metrics.registry import METRICS, missing, resolve
from stablevsr.metrics.scoring import Scorer, Values, build_scorers
from stablevsr.metrics.tables import KEYS, infinite, notes_path, summarise, write_table
from stablevsr.metrics.tools import Tools
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import check_output
from stablevsr.runtime.machine import version
from stablevsr.runtime.torch_settings import configure_torch

if TYPE_CHECKING:
    import torch

#: Packages whose versions are kept with all scores; OpenCV has four names, of which this is the one that is required.
LIBRARIES = ("stablevsr", "torch", "torchvision", "opencv-python-headless")


def evaluate(
    reference: Path,
    methods: Mapping[Path, Path],
    metrics: Sequence[str],
    *,
    weights: Literal["require", "skip"] = "skip",
    sequences: Sequence[str] | None = None,
    cache: Path | None = None,
    device: str = "cpu",
    batch: int = 8,
    centre_only: bool = False,
    against: Against = "gt",
    made_from: Mapping[Path, str] | None = None,
) -> None:
    """Score the frames ``DIR/sequence/frame.png`` of methods against those of ``reference``, in one pass.

    Args:
        methods: for each method the CSV file to write and the folder of its frames.
        weights: ``require`` stops if a metric's weights or package are missing, ``skip`` leaves its column empty and
            gives the reason in ``<out>.json`` and on stderr.
        sequences, centre_only: as for :func:`stablevsr.metrics.folders.pair_folders`; temporal metrics are undefined
            where only the centre frame of each sequence is scored.
        cache: folder for ground-truth flows and distances, shared by methods and safe between processes.
        batch: frames at a time; fewer for frames above 720p.
        against: whether ``reference`` holds ground truth, or LR frames for metrics that need no ground truth.
        made_from: by CSV file, what is kept in its notes to tell later whether the scores are current.

    Raises :class:`UserError`, before any metric is computed, for unknown metrics, missing weights (``require``),
    damaged weights, and every error of the input that ``pair_folders`` finds.
    """
    chosen = resolve(metrics)
    if against == "lr":
        _require_no_truth(chosen)
    _check_places(reference, methods, cache)
    skipped = _unusable(chosen, weights)
    if centre_only:
        skipped |= {m.name: "only the centre frame of each sequence is scored" for m in chosen if m.temporal}
    paths = pair_folders(
        reference, list(methods.values()), sequences=sequences, centre_only=centre_only, against=against
    )
    if not any(sequence.centre for sequence in paths):
        skipped |= {m.name: "no sequence has seven frames" for m in chosen if m.frames == "centre"}
    skipped |= _too_small(paths, chosen)
    usable = [metric for metric in chosen if metric.name not in skipped]
    if runs_on_torch(usable):
        configure_torch()
    tools = Tools(device, cache)
    scorers = build_scorers(usable, tools)
    for name, reason in skipped.items():
        print(f"{name} is left empty: {reason}", file=sys.stderr)

    tables = score_frames(paths, len(methods), scorers, chosen, batch, device)
    for (out, sr), table in zip(methods.items(), tables, strict=True):
        notes = {against: str(reference), "sr": str(sr), "skipped": skipped} | _notes(chosen, skipped, table)
        notes |= {"made_from": made_from[out]} if made_from else {}
        write_table(out, table, notes)
        print(f"{out}: {notes['frames']} frames; {_means(chosen, notes)} (conventions: {out}.json)", file=sys.stderr)


def _check_places(reference: Path, methods: Mapping[Path, Path], cache: Path | None) -> None:
    """Nothing is written among the frames, and every output can be written."""
    written = [("--out", out) for out in methods] + ([("--cache", cache)] if cache else [])
    for option, path in written:
        for side in (reference, *methods.values()):
            if side.resolve() in (path.resolve(), *path.resolve().parents):
                raise UserError(f"{option} {path} lies inside the frames in {side}: write it somewhere else")
    for out in methods:
        check_output(out)
        check_output(notes_path(out))


def score_frames(
    paths: Sequence[FramePaths],
    methods: int,
    scorers: Sequence[Scorer],
    chosen: Sequence[Metric],
    batch: int,
    device: torch.device | str,
) -> list[pd.DataFrame]:
    """One table for each method, with a row for each frame in the order of ``paths``; each frame is read once.

    Columns are sequence, frame and the names of ``chosen``; nan where no scorer computes a metric, and for temporal
    metrics on the first frame of a sequence, and on frames smaller than a metric's smallest side.
    """
    names = [metric.name for metric in chosen]
    rows: list[list[list[Any]]] = [[] for _ in range(methods)]
    bar = tqdm(total=sum(len(p.stems) for p in paths), unit="frame", disable=None)
    with bar, _inference_mode(chosen):
        for chunk in read_chunks(paths, batch, device):
            values: dict[str, Values] = {}
            for scorer in scorers:
                values |= scorer(chunk)
            empty = np.full((methods, len(chunk)), np.nan)
            for method, method_rows in enumerate(rows):
                cells = zip(*(values.get(name, empty)[method].tolist() for name in names), strict=True)
                method_rows += [[chunk.sequence, stem, *row] for stem, row in zip(chunk.stems, cells, strict=True)]
            bar.update(len(chunk))
    return [pd.DataFrame(method_rows, columns=[*KEYS, *names]) for method_rows in rows]


def runs_on_torch(metrics: Sequence[Metric]) -> bool:
    """Whether any of ``metrics`` runs on torch."""
    return any(metric.build for metric in metrics)


def _inference_mode(chosen: Sequence[Metric]) -> AbstractContextManager[Any]:
    """Torch's, which is not imported where no metric uses it."""
    if not runs_on_torch(chosen):
        return nullcontext()
    import torch

    return torch.inference_mode()


def _unusable(chosen: Sequence[Metric], weights: Literal["require", "skip"]) -> dict[str, str]:
    reasons = {metric.name: reason for metric in chosen if (reason := missing(metric))}
    if reasons and weights == "require":
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UserError(f"{len(reasons)} of {len(chosen)} metrics cannot be computed ({listed})")
    return reasons


def _require_no_truth(metrics: Sequence[Metric]) -> None:
    if needing := [metric.name for metric in metrics if metric.reference == "gt"]:
        known = ", ".join(name for name, metric in METRICS.items() if metric.reference != "gt")
        raise UserError(f"{', '.join(needing)} cannot be computed without ground truth (--gt): with --lr give {known}")


def _too_small(sequences: Sequence[FramePaths], metrics: Sequence[Metric]) -> dict[str, str]:
    """The metrics that no sequence is large enough for, with the reason. Says which others lack some sequences."""
    reasons = {}
    for metric in metrics:
        small = [paths.name for paths in sequences if min(paths.size) < metric.smallest]
        limit = f"frames of less than {metric.smallest} pixels a side"
        if small and len(small) == len(sequences):
            reasons[metric.name] = limit
        elif small:
            count = f" and {len(small) - 1} more" if len(small) > 1 else ""
            print(f"{metric.name} is left empty on {small[0]}{count}: {limit}", file=sys.stderr)
    return reasons


def _notes(chosen: Sequence[Metric], skipped: Mapping[str, str], table: pd.DataFrame) -> dict[str, Any]:
    names = [metric.name for metric in chosen]
    used = [metric for metric in chosen if metric.name not in skipped]
    needed = sorted({name for metric in used for name in metric.needs})
    packages = [*LIBRARIES, *sorted({metric.package for metric in used if metric.package})]
    return {
        "frames": len(table),
        "sequences": {str(name): len(frames) for name, frames in table.groupby("sequence", sort=False)},
        "mean": {name: _json_number(value) for name, value in summarise(table, names).items()},
        "infinite": {name: count for name in names if (count := infinite(table[name]))},
        "metrics": {m.name: {"convention": m.convention, "direction": m.direction, "scale": m.scale} for m in chosen},
        "weights": {location(name).name: sha256_of(name) for name in needed},
        "versions": {package: found for package in packages if (found := version(package))},
    }


def _means(chosen: Sequence[Metric], notes: Mapping[str, Any]) -> str:
    parts = []
    for metric in chosen:
        if (value := notes["mean"][metric.name]) is not None:
            count = notes["infinite"].get(metric.name)
            left_out = f" ({count} infinite frames left out)" if count and math.isfinite(float(value)) else ""
            parts.append(f"{metric.name} {float(value):.4g}{left_out}")
    return "means: " + ", ".join(parts) if parts else "no means"


def _json_number(value: float) -> float | str | None:
    """JSON knows neither nan (undefined: null) nor infinity (a text)."""
    return None if math.isnan(value) else value if math.isfinite(value) else str(value)
