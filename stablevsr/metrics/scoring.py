"""Computes the chosen metrics of a chunk of frames, for all methods, as arrays in the unit of CSV files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stablevsr.metrics.chunks import Chunk
from stablevsr.metrics.fidelity import FramePair
from stablevsr.metrics.metric import ChunkScorer, Metric
from stablevsr.metrics.tools import Tools
from stablevsr.runtime.devices import granted_threads

Values = NDArray[np.float64]  #: (methods, frames) in the unit of CSV files, nan where undefined
Scorer = Callable[[Chunk], dict[str, Values]]


def build_scorers(chosen: Sequence[Metric], tools: Tools) -> list[Scorer]:
    """Load the networks of ``chosen`` and return functions that together compute them. UserError for bad weights."""
    on_frames = [metric for metric in chosen if metric.score_frame]
    scorers: list[Scorer] = [partial(_score_frames, on_frames)] if on_frames else []
    return scorers + [partial(_score_chunk, metric, metric.build(tools)) for metric in chosen if metric.build]


def _is_defined(metric: Metric, chunk: Chunk) -> bool:
    output = chunk.outputs[0]  # where the reference is LR frames, their size does not matter
    return min(output.shape[1:3]) >= metric.smallest and not (metric.temporal and len(output) == 1)


def _score_frames(metrics: Sequence[Metric], chunk: Chunk) -> dict[str, Values]:
    """Frames are scored in parallel on the CPU."""
    metrics = [metric for metric in metrics if _is_defined(metric, chunk)]

    def score(frames: tuple[str, NDArray[np.uint8], NDArray[np.uint8]]) -> list[float]:
        stem, pair = frames[0], FramePair(*frames[1:])
        return [
            metric.scale * metric.score_frame(pair) if metric.frames == "all" or stem == chunk.centre else math.nan
            for metric in metrics
            if metric.score_frame
        ]

    truth = chunk.gt[chunk.lead :]
    frames = [three for sr in chunk.outputs for three in zip(chunk.stems, truth, sr[chunk.lead :], strict=True)]
    with ThreadPoolExecutor(granted_threads()) as pool:
        columns = np.array(list(pool.map(score, frames))).reshape(len(chunk.outputs), len(chunk), len(metrics))
    return {metric.name: columns[..., index] for index, metric in enumerate(metrics)}


def _score_chunk(metric: Metric, score: ChunkScorer, chunk: Chunk) -> dict[str, Values]:
    """A metric may return values for the lead, which are dropped, or none for the first frame, which is nan."""
    import torch

    values = np.full((len(chunk.outputs), len(chunk)), np.nan)
    if _is_defined(metric, chunk):
        for row, result in zip(values, score(chunk), strict=True):
            found = torch.as_tensor(result).double().cpu().numpy()[-len(row) :]
            row[len(row) - len(found) :] = metric.scale * found
    return {metric.name: values}
