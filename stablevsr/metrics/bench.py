"""``stablevsr bench --metrics``: how much faster the evaluation is than a plain loop, and whether it says the same.

Both score the same files with the same networks in one run: the plain loop (:mod:`stablevsr.metrics.plain`) method by
method, the evaluation all methods in one pass, its check of every file included. Weights that are not here are replaced
by random ones of a fixed seed, which take as long and can be compared as well.
"""

from __future__ import annotations

import json
import math
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from stablevsr.data.downloads import weights
from stablevsr.data.frames import write_frame
from stablevsr.metrics.cache import PairCache
from stablevsr.metrics.chunks import Chunk
from stablevsr.metrics.evaluate import score_clips
from stablevsr.metrics.folders import Clip, pair_folders
from stablevsr.metrics.plain import plain_metrics, plain_scores
from stablevsr.metrics.registry import Metric, resolve
from stablevsr.metrics.scorers import FindWeights, Scorer, Values, build_scorers
from stablevsr.metrics.tables import Row
from stablevsr.metrics.weights import missing, missing_package
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import write_text

DEFAULT = ("psnr", "ssim", "psnr_y", "ssim_y", "lpips", "dists", "tlp", "tof", "tof_dis", "warp_error")
RANDOM = ("alexnet", "vgg16", "raft")  #: networks that can be had with random weights
#: Metrics that one scorer computes together, and that are timed together.
FAMILIES = (
    ("psnr", "ssim", "psnr_y", "ssim_y", "sharpness"),
    ("lpips", "tlp"),
    ("dists",),
    ("musiq",),
    ("clipiqa",),
    ("niqe",),
    ("tof_dis", "warp_error"),
    ("tof", "tof_raft_std"),
)
READING = "reading"
BATCH = 8  # what stablevsr evaluate takes unless told
SEED = 1


@dataclass(frozen=True)
class Work:
    """What is scored: ``sequences`` clips of ``frames`` frames of ``width`` x ``height``, of ``methods`` methods."""

    width: int
    height: int
    frames: int
    sequences: int
    methods: int


@dataclass(frozen=True)
class Part:
    """One family of metrics: seconds on both sides; all the rest of the work has its own part."""

    name: str
    plain: float
    ours: float

    @property
    def ratio(self) -> float:
        """How many times faster the evaluation is."""
        return self.plain / self.ours if self.ours > 0 else math.nan


@dataclass(frozen=True)
class Agreement:
    """How far the two sides are apart on one metric, over all frames and methods, in the registry's unit."""

    metric: str
    difference: float
    allowed: float  #: half of the last digit that tables show

    @property
    def equal(self) -> bool:
        """Whether a table could not show the difference."""
        return self.difference <= self.allowed


def bench_metrics(names: Sequence[str], work: Work, device: str, out: Path | None) -> str:
    """Time both sides; returns the report as text and writes ``out`` (JSON) if given.

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
    return "\n".join([f"{head} of {work.width}x{work.height}{made}", "", *_table(parts), "", *_said(agreements)])


def _require_possible(chosen: Sequence[Metric], work: Work) -> None:
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
    """Seconds by name; each call books the time since the last call or start."""

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
    """Score ``methods`` both ways; the last part is the whole. Networks are loaded, and used once, before the clock."""
    names = [metric.name for metric in chosen]
    scorers = build_scorers(names, PairCache(None), device, find)
    metrics = plain_metrics(names, device, find)
    clips = pair_folders(gt, methods)
    first = [_beginning(clips[0])]
    score_clips(first, 1, scorers, chosen, 1, device, progress=False)
    plain_scores(first[0], 0, metrics, chosen, device, lambda name: None)

    ours, plain = _Clock(device), _Clock(device)
    timed: list[Scorer] = [_Timed(scorer, ours) for scorer in scorers]
    scored: list[list[Row]] = [[] for _ in methods]
    expected: list[list[Row]] = [[] for _ in methods]
    ours.start()
    clips = pair_folders(gt, methods)
    ours(READING)
    for clip in tqdm(clips, unit="clip", disable=None):  # in turns, so that other jobs of the machine slow both sides
        ours.start()
        rows = score_clips([clip], len(methods), timed, chosen, BATCH, device, progress=False)
        ours(READING)
        plain.start()
        again = [plain_scores(clip, method, metrics, chosen, device, plain) for method in range(len(methods))]
        plain(READING)
        for method in range(len(methods)):
            scored[method] += rows[method]
            expected[method] += again[method]
    return _parts(names, plain.seconds, ours.seconds), _agreements(chosen, expected, scored)


def _beginning(clip: Clip) -> Clip:
    """The first two frames of the first method."""
    return Clip(clip.name, clip.stems[:2], clip.gt[:2], (clip.outputs[0][:2],), clip.size)


class _Timed:
    """A scorer whose seconds are booked under its family."""

    def __init__(self, scorer: Scorer, clock: _Clock) -> None:
        self.scorer, self.clock = scorer, clock

    def __call__(self, chunk: Chunk) -> dict[str, Values]:
        self.clock(READING)
        values = self.scorer(chunk)
        self.clock(_family(next(iter(values))))
        return values


def _family(name: str) -> str:
    return next(family for family in FAMILIES if name in family)[0]


def _parts(names: Sequence[str], plain: Mapping[str, float], ours: Mapping[str, float]) -> list[Part]:
    parts = []
    for family in FAMILIES:
        members = [name for name in family if name in names]
        if members:
            parts.append(Part(", ".join(members), sum(plain[name] for name in members), ours[family[0]]))
    parts.append(Part("reading and checking frames", plain[READING], ours[READING]))
    return [*parts, Part("all", sum(plain.values()), sum(ours.values()))]


def _agreements(
    chosen: Sequence[Metric], expected: Sequence[Sequence[Row]], scored: Sequence[Sequence[Row]]
) -> list[Agreement]:
    sides = [np.array([cells for rows in side for *_, cells in rows]) for side in (expected, scored)]
    found = []
    for index, metric in enumerate(chosen):
        a, b = (side[:, index] for side in sides)
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


def _said(agreements: Sequence[Agreement]) -> list[str]:
    apart = [agreement.metric for agreement in agreements if not agreement.equal]
    verdict = f"NOT equal in {', '.join(apart)}" if apart else "equal in every digit that tables show"
    largest = ", ".join(f"{a.metric} {a.difference:.1e}" for a in agreements)
    return [f"results of both sides: {verdict}; largest difference on a frame: {largest}"]
