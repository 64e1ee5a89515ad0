"""Is one method better than another, and how sure is that? Bootstrap intervals for means and paired differences.

Neighbouring frames are alike, so single frames are no independent samples: windows of consecutive frames are resampled
within each clip, and with them the clips (if there is more than one) and the random seeds. Within a resample the mean
is taken as in the tables: over the frames of a clip, then over clips with equal weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stablevsr.data.frames import natural_key
from stablevsr.runtime.errors import UserError

Floats = NDArray[np.float64]
KEYS = ["sequence", "frame", "seed"]
COVERAGE = (0.025, 0.975)
BLOCK = 2**17  # numbers held at once while resampling


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval and what it rests on; nan bounds where there is nothing to resample."""

    mean: float
    low: float
    high: float
    n_frames: int
    n_windows: int
    n_clips: int
    n_seeds: int


@dataclass(frozen=True)
class PairedDifference(Interval):
    """The mean of a - b over the frames and seeds that both have, with its interval."""


def paired_bootstrap(
    a: pd.DataFrame, b: pd.DataFrame, metric: str, *, window: int = 4, resamples: int = 10_000, seed: int = 0
) -> PairedDifference:
    """How much larger ``metric`` is for ``a`` than for ``b``, with a 95 % interval.

    Args:
        a, b: one row a frame with columns sequence, frame, ``metric`` and, if there are several, seed. Frames are
            paired by sequence, frame and seed; those that one side lacks (a seed, say) or where the metric is undefined
            on either side are left out.
        window: consecutive frames that are resampled together.
        seed: of the resampling.

    Raises :class:`UserError` if a column is missing, a frame occurs twice, or nothing can be paired.
    """
    paired = pd.concat([_column(a, metric), _column(b, metric)], axis=1, join="inner", keys=["a", "b"])
    with np.errstate(invalid="ignore"):  # inf - inf, where both equal the ground truth, is undefined
        difference = paired["a"] - paired["b"]
    if difference.isna().all():
        raise UserError(f"no frame has {metric} in both tables: nothing can be compared")
    return PairedDifference(**vars(_bootstrap(difference, window, resamples, seed)))


def interval(table: pd.DataFrame, metric: str, *, window: int = 4, resamples: int = 10_000, seed: int = 0) -> Interval:
    """The mean of ``metric`` over frames, then over sequences, with a 95 % interval; arguments and errors as above."""
    values = _column(table, metric)
    if values.isna().all():
        raise UserError(f"no frame has {metric}: nothing can be averaged")
    return _bootstrap(values, window, resamples, seed)


def _column(table: pd.DataFrame, metric: str) -> pd.Series:
    """One metric, indexed by sequence, frame (both text) and seed (0 where the table has none)."""
    absent = [name for name in ("sequence", "frame", metric) if name not in table.columns]
    if absent:
        raise UserError(f"the table of scores has no column '{absent[0]}': it has {', '.join(map(str, table.columns))}")
    index = [table["sequence"].astype(str), table["frame"].astype(str), table.get("seed", 0)]
    values = pd.Series(
        table[metric].to_numpy(np.float64),
        pd.MultiIndex.from_frame(pd.DataFrame(dict(zip(KEYS, index, strict=True)), index=table.index)),
    )
    twice = values.index[values.index.duplicated()]
    if len(twice):
        sequence, frame, seed = twice[0]
        raise UserError(f"frame {frame} of sequence {sequence}, seed {seed}, occurs twice in the table of scores")
    return values


@dataclass(frozen=True)
class _Cells:
    """Sums and counts of the defined values in each (clip, window, seed), padded with zeros to the longest clip."""

    sums: Floats
    counts: Floats
    windows: NDArray[np.int64]  # of each clip


def _bootstrap(values: pd.Series, window: int, resamples: int, seed: int) -> Interval:
    cells, frames = _cells(values, window)
    clips, _, seeds = cells.sums.shape
    mean = float(_clip_means(cells.sums.sum((1, 2)), cells.counts.sum((1, 2))))
    low = high = math.nan
    if clips > 1 or seeds > 1 or cells.windows.sum() > 1:
        means = np.concatenate(list(_resample(cells, resamples, np.random.default_rng(seed))))
        drawn = means[~np.isnan(means)]  # no drawn clip may have a value for the drawn seeds
        # no interpolation: it would make nan of two infinite means
        low, high = (float(bound) for bound in np.quantile(drawn, COVERAGE, method="inverted_cdf"))
    return Interval(mean, low, high, frames, int(cells.windows.sum()), clips, seeds)


def _cells(values: pd.Series, window: int) -> tuple[_Cells, int]:
    """The cells of all clips, and the number of different frames with a defined value.

    Windows are counted from the first frame of a clip, whether its value is defined or not; empty ones are left out.
    """
    table = values.rename("value").reset_index()
    place = {
        key: index // window
        for clip, frames in table.groupby("sequence", sort=False)["frame"]
        for index, key in enumerate((clip, f) for f in sorted(frames.unique(), key=lambda f: natural_key(Path(f))))
    }
    table["window"] = [place[key] for key in zip(table["sequence"], table["frame"], strict=True)]
    table = table.dropna(subset="value")
    table["window"] = table.groupby("sequence")["window"].transform(lambda w: pd.factorize(w, sort=True)[0])
    axes = (
        pd.factorize(table["sequence"])[0],
        table["window"].to_numpy(),
        pd.factorize(table["seed"], sort=True)[0],
    )
    shape = [int(axis.max()) + 1 for axis in axes]
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, axes, table["value"].to_numpy())
    np.add.at(counts, axes, 1.0)
    windows = (counts.sum(2) > 0).sum(1)
    return _Cells(sums, counts, windows), len(table[["sequence", "frame"]].drop_duplicates())


def _resample(cells: _Cells, resamples: int, random: np.random.Generator) -> Iterator[Floats]:
    """Means of resampled data, block by block.

    Clips are drawn with replacement; for each drawn clip its windows, anew; seeds once for all clips of a resample,
    because a seed may stand for one training that all clips share.
    """
    clips, longest, seeds = cells.sums.shape
    block = max(1, BLOCK // cells.sums.size)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        clip = random.integers(clips, size=(rows, clips))
        available = cells.windows[clip][..., None]
        drawn = (random.random((rows, clips, longest)) * available).astype(np.int64)
        real = (np.arange(longest) < available)[..., None]
        seed = random.integers(seeds, size=(rows, 1, 1, seeds))
        choice = ((clip[..., None] * longest + drawn) * seeds)[..., None] + seed
        sums, counts = (np.where(real, cell.take(choice), 0.0).sum((2, 3)) for cell in (cells.sums, cells.counts))
        yield _clip_means(sums, counts)


def _clip_means(sums: Floats, counts: Floats) -> Floats:
    """Mean of each clip, then over clips; a clip without a value for the drawn seeds is left out."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / counts
        present = counts > 0
        total: Floats = np.where(present, means, 0.0).sum(-1) / present.sum(-1)
    return total
