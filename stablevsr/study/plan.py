"""``stablevsr plan``: what a study will cost, before anything runs: downloads, jobs, frame-steps, disk, GPU-hours.

FLOPs of the full-size networks were counted by hooks (a multiply-add is two). They grow with the frame's area; those of
the decoder's one attention layer grow with the square of the area.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from stablevsr.data.downloads import registry
from stablevsr.data.downloads.download import human
from stablevsr.data.downloads.record import is_present
from stablevsr.data.frames import read_frame
from stablevsr.data.layouts import load_sequences
from stablevsr.method.settings import Training
from stablevsr.method.strategies import has_finished_neighbours
from stablevsr.method.visits import guided_steps
from stablevsr.runtime.errors import UserError
from stablevsr.study.files import Dataset
from stablevsr.study.groups import groups, owner, sampled_with, tables
from stablevsr.study.memory import crops_at_once, sampling_memory, training_memory
from stablevsr.study.methods import Method, ResolvedStudy, TrainingRun
from stablevsr.study.paths import Paths, existing_folder
from stablevsr.study.requirements import all_downloads
from stablevsr.training.tasks import TRAINING_KINDS

#: TFLOP of a frame-step at 320x180; those of the VAE's encoder and decoder are without their attention layer.
UNET, TCM, ENCODER, DECODER, ATTENTION, SMALL_DECODER = 3.99, 1.56, 11.2 - 6.8, 15.7 - 6.8, 6.8, 0.5
AREA = 320 * 180
#: Disk of a training by kind, 4 times its weights because of the resume states. A parameter takes 4 bytes; a fine-tuned
#: UNet (472.4 million) comes with copies of VAE and text encoder (395 million bytes). The small decoder is negligible.
TRAINED_BYTES = {"unet": 4 * (4 * 472.4e6 + 395e6), "tcm": 4 * 4 * 207.7e6, "decoder": 0.0}
PNG_BYTES = 1.7  #: of an x4 pixel of detailed video, as PNG (REDS: 34.3 GB for 24,000 frames of 1280x720)
FLOW_BYTES = 8  #: a pixel of a cached flow
#: The metrics that share cached flows of the ground truth, by estimator.
SHARING_FLOW = ({"tof"}, {"tof_raft_std"}, {"tof_dis", "warp_error"})


@dataclass(frozen=True)
class Extent:
    """Size of a test set: sequences, frames of each, LR pixels of a frame's sides."""

    sequences: int
    frames: int
    height: int
    width: int

    @property
    def area(self) -> int:
        """LR pixels of a frame."""
        return self.height * self.width


def plan(study: ResolvedStudy, paths: Paths, data: Path, tflops: float) -> str:
    """The whole plan as text. ``tflops`` is what the GPU reaches in this work, not its data sheet's figure."""
    rows = [registry.get(name) for name in all_downloads(study)]
    missing = [row for row in rows if not is_present(row.name, data)]
    fetched = f"{human(sum(row.bytes for row in missing))} to fetch" if rows else "none"
    lines = [f"study {study.name}: {study.spec.title}", "", f"downloads: {fetched}"]
    lines += [f"  {row.name:<26} {human(row.bytes):>9}  {'to fetch' if row in missing else 'here'}" for row in rows]
    lines += ["", *_jobs(study, paths), ""]
    extents = {name: _extent(spec) for name, spec in study.spec.datasets.items()}
    known = {name: extent for name, extent in extents.items() if extent}
    lines += [f"the size of {name} is not known before it is made" for name in extents if name not in known]
    frames, steps, work = _sampling(study, paths, known, set(study.methods))
    pixels = sum(known[name].area * 16 * count for name, count in frames.items())
    free = shutil.disk_usage(existing_folder(paths.work)).free
    if known:
        count = f"{sum(frames.values()):,} ({steps:,} frame-steps)"
        lines.append(f"frames to make: {count}, about {human(pixels * PNG_BYTES)}")
    untrained = [run for run in study.trainings().values() if not (paths.training(run) / "provenance.json").exists()]
    weights = 0.0 if study.spec.model == "tiny" else sum(TRAINED_BYTES[run.kind] for run in untrained)
    needed = pixels * PNG_BYTES + registry.room(missing) + weights + _flow_cache(study, paths, known)
    lines.append(f"disk: about {human(needed)} needed, {human(free)} free{': TOO LITTLE' if needed > free else ''}")
    if study.spec.model == "tiny":
        return "\n".join([*lines, "time: not estimated for the tiny model, which needs no GPU"])
    for what, amount in (("sampling", work), ("training", sum(map(_training_work, untrained)))):
        lines.append(f"{what}: {amount:,.0f} TFLOP, {amount / tflops / 3600:,.1f} GPU-hours at {tflops:g} TFLOP/s")
    lines += ["", *_by_table(study, paths, known, tflops), "", *_memory(study, known)]
    return "\n".join(lines)


