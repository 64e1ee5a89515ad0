"""What a study will cost before anything runs: downloads, jobs, frame-steps, disk, hours of a GPU.

FLOPs: the full-size networks at 320x180 need 3.99 (UNet), 1.56 (TCM) and 15.7 TFLOP (VAE decoder) a frame-step,
counted by hooks on the released widths; multiply-adds count as two. All of it grows with the frame's area but the
decoder's one attention layer (6.8 of its 15.7), which grows with the area's square.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from stablevsr.data.downloads import registry
from stablevsr.data.downloads.download import human
from stablevsr.data.downloads.record import is_present
from stablevsr.data.frames import read_frame
from stablevsr.data.layouts import load_sequences
from stablevsr.method.visits import guided_steps
from stablevsr.runtime.errors import UserError
from stablevsr.study.downloads import all_downloads
from stablevsr.study.files import Dataset
from stablevsr.study.methods import Method, ResolvedStudy, TrainingRun
from stablevsr.study.paths import Paths
from stablevsr.training.tasks import KINDS

UNET, TCM, DECODER, ATTENTION, SMALL_DECODER = 3.99, 1.56, 15.7 - 6.8, 6.8, 0.5  #: TFLOP at 320x180
AREA = 320 * 180
UNET_PARAMETERS, TCM_PARAMETERS = 472.4e6, 207.7e6
COPIED_PARAMETERS = 395e6  #: VAE and text encoder, which a fine-tuned model copies
PNG_BYTES = 1.7  #: of an x4 pixel of detailed video, as PNG (REDS: 34.3 GB for 24,000 frames of 1280x720)


@dataclass(frozen=True)
class Extent:
    """How large a test set is: sequences, frames of each, LR size."""

    sequences: int
    frames: int
    height: int
    width: int

    @property
    def area(self) -> int:
        """LR pixels of a frame."""
        return self.height * self.width

    @property
    def total(self) -> int:
        """Frames of all sequences."""
        return self.sequences * self.frames


def plan(study: ResolvedStudy, paths: Paths, data: Path, tflops: float) -> str:
    """The whole plan as text. ``tflops`` is what the GPU reaches in this work, not its data sheet's figure."""
    rows = [registry.get(name) for name in all_downloads(study)]
    missing = [row for row in rows if not is_present(row.name, data)]
    lines = [f"study {study.name}: {study.spec.title}", "", *_downloads(rows, missing), "", *_jobs(study, paths), ""]
    extents = {name: _extent(spec) for name, spec in study.spec.datasets.items()}
    known = {name: extent for name, extent in extents.items() if extent}
    lines += [f"size of {name} is not known before it is made" for name in extents if name not in known]
    frames, steps, work = _sampling(study, paths, known)
    pixels = sum(known[name].area * 16 * count for name, count in frames.items())
    free = shutil.disk_usage(_existing(paths.work)).free
    if known:
        count = f"{sum(frames.values()):,} ({steps:,} frame-steps)"
        lines.append(f"frames to make: {count}, about {human(pixels * PNG_BYTES)}")
    needed = pixels * PNG_BYTES + registry.room(missing) + _trained_bytes(study, paths)
    lines.append(f"disk: about {human(needed)} needed, {human(free)} free{': TOO LITTLE' if needed > free else ''}")
    if study.spec.model == "tiny":
        return "\n".join([*lines, "time: the tiny model's; no GPU is wanted"])
    training = sum(_training_work(run) for run in study.trainings().values() if not _trained(paths, run).exists())
    for what, amount in (("sampling", work), ("training", training)):
        lines.append(f"{what}: {amount:,.0f} TFLOP, {amount / tflops / 3600:,.1f} GPU-hours at {tflops:g} TFLOP/s")
    return "\n".join(lines)


def _downloads(rows: list[registry.Row], missing: list[registry.Row]) -> list[str]:
    """One line a download, and the sum of what is not here."""
    shown = [f"  {row.name:<26} {human(row.bytes):>9}  {'to fetch' if row in missing else 'here'}" for row in rows]
    return [f"downloads: {human(sum(row.bytes for row in missing))} to fetch" if rows else "downloads: none", *shown]


