"""Inference of one shard: sequences that are not done yet are read, upscaled and written; then the manifest.

Where nothing is left to do, and for methods that do not run on torch, no network is loaded.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from stablevsr.baselines.command import environment
from stablevsr.runtime.background import BackgroundWriter, prefetch
from stablevsr.runtime.locks import single_writer
from stablevsr.runtime.machine import hardware, machine_of_job
from stablevsr.runtime.records import write_record
from stablevsr.runtime.timing import StageTimer, peak_memory, reset_peak_memory
from stablevsr.study.inference.shards import Batch, BatchUpscaler, Progress, Shard, read
from stablevsr.study.inference.store import SequenceCost, identity, is_done, read_mark, sources, write_sequence
from stablevsr.study.inference.upscalers import NetworkPaths, Pipelines, batch_upscaler

if TYPE_CHECKING:
    from stablevsr.study.methods import Method

COST = ("seconds", "stages", "peak_memory_bytes", "hardware")  #: what a sequence cost, in its mark and the manifest
IO = "IO"  #: the stage of waiting for the background threads that read and write frames


def infer(
    method: Method,
    shard: Shard,
    seed: int,
    out: Path,
    manifest: Path,
    networks: NetworkPaths,
    batch: int,
    pipelines: Pipelines | None = None,
) -> None:
    """Make the frames of ``shard`` by ``method`` under ``out/<sequence>/`` and write ``manifest`` (JSON) at the end.

    Sequences that were finished earlier with the same settings, inputs and code are kept. ``pipelines`` is for further
    methods with the same networks, which are then not loaded again.
    """
    began = time.monotonic()
    batches = shard.batches(method.command.batch if method.command else batch)
    made_from = identity(method, seed, networks)
    files_of = partial(sources, method, shard.dataset)
    with single_writer(out / f".shard{shard.index}"):
        todo = [b for b in batches if not all(is_done(out / name, files_of(name, lr), made_from) for name, lr in b)]
        if todo:
            upscale = partial(batch_upscaler, method, shard.dataset, seed, networks, pipelines or Pipelines())
            _upscale(method, shard.dataset, out, networks.device, todo, made_from, upscale)
        marks = {name: read_mark(out / name) for b in batches for name, _ in b}
        report = {
            "method": method.identity(),
            "seed": seed,
            **_summary(marks),
            "seconds_this_run": round(time.monotonic() - began, 3),
            "device": networks.device,
            "batch": batch,
            "machine": machine_of_job(networks.device),
        }
        if method.command is not None:
            report["environment"] = environment()
        if todo and method.kind == "stablevsr":
            print(_idle(report["seconds"], report["stages"]), file=sys.stderr)
        write_record(manifest, report)


def _upscale(
    method: Method,
    dataset: str,
    out: Path,
    device: str,
    todo: list[Batch],
    made_from: str,
    load: Callable[[Progress, StageTimer], BatchUpscaler],
) -> None:
    reset_peak_memory(device)
    ran_on = hardware(device)
    steps = method.sampling.steps if method.sampling else 1
    total = sum(len(files) for b in todo for _, files in b) * steps
    bar = tqdm(total=total, unit="frame-step" if steps > 1 else "frame", desc=dataset, mininterval=2)
    with bar, BackgroundWriter() as writer:
        timer = StageTimer(device)
        upscale = load(bar.update, timer)
        # external frames need no LR frames
        lr = prefetch(read, todo) if method.kind != "frames" else repeat([])
        since = time.monotonic()
        for sequences in todo:
            with timer.stage(IO):
                frames_in = next(lr)
            for (name, files), frames in zip(sequences, upscale(sequences, frames_in), strict=True):
                with timer.stage(IO):
                    writer.wait()
                seconds, since = time.monotonic() - since, time.monotonic()
                cost = SequenceCost(seconds, timer.read(), peak_memory(device), ran_on)
                names, made_of = [file.stem for file in files], sources(method, dataset, name, files)
                writer.do(write_sequence, out / name, names, frames, made_of, made_from, cost)


def _summary(marks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Frames, hashes and costs of all sequences of a shard, and the seconds of sampling in total and by stage.

    An earlier job may have made some of them, on other hardware.
    """
    stages = sorted({stage for mark in marks.values() for stage in mark["stages"]})
    return {
        "sequences": {name: {key: mark[key] for key in ("frames", "sha256")} for name, mark in marks.items()},
        "costs": {name: {key: mark[key] for key in COST} for name, mark in marks.items()},
        "seconds": round(sum(mark["seconds"] for mark in marks.values()), 3),
        "stages": {stage: round(sum(m["stages"].get(stage, 0.0) for m in marks.values()), 3) for stage in stages},
    }


def _idle(seconds: float, stages: dict[str, float]) -> str:
    """The share of time outside the sampler's stages, as a sentence.

    A lower bound: within a stage a GPU may wait as well (for DIS flow, for noise drawn on the CPU).
    """
    busy = sum(spent for stage, spent in stages.items() if stage != IO)
    return f"the device had nothing to do at least {max(0.0, 1 - busy / seconds):.0%} of the time"