def _flow_cache(study: ResolvedStudy, paths: Paths, extents: dict[str, Extent]) -> int:
    """Bytes of the cached flows of the ground truth in sets that have frames to score."""
    estimators = sum(bool(metrics & set(study.spec.metrics)) for metrics in SHARING_FLOW)
    pairs: dict[tuple[Path, int], int] = {}  # pixels of the flows: sets with the same pairs of frames share them
    for name, extent in extents.items():
        spec = study.spec.datasets[name]
        tables = [
            paths.scores(name, form.digest, form.run, shard)
            for form in study.forms_on(name)
            for shard in range(spec.shards)
        ]
        if not all(table.exists() for table in tables):
            count = extent.sequences * (extent.frames - 1) * extent.area * 16
            key = (spec.root, spec.every)
            pairs[key] = max(pairs.get(key, 0), count)
    return FLOW_BYTES * estimators * sum(pairs.values())


def _by_table(study: ResolvedStudy, paths: Paths, extents: dict[str, Extent], tflops: float) -> Iterator[str]:
    """The GPU-hours of each table alone: of its rows and of all trainings that these need."""
    yield f"GPU-hours of one table alone (what tables share counts in each; {tflops:g} TFLOP/s):"
    tables_of: dict[str, tuple[list[str], tuple[str, ...]]] = {
        f"Table 1, {name}": ([m.name for m in study.table1()], (name,)) for name in study.table1_datasets()
    }
    for name in study.ablations:
        rows = [method.name for method in study.ablation_methods(name).values()]
        tables_of[name] = (rows, study.ablation_datasets(name))
    for title, (rows, datasets) in tables_of.items():
        forms = [form for name in datasets for form in study.forms_on(name) if form.name in rows]
        trainings = {run.digest: run for form in forms for run in form.trainings()}.values()
        missing = [run for run in trainings if not (paths.training(run) / "provenance.json").exists()]
        chosen = {name: extents[name] for name in datasets if name in extents}
        sampling = _sampling(study, paths, chosen, set(rows))[2]
        hours = [amount / tflops / 3600 for amount in (sampling, sum(map(_training_work, missing)))]
        yield f"  {title:<26} {sum(hours):8,.1f}  (sampling {hours[0]:,.1f}, training {hours[1]:,.1f})"


def _memory(study: ResolvedStudy, extents: dict[str, Extent]) -> Iterator[str]:
    """GPU memory by test set and by training, the largest of each."""
    yield "GPU memory at least (tensors; CUDA and its workspaces come on top):"
    needed: dict[str, float] = {}
    for name, extent in extents.items():
        for form in study.forms_on(name):
            if form.sampling:
                what = f"sampling, {study.spec.batch} sequences of {extent.width}x{extent.height} at once"
                amount = sampling_memory(form.sampling, extent.area, study.spec.batch)
                needed[what] = max(needed.get(what, 0.0), amount)
    processes = study.spec.training_processes
    for run in study.trainings().values():
        amount_of = training_memory(run, processes)
        if amount_of:
            crops, side = crops_at_once(run, processes), run.settings.crop
            what = f"training a {TRAINING_KINDS[run.kind]}, {crops} crops of {side}x{side} at once"
            needed[what] = max(needed.get(what, 0.0), amount_of)
    yield from (f"  {what:<58} {human(int(amount)):>8}" for what, amount in needed.items())


