"""How much faster ``stablevsr evaluate`` is than a plain loop over frames and metrics, and whether both agree.

    python benchmarks/metrics.py [--metrics psnr,lpips] [--device cuda] [--out FILE.json]

Both score the same files with the same networks in one run: the plain loop (plain_metrics.py) one method after another,
the evaluation all methods in one pass, including its check of every file. Weights that are not on this machine are
replaced by random ones with a fixed seed, which changes neither the time nor the comparison.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from plain_metrics import plain_metrics, plain_scores
from torch import nn

from stablevsr.data.downloads import weights
from stablevsr.data.frames import write_frame
from stablevsr.metrics.chunks import Chunk
from stablevsr.metrics.evaluate import score_frames
from stablevsr.metrics.folders import FramePaths, pair_folders
from stablevsr.metrics.metric import Metric
from stablevsr.metrics.registry import METRICS, missing, missing_package, resolve
from stablevsr.metrics.scoring import Scorer, Values, build_scorers
from stablevsr.metrics.tools import FindWeights, Tools
from stablevsr.runtime.devices import device_of
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import write_text
from stablevsr.runtime.torch_settings import configure_torch

RANDOM = ("alexnet", "vgg16", "raft")  #: networks that can be built with random weights
READING = "reading and checking frames"
BATCH = 8  # the default of stablevsr evaluate
SEED = 1


@dataclass(frozen=True)
class Work:
    """``sequences`` clips of ``frames`` frames of ``width`` x ``height`` pixels, from ``methods`` methods."""

    width: int
    height: int
    frames: int
    sequences: int
    methods: int


@dataclass(frozen=True)
class Part:
    """Seconds on both sides of a group of metrics, of reading frames, or of everything."""

    name: str
    plain: float
    ours: float

    @property
    def ratio(self) -> float:
        """How many times faster the evaluation is than the plain loop."""
        return self.plain / self.ours if self.ours > 0 else math.nan


@dataclass(frozen=True)
class Agreement:
    """The largest difference between the two sides on one metric, over all frames and methods, in its unit."""

    metric: str
    difference: float
    allowed: float  #: half of the last digit that tables show

    @property
    def equal(self) -> bool:
        """Whether a table could not show the difference."""
        return self.difference <= self.allowed


def benchmark(names: Sequence[str], work: Work, device: str, out: Path | None) -> str:
    """Time both sides; returns the report as text and writes ``out`` (JSON) unless it is None.

    Raises :class:`UserError` for unknown metrics, metrics whose packages or weights are missing and cannot be replaced
    by random ones, and frames too small for a metric.
    """
    chosen = resolve(names)
    _require_possible(chosen, work)
    place = torch.device(device)
    with tempfile.TemporaryDirectory(prefix="stablevsr-bench-") as name:
        folder = Path(name)
        methods = make_frames(folder, work)
        find, random = find_or_make(chosen, folder)
        parts, agreements = compare(folder / "gt", methods, chosen, place, find)
    machine = (
        f"{platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    content = {
        "machine": machine,
        "device": device,
        "work": asdict(work),
        "random_weights": random,
        "ratio": parts[-1].ratio,
        "parts": [asdict(part) | {"ratio": part.ratio} for part in parts],
        "metrics": [asdict(agreement) | {"equal": agreement.equal} for agreement in agreements],
    }
    if out is not None:
        write_text(out, json.dumps(content, indent=1) + "\n")
    made = f", random weights for {', '.join(random)}" if random else ""
    head = f"{machine}, {device}; {work.methods} methods, {work.sequences} clips of {work.frames} frames"
    return "\n".join([f"{head} of {work.width}x{work.height}{made}", "", *_table(parts), "", _verdict(agreements)])


def _require_possible(chosen: Sequence[Metric], work: Work) -> None:
    if min(work.frames, work.sequences, work.methods) < 1:
        raise UserError("there must be at least one frame, sequence and method")
    for metric in chosen:
        replaceable = set(metric.needs) <= set(RANDOM)
        reason = missing_package(metric) if replaceable else missing(metric)
        if reason:
            raise UserError(f"{metric.name} cannot be timed: {reason}")
        if min(work.width, work.height) < metric.smallest:
            raise UserError(f"--size {work.width}x{work.height} is too small: {metric.name} needs {metric.smallest}")


def make_frames(folder: Path, work: Work) -> list[Path]:
    """Write ``folder/gt`` and one folder a method: a texture of several scales that pans, and noisy copies of it."""
    random = np.random.default_rng(SEED)
    for sequence in range(work.sequences):
        wide = _texture(random, work.height + 2 * work.frames, work.width + 3 * work.frames)
        for frame in range(work.frames):
            view = wide[2 * frame :, 3 * frame :][: work.height, : work.width]
            name = f"{sequence:03d}/{frame:05d}.png"
            write_frame(folder / "gt" / name, _levels(view))
            for method in range(work.methods):
                noise = 0.01 * (1 + method) * random.standard_normal(view.shape)
                write_frame(folder / f"method{method}" / name, _levels(view + noise))
    return [folder / f"method{method}" for method in range(work.methods)]


def _texture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(int(random.integers(2**31)))
    octaves = [torch.rand(1, 3, -(-height // step), -(-width // step), generator=generator) for step in (64, 16, 4)]
    resized = [nn.functional.interpolate(octave, size=(height, width), mode="bicubic") for octave in octaves]
    return torch.cat(resized).mean(0).permute(1, 2, 0).numpy()


def _levels(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(255 * image), 0, 255).astype(np.uint8)


def find_or_make(chosen: Sequence[Metric], folder: Path) -> tuple[FindWeights, list[str]]:
    """Where each network's weights are, and which of them are random: those not on this machine, made in ``folder``."""
    needed = {name for metric in chosen for name in metric.needs}
    absent = sorted(name for name in needed if not weights.location(name).is_file())
    for name in absent:
        _make_random(name, folder / f"{name}.pth")
    return lambda name: folder / f"{name}.pth" if name in absent else weights.weight_file(name), absent