def _jobs(study: ResolvedStudy, paths: Paths) -> list[str]:
    """Jobs by kind, all and still to do (by the files that are there; Snakemake also looks at what changed)."""
    count: Counter[str] = Counter()
    done: Counter[str] = Counter()

    def job(kind: str, output: Path) -> None:
        count[kind] += 1
        done[kind] += output.exists()

    for name in study.spec.datasets:
        job("test sets", paths.dataset(name) / "manifest.json")
    for run in study.trainings().values():
        job(f"trainings of a {KINDS[run.kind]}", _trained(paths, run))
    for samples in {paths.samples(run) for run in study.trainings().values()}:
        if samples:
            job("sets of cached samples", samples)
    for name, spec in study.spec.datasets.items():
        for key in study.by_digest(name):
            for seed in study.seeds(key, name):
                for shard in range(spec.shards):
                    job("shards of frames", paths.manifest(name, key, seed, shard))
                    job("shards of scores", paths.scores(name, key, seed, shard))
    for method in study.methods.values():
        for name in method.datasets:
            job("tables of scores", paths.table(name, method.name))
    return ["jobs (to do of all)", *(f"  {kind:<26} {count[kind] - done[kind]:>5} of {count[kind]}" for kind in count)]


def _extent(spec: Dataset) -> Extent | None:
    """Size of a test set from its files, else from what is published of it; None if neither is there."""
    try:
        sequences = load_sequences(spec.layout, spec.root, spec.split)
        height, width = read_frame(sequences[0].gt[0]).shape[:2]
        found = Extent(len(sequences), len(sequences[0].gt), height // 4, width // 4)
    except UserError:
        published = _published(spec)
        if published is None:
            return None
        found = published
    count = len(spec.sequences) if spec.sequences is not None else found.sequences
    frames = -(-found.frames // spec.every)
    return Extent(count, min(frames, spec.frames or frames), found.height, found.width)


def _published(spec: Dataset) -> Extent | None:
    """The largest contents (the ground truth) among a set's downloads."""
    contents = [part for name in spec.fetch for part in registry.get(name).contents]
    if not contents:
        return None
    largest = max(contents, key=lambda part: part.width)
    count = len(largest.named()) or largest.lists["sep_testlist.txt"]
    return Extent(count, largest.frames, largest.height // 4, largest.width // 4)


def _sampling(study: ResolvedStudy, paths: Paths, extents: dict[str, Extent]) -> tuple[dict[str, int], int, float]:
    """Frames to make by dataset, frame-steps, and TFLOP of all shards that are not there."""
    frames: Counter[str] = Counter()
    steps, work = 0, 0.0
    for name, extent in extents.items():
        shards = study.spec.datasets[name].shards
        for key, method in study.by_digest(name).items():
            missing = sum(
                not paths.manifest(name, key, seed, shard).exists()
                for seed in study.seeds(key, name)
                for shard in range(shards)
            )
            made = extent.total * missing // shards
            frames[name] += made
            if method.sampling:
                steps += made * method.sampling.steps
                work += made * _frame_work(method, extent.area)
    return frames, steps, work


def _frame_work(method: Method, area: int) -> float:
    """TFLOP of one frame, all its steps and the final decoding."""
    assert method.sampling is not None
    ratio = area / AREA
    decode = DECODER * ratio + ATTENTION * ratio**2
    work = method.sampling.steps * UNET * ratio + decode
    if method.guidance is not None:
        guided = TCM * ratio + (0 if method.guidance.source == "none" else decode)
        if method.decoder is not None:
            guided = (TCM + SMALL_DECODER) * ratio
        work += len(guided_steps(method.sampling)) * guided
    return work


def _training_work(run: TrainingRun) -> float:
    """TFLOP of a training: what is frozen forward, what is trained forward and backward (three times as much).

    A TCM's gradients also pass through the UNet. Encoding the crops is left out, about a tenth of a UNet's training.
    """
    ratio = (run.settings.crop // 4) ** 2 / AREA
    decoded = DECODER * ratio + ATTENTION * ratio**2
    a_sample = {
        "unet": 3 * UNET * ratio,
        "tcm": UNET * ratio + decoded + 3 * TCM * ratio + 2 * UNET * ratio,
        "decoder": UNET * ratio + decoded + 3 * SMALL_DECODER * ratio,
    }
    return run.settings.steps * run.settings.batch * a_sample[run.kind]


def _trained_bytes(study: ResolvedStudy, paths: Paths) -> float:
    """What trainings at full size leave on the disk: float32 weights, and a state of three times as much."""
    if study.spec.model == "tiny":
        return 0.0
    size = {"unet": 4 * UNET_PARAMETERS + COPIED_PARAMETERS, "tcm": 4 * TCM_PARAMETERS, "decoder": 0.0}
    return sum(4 * size[run.kind] for run in study.trainings().values() if not _trained(paths, run).exists())


def _trained(paths: Paths, run: TrainingRun) -> Path:
    return paths.training(run) / "provenance.json"


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.absolute().parent
    return path