def _jobs(study: ResolvedStudy, paths: Paths) -> list[str]:
    """Jobs by kind, all and still to do (by the files that are there; Snakemake also looks at what changed)."""
    runs = study.trainings().values()
    jobs = [
        ("test sets", [paths.dataset(name) / "manifest.json"]) for name in study.spec.datasets if study.forms_on(name)
    ]
    jobs += [(f"trainings of a {TRAINING_KINDS[run.kind]}", [paths.training(run) / "provenance.json"]) for run in runs]
    jobs += [("sets of cached samples", [file]) for file in {paths.samples(run) for run in runs} if file]
    made = [("shards of frames", group, paths.manifest) for group in groups(study, sampled_with)]
    made += [("shards of scores", group, paths.scores) for group in groups(study, owner)]
    for kind, group, file in made:
        members = [(dataset, form) for dataset, forms in group.forms.items() for form in forms]
        for shard in range(group.shards):
            jobs.append((kind, [file(dataset, form.digest, form.run, shard) for dataset, form in members]))
    jobs += [
        ("sets of tables of scores", [paths.table(dataset, method.name) for method in methods])
        for (dataset, _), methods in tables(study).items()
    ]
    todo = Counter(kind for kind, outputs in jobs if not all(output.exists() for output in outputs))
    count = Counter(kind for kind, _ in jobs)
    return ["jobs (to do of all)", *(f"  {kind:<26} {todo[kind]:>5} of {count[kind]}" for kind in count)]


def _extent(spec: Dataset) -> Extent | None:
    """Size of a test set from its files, else of its largest download (the ground truth); None if it has neither."""
    try:
        sequences = load_sequences(spec.layout, spec.root, spec.split)
        height, width = read_frame(sequences[0].gt[0]).shape[:2]
        found = Extent(len(sequences), len(sequences[0].gt), height // 4, width // 4)
    except UserError:
        contents = [part for name in spec.fetch for part in registry.get(name).contents]
        if not contents:
            return None
        largest = max(contents, key=lambda part: part.width)
        count = len(largest.named()) or largest.lists["sep_testlist.txt"]
        found = Extent(count, largest.frames, largest.height // 4, largest.width // 4)
    count = len(spec.sequences) if spec.sequences is not None else found.sequences
    frames = -(-found.frames // spec.every)
    return replace(found, sequences=count, frames=min(frames, spec.frames or frames))


def _sampling(
    study: ResolvedStudy, paths: Paths, extents: dict[str, Extent], names: Collection[str]
) -> tuple[dict[str, int], int, float]:
    """Of all shards of the methods ``names`` that are not there: frames by dataset, frame-steps, TFLOP."""
    frames: Counter[str] = Counter()
    steps, work = 0, 0.0
    for name, extent in extents.items():
        shards = study.spec.datasets[name].shards
        forms = {(form.digest, form.run): form for form in study.forms_on(name) if form.name in names}
        for (key, seed), method in forms.items():
            missing = sum(not paths.manifest(name, key, seed, shard).exists() for shard in range(shards))
            made = extent.sequences * extent.frames * missing // shards
            frames[name] += made
            if method.sampling:
                steps += made * method.sampling.steps
                work += made * _frame_work(method, extent.area)
    return frames, steps, work


def _frame_work(method: Method, area: int) -> float:
    """TFLOP of one frame, all its steps and the final decoding."""
    assert method.sampling is not None
    ratio = area / AREA
    work = method.sampling.steps * UNET * ratio + _decoding(ratio)
    if method.guidance is not None:
        decoding = SMALL_DECODER * ratio if method.decoder else _decoding(ratio)
        steps = len(guided_steps(method.sampling))
        work += steps * TCM * ratio
        if method.guidance.source != "none":  # a finished neighbour is decoded once for all steps
            work += (min(steps, 1) if has_finished_neighbours(method.sampling.strategy) else steps) * decoding
    return work


def _decoding(ratio: float) -> float:
    """TFLOP of the VAE decoder for a frame of ``ratio`` times 320x180."""
    return DECODER * ratio + ATTENTION * ratio**2


def _training_work(run: TrainingRun) -> float:
    """TFLOP of a training: frozen networks count once, trained ones three times (forward and backward).

    A TCM's sample has two frames to encode, three images if its target moves, and its gradients also pass through the
    UNet.
    """
    moved = isinstance(run.settings, Training) and run.settings.temporal_weight > 0
    ratio = (run.settings.crop // 4) ** 2 / AREA
    encoding = ENCODER * ratio + ATTENTION * ratio**2
    per_sample = {
        "unet": 3 * UNET * ratio + encoding,
        "tcm": 3 * (UNET + TCM) * ratio + _decoding(ratio) + (3 if moved else 2) * encoding,
        "decoder": (UNET + 3 * SMALL_DECODER) * ratio + _decoding(ratio) + encoding,
    }
    return run.settings.steps * run.settings.batch * per_sample[run.kind]