def _make_random(name: str, file: Path) -> None:
    import torchvision

    build = torchvision.models.optical_flow.raft_large if name == "raft" else getattr(torchvision.models, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = build(weights=None)
    state = network.state_dict()
    torch.save({key: value for key, value in state.items() if not key.startswith("classifier.")}, file)


class _Clock:
    """Seconds by name; each call adds the time since the last call or start."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.start()

    def start(self) -> None:
        self.last = self._now()

    def __call__(self, name: str) -> None:
        now = self._now()
        self.seconds[name] += now - self.last
        self.last = now

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def compare(
    gt: Path, methods: Sequence[Path], chosen: Sequence[Metric], device: torch.device, find: FindWeights
) -> tuple[list[Part], list[Agreement]]:
    """Score ``methods`` both ways; the last part is the total. Networks are loaded and used once before timing."""
    names = [metric.name for metric in chosen]
    tools = Tools(device, find=find)
    scorers = build_scorers(chosen, tools)
    metrics = plain_metrics(names, device, find)
    paths = pair_folders(gt, methods)[0]
    start = FramePaths(paths.name, paths.stems[:2], paths.reference[:2], (paths.outputs[0][:2],), paths.size)
    score_frames([start], 1, scorers, chosen, 1, device)
    plain_scores(start, 0, metrics, chosen, device, lambda name: None)

    ours, plain = _Clock(device), _Clock(device)
    timed: list[Scorer] = [_Timed(scorer, ours) for scorer in scorers]
    scored: list[np.ndarray] = []
    expected: list[np.ndarray] = []
    ours.start()
    sequences = pair_folders(gt, methods)
    ours(READING)
    for paths in sequences:  # alternately, so that other jobs on the machine slow both sides
        ours.start()
        tables = score_frames([paths], len(methods), timed, chosen, BATCH, device)
        ours(READING)
        plain.start()
        again = [plain_scores(paths, method, metrics, chosen, device, plain) for method in range(len(methods))]
        plain(READING)
        scored += [table[names].to_numpy() for table in tables]
        expected += again
    return _parts(chosen, plain.seconds, ours.seconds), _agreements(chosen, *map(np.concatenate, (expected, scored)))


class _Timed:
    """A scorer whose seconds are added to those of the metrics that are computed together."""

    def __init__(self, scorer: Scorer, clock: _Clock) -> None:
        self.scorer, self.clock = scorer, clock

    def __call__(self, chunk: Chunk) -> dict[str, Values]:
        self.clock(READING)
        values = self.scorer(chunk)
        self.clock(_together(METRICS[next(iter(values))]))
        return values


def _together(metric: Metric) -> str:
    """The group in which a metric is timed: all metrics of single frames, or those of a file with equal weights."""
    return "frames" if metric.score_frame else " ".join([metric.build.__module__, *metric.needs])


def _parts(chosen: Sequence[Metric], plain: Mapping[str, float], ours: Mapping[str, float]) -> list[Part]:
    members: dict[str, list[str]] = defaultdict(list)
    for metric in chosen:
        members[_together(metric)].append(metric.name)
    parts = [Part(", ".join(n), sum(plain[name] for name in n), ours[key]) for key, n in members.items()]
    parts.append(Part(READING, plain[READING], ours[READING]))
    return [*parts, Part("all", sum(plain.values()), sum(ours.values()))]


def _agreements(chosen: Sequence[Metric], expected: np.ndarray, scored: np.ndarray) -> list[Agreement]:
    """``expected`` and ``scored``: a row a frame and method, a column a metric."""
    found = []
    for metric, a, b in zip(chosen, expected.T, scored.T, strict=True):
        defined = ~(np.isnan(a) & np.isnan(b)) & (a != b)  # equal infinities differ by nan
        with np.errstate(invalid="ignore"):
            difference = float(np.abs(a - b)[defined].max(initial=0.0))
        found.append(Agreement(metric.name, difference, 0.5 * 10.0**-metric.decimals))
    return found


def _table(parts: Sequence[Part]) -> list[str]:
    width = max(len(part.name) for part in parts)
    lines = [f"{'':<{width}}  plain loop  evaluate   ratio"]
    lines += [f"{p.name:<{width}}  {p.plain:8.2f} s {p.ours:7.2f} s {p.ratio:6.2f}x" for p in parts]
    return lines


def _verdict(agreements: Sequence[Agreement]) -> str:
    apart = [agreement.metric for agreement in agreements if not agreement.equal]
    verdict = f"NOT equal in {', '.join(apart)}" if apart else "equal in every digit that tables show"
    largest = ", ".join(f"{a.metric} {a.difference:.1e}" for a in agreements)
    return f"results of both sides: {verdict}; largest difference on a frame: {largest}"


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 and a sentence on stderr."""
    every_frame = {name: metric for name, metric in METRICS.items() if metric.frames == "all"}
    replaceable = [name for name, metric in every_frame.items() if set(metric.needs) <= set(RANDOM)]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--metrics", default=",".join(replaceable), help="comma-separated (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("W", "H"), help="of a frame")
    parser.add_argument("--frames", type=int, default=5, help="of a sequence (default: 5)")
    parser.add_argument("--sequences", type=int, default=2, help="(default: 2)")
    parser.add_argument("--methods", type=int, default=5, help="(default: 5)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the figures there")
    chosen = parser.parse_args(arguments)
    work = Work(*chosen.size, chosen.frames, chosen.sequences, chosen.methods)
    configure_torch()
    try:
        print(benchmark(chosen.metrics.split(","), work, device_of(chosen.device), chosen.out))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
