"""``stablevsr evaluate``: the metrics of anybody's frames, one pass over them for all metrics and methods.

Order of work: metric names and weights are resolved, the input is checked file by file, networks are loaded, and only
then is anything computed. Each method gets a CSV file (one row a frame) and beside it ``FILE.csv.json``, which says how
the numbers were made, why a column is empty, and what the means are. Both appear whole or not at all, the CSV last.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from stablevsr.data.downloads import weights as weight_files
from stablevsr.metrics.cache import PairCache
from stablevsr.metrics.chunks import Chunk, read_chunks
from stablevsr.metrics.convolutions import WinogradConvolutions
from stablevsr.metrics.folders import Clip, pair_folders
from stablevsr.metrics.registry import Metric, resolve
from stablevsr.metrics.scorers import Scorer, Values, build_scorers
from stablevsr.metrics.tables import Row, format_scores, summarise
from stablevsr.metrics.weights import missing
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import write_text

PACKAGES = ("stablevsr", "torch", "torchvision", "opencv-python-headless", "lpips", "DISTS-pytorch", "pyiqa")


def evaluate(
    gt: Path,
    sr: Path,
    metrics: Sequence[str],
    out: Path,
    *,
    weights: Literal["require", "skip"] = "skip",
    sequences: Sequence[str] | None = None,
    cache: Path | None = None,
    device: str = "cpu",
    batch: int = 8,
    centre_only: bool = False,
    progress: bool = True,
) -> None:
    """Score the frames ``sr/sequence/frame.png`` against ``gt/sequence/frame.png`` and write ``out`` (CSV).

    Args:
        metrics: names of :data:`stablevsr.metrics.registry.METRICS`.
        weights: ``require`` stops if a metric's weights or package are missing, ``skip`` leaves its column empty and
            gives the reason in ``<out>.json`` and on stderr.
        sequences: only these; otherwise both folders must hold the same ones. Two folders of loose frames are one
            sequence, named like ``gt``.
        cache: folder for ground-truth flows and distances, shared by methods and safe between processes.
        batch: frames at a time; fewer for frames above 720p.
        centre_only: score the centre frame of each sequence only (Vimeo-90K-T); temporal metrics are then undefined.

    Raises :class:`UserError`, before any metric is computed, for unknown metrics, missing weights (``require``),
    damaged weights, and for every fault of the input that :func:`stablevsr.metrics.folders.pair_folders` finds.
    """
    evaluate_methods(
        gt,
        {out: sr},
        metrics,
        weights=weights,
        sequences=sequences,
        cache=cache,
        device=device,
        batch=batch,
        centre_only=centre_only,
        progress=progress,
    )


def evaluate_methods(
    gt: Path,
    methods: Mapping[Path, Path],
    metrics: Sequence[str],
    *,
    weights: Literal["require", "skip"] = "skip",
    sequences: Sequence[str] | None = None,
    cache: Path | None = None,
    device: str = "cpu",
    batch: int = 8,
    centre_only: bool = False,
    progress: bool = True,
) -> None:
    """As :func:`evaluate` for several methods (CSV file -> folder of frames) in one pass over the ground truth."""
    chosen = resolve(metrics)
    for out in methods:
        if out.is_dir():
            raise UserError(f"--out {out} is a folder: give the name of a CSV file")
    skipped = _unusable(chosen, weights)
    if centre_only:
        skipped |= {m.name: "only the centre frame of each sequence is scored" for m in chosen if m.temporal}
    usable = [metric for metric in chosen if metric.name not in skipped]
    clips = pair_folders(gt, list(methods.values()), sequences=sequences, centre_only=centre_only)
    _require_side(clips, usable)
    place = torch.device(device)
    scorers = build_scorers([metric.name for metric in usable], PairCache(cache), place)
    for name, reason in skipped.items():
        print(f"{name} is left empty: {reason}", file=sys.stderr)

    rows = score_clips(clips, len(methods), scorers, chosen, batch, place, progress=progress)
    for (out, sr), method_rows in zip(methods.items(), rows, strict=True):
        notes = _notes(gt, sr, chosen, skipped, clips, method_rows)
        write_text(Path(f"{out}.json"), json.dumps(notes, indent=2) + "\n")
        write_text(out, format_scores([metric.name for metric in chosen], method_rows))
        means = ", ".join(
            f"{m.name} {float(value):.{m.decimals}f}" for m in chosen if (value := notes["mean"][m.name]) is not None
        )
        print(f"{out}: {notes['frames']} frames; {means} (means and conventions: {out}.json)", file=sys.stderr)


def score_clips(
    clips: Sequence[Clip],
    methods: int,
    scorers: Sequence[Scorer],
    chosen: Sequence[Metric],
    batch: int,
    device: torch.device,
    *,
    progress: bool = True,
) -> list[list[Row]]:
    """One pass over the frames for all metrics and methods: for each method a row a frame, in the order of ``clips``.

    A metric of ``chosen`` that no scorer computes is nan, and so are temporal ones on the first frame of a sequence.
    """
    rows: list[list[Row]] = [[] for _ in range(methods)]
    bar = tqdm(total=sum(len(clip.stems) for clip in clips), unit="frame", disable=None if progress else True)
    with bar, torch.inference_mode(), WinogradConvolutions():
        for chunk in read_chunks(clips, batch, device):
            for method, row in _score(chunk, scorers, chosen):
                rows[method].append(row)
            bar.update(len(chunk))
    return rows


def _unusable(chosen: Sequence[Metric], weights: Literal["require", "skip"]) -> dict[str, str]:
    reasons = {metric.name: reason for metric in chosen if (reason := missing(metric))}
    if reasons and weights == "require":
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UserError(f"{len(reasons)} of {len(chosen)} metrics cannot be computed ({listed})")
    return reasons


def _require_side(clips: Sequence[Clip], metrics: Sequence[Metric]) -> None:
    for clip in clips:
        small = [metric for metric in metrics if min(clip.size) < metric.smallest]
        if small:
            needs = ", ".join(f"{metric.name} needs {metric.smallest}" for metric in small)
            raise UserError(
                f"the frames of sequence {clip.name} are {clip.size[0]}x{clip.size[1]} pixels, too small ({needs} "
                "pixels a side): leave these metrics out"
            )


def _score(chunk: Chunk, scorers: Sequence[Scorer], chosen: Sequence[Metric]) -> Iterator[tuple[int, Row]]:
    values: dict[str, Values] = {}
    for scorer in scorers:
        values |= scorer(chunk)
    empty = np.full((len(chunk.outputs), len(chunk)), math.nan)
    for method in range(len(chunk.outputs)):
        for frame, stem in enumerate(chunk.stems):
            cells = [float(values.get(metric.name, empty)[method, frame]) for metric in chosen]
            yield method, (chunk.sequence, stem, cells)


def _notes(
    gt: Path, sr: Path, chosen: Sequence[Metric], skipped: Mapping[str, str], clips: Sequence[Clip], rows: Sequence[Row]
) -> dict[str, Any]:
    names = [metric.name for metric in chosen]
    table = pd.DataFrame([(s, f, *cells) for s, f, cells in rows], columns=["sequence", "frame", *names])
    needed = {name for metric in chosen if metric.name not in skipped for name in metric.needs}
    return {
        "gt": str(gt),
        "sr": str(sr),
        "frames": len(table),
        "sequences": {clip.name: len(clip.stems) for clip in clips},
        "mean": {name: _json_number(value) for name, value in summarise(table, names).items()},
        "skipped": dict(skipped),
        "metrics": {m.name: {"convention": m.convention, "direction": m.direction, "scale": m.scale} for m in chosen},
        "weights": {weight_files.location(name).name: weight_files.digest(name) for name in sorted(needed)},
        "versions": _versions(),
    }


def _json_number(value: float) -> float | str | None:
    """JSON knows neither nan (undefined: null) nor infinity (a text)."""
    return None if math.isnan(value) else value if math.isfinite(value) else str(value)


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
