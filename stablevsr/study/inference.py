"""Inference of one shard of a dataset: frames in, frames and a manifest out, resumable sequence by sequence.

A sequence's folder appears only when all its frames are written, with a mark that says which settings, inputs and code
made it. Batches of sequences are fixed by the shard's list, not by what is left to do, so that an interrupted run gives
the same bytes as an undisturbed one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from stablevsr.baselines.peers import upscaler
from stablevsr.data.degradation import SCALE
from stablevsr.data.frames import Frame, list_frames, read_frame, write_frame
from stablevsr.runtime.background import BackgroundWriter, prefetch
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import write_text
from stablevsr.runtime.locks import single_writer
from stablevsr.runtime.timing import StageTimer, peak_memory
from stablevsr.study.methods import MODELS_OWN, Method, digest
from stablevsr.study.prepare import content_hash

MARK = ".done.json"
IO = "IO"  #: the stage of waiting for frames to be read or written: both go on beside the sampling

Batch = list[tuple[str, list[Path]]]  #: sequences by name, with their LR frame files
#: Upscales a batch, given its LR frames by sequence: yields, per sequence, the frames uint8 (4h, 4w, 3).
BatchUpscaler = Callable[[Batch, list[list[Frame]]], Iterator[list[Frame]]]


@dataclass(frozen=True)
class Networks:
    """Where a method's networks come from, and the device they run on."""

    model: str  #: for :func:`stablevsr.method.model_folder.find_model`; empty for methods without networks
    device: str
    tcm: Path | None = None  #: None = the model's own
    decoder: Path | None = None  #: of the guidance; None = the VAE


@dataclass(frozen=True)
class Shard:
    """Which part of a dataset to make: every ``count``-th sequence from ``index`` on."""

    dataset: str
    lr: Path  #: folder of sequences
    index: int = 0
    count: int = 1

    def sequences(self) -> Batch:
        """Names and LR frames of this shard, sorted."""
        if not self.lr.is_dir():
            raise UserError(f"there is no {self.lr}: run stablevsr data prepare --dataset {self.dataset} first")
        names = sorted(p.name for p in self.lr.iterdir() if p.is_dir())[self.index :: self.count]
        return [(name, list_frames(self.lr / name)) for name in names]


def sequence_generator(seed: int, dataset: str, sequence: str) -> torch.Generator:
    """The CPU generator of one sequence, seeded from (seed, dataset, sequence): independent of shard and order."""
    key = hashlib.sha256(f"{seed}/{dataset}/{sequence}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)


def infer(method: Method, shard: Shard, seed: int, out: Path, manifest: Path, networks: Networks, batch: int) -> None:
    """Make the frames of ``shard`` by ``method`` under ``out/<sequence>/`` and write ``manifest`` (JSON) at the end.

    Sequences that an earlier run finished with the same settings, inputs and code are kept.
    """
    began = time.monotonic()
    batches = _batches(shard.sequences(), batch)
    made_from = _made_from(method, shard.dataset, seed, networks)
    with single_writer(out / f".shard{shard.index}"):
        todo = [b for b in batches if not all(_is_done(out / name, files, made_from) for name, files in b)]
        if todo:
            _upscale(method, shard, seed, out, networks, todo, made_from)
        described = {n: json.loads((out / n / MARK).read_text()) for b in batches for n, _ in b}
        report = {
            "sequences": {name: {k: mark[k] for k in ("frames", "sha256")} for name, mark in described.items()},
            "method": method.identity(),
            "seed": seed,
            "seconds": round(sum(mark["seconds"] for mark in described.values()), 3),
            "stages": _sum(mark["stages"] for mark in described.values()),
            "seconds_this_run": round(time.monotonic() - began, 3),
            "peak_memory_bytes": peak_memory(_used(method, networks)),
            "device": networks.device,
            "batch": batch,
            "threads": torch.get_num_threads(),
        }
        if todo and method.kind == "stablevsr":
            print(_idle(report["seconds"], report["stages"]), file=sys.stderr)
        write_text(manifest, json.dumps(report, indent=1, sort_keys=True) + "\n")


def _upscale(
    method: Method, shard: Shard, seed: int, out: Path, networks: Networks, todo: list[Batch], made_from: str
) -> None:
    steps = method.sampling.steps if method.sampling else 1
    total = sum(len(files) for b in todo for _, files in b) * steps
    bar = tqdm(total=total, unit="frame-step" if steps > 1 else "frame", desc=shard.dataset, mininterval=2)
    with bar, BackgroundWriter() as writing:
        watch = StageTimer(_used(method, networks))
        upscale = _batch_upscaler(method, shard.dataset, seed, networks, bar.update, watch)
        # given frames are taken as they are: of the LR frames only the size is looked at
        lr = prefetch(_read, todo) if method.kind != "frames" else repeat([])
        mark = time.monotonic()
        for sequences in todo:
            with watch.stage(IO):
                frames_in = next(lr)
            for (name, files), frames in zip(sequences, upscale(sequences, frames_in), strict=True):
                with watch.stage(IO):
                    writing.wait()
                seconds, mark = time.monotonic() - mark, time.monotonic()
                writing.do(_write_sequence, out / name, files, frames, made_from, seconds, watch.read())


def _idle(seconds: float, stages: dict[str, float]) -> str:
    """The share of time outside the sampler's stages, all sequences of the shard together, in a sentence.

    Within a stage a GPU may wait as well (for DIS flow, for noise drawn on the CPU): a lower bound.
    """
    busy = sum(spent for stage, spent in stages.items() if stage != IO)
    return f"the device had nothing to do at least {max(0.0, 1 - busy / seconds):.0%} of the time"


def _read(sequences: Batch) -> list[list[Frame]]:
    return [[read_frame(file) for file in files] for _, files in sequences]


def _used(method: Method, networks: Networks) -> torch.device:
    """Where a method computes: the baselines have no use for torch's device and must not wake it."""
    return torch.device(networks.device if method.kind == "stablevsr" else "cpu")


def _sum(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    """Seconds by stage, of several sequences."""
    total: dict[str, float] = {}
    for part in parts:
        for stage, seconds in part.items():
            total[stage] = round(total.get(stage, 0.0) + seconds, 3)
    return total


def _batch_upscaler(
    method: Method, dataset: str, seed: int, networks: Networks, progress: Callable[[int], Any], watch: StageTimer
) -> BatchUpscaler:
    if method.kind == "stablevsr":
        return _stablevsr(method, dataset, seed, networks, progress, watch)
    if method.kind == "frames":
        return _given(method, dataset, progress)
    one = upscaler(method.kind, torch.get_num_threads())

    def upscale(_: Batch, lr: list[list[Frame]]) -> Iterator[list[Frame]]:
        for sequence in lr:
            frames = []
            for frame in sequence:
                frames.append(one(frame))
                progress(1)
            yield frames

    return upscale


def _stablevsr(
    method: Method, dataset: str, seed: int, networks: Networks, progress: Callable[[int], Any], watch: StageTimer
) -> BatchUpscaler:
    from stablevsr.method.pipeline import StableVSRPipeline, flow_by_name, to_tensor
    from stablevsr.method.sampler import decode_frames, to_uint8
    from stablevsr.method.settings import Guidance

    assert method.sampling is not None
    sampling = method.sampling
    pipe = StableVSRPipeline.from_pretrained(
        networks.model,
        tcm=networks.tcm,
        device=networks.device,
        precision=sampling.precision,
        with_tcm=sampling.strategy != "single_frame",
        tile=sampling.tile,
        guidance_decoder=networks.decoder,
        weights=sampling.weights,
    )

    guidance = method.guidance or Guidance()
    guided = sampling.strategy != "single_frame" and guidance.needs_flow
    flow = flow_by_name(guidance.flow, pipe.device) if guided else None

    def sample(names: list[str], lr: torch.Tensor) -> list[torch.Tensor]:
        """Finished latents by sequence; half of the batch at a time where the GPU's memory is too small for it."""
        generators = [sequence_generator(seed, dataset, name) for name in names]
        try:
            return list(pipe.sample(lr, generators, sampling, guidance, flow, progress, watch.stage))
        except torch.OutOfMemoryError:
            if len(names) == 1:
                raise
        torch.cuda.empty_cache()
        half = len(names) // 2
        print(f"the GPU's memory ran out: {half} sequences at once instead of {len(names)}", file=sys.stderr)
        return sample(names[:half], lr[:half]) + sample(names[half:], lr[half:])

    def upscale(sequences: Batch, frames: list[list[Frame]]) -> Iterator[list[Frame]]:
        lr = torch.stack([to_tensor(sequence) for sequence in frames])
        for latents in sample([name for name, _ in sequences], lr):
            yield [to_uint8(image) for image in decode_frames(pipe.networks, latents, watch.stage)]

    return upscale


def _given(method: Method, dataset: str, progress: Callable[[int], Any]) -> BatchUpscaler:
    """Frames from the folder that a method names: found by the names of the LR frames, stored like the others."""
    root = method.frames_of(dataset)

    def upscale(sequences: Batch, _: list[list[Frame]]) -> Iterator[list[Frame]]:
        for name, files in sequences:
            given = {path.stem: path for path in (list_frames(root / name) if (root / name).is_dir() else [])}
            missing = [file.stem for file in files if file.stem not in given]
            if missing:
                raise UserError(
                    f"method {method.name}: {root / name} lacks {len(missing)} of {len(files)} frames, the first is "
                    f"{missing[0]}"
                )
            height, width, _ = read_frame(files[0]).shape
            progress(len(files))
            yield [_read_given(given[file.stem], SCALE * width, SCALE * height, method.name) for file in files]

    return upscale


def _read_given(file: Path, width: int, height: int, method: str) -> Frame:
    """A frame that a method brings. Raises :class:`UserError` that names the file if its size is another one."""
    frame = read_frame(file)
    if frame.shape[:2] != (height, width):
        raise UserError(
            f"method {method}: {file} is {frame.shape[1]}x{frame.shape[0]}, four times its LR frame is {width}x{height}"
        )
    return frame


def _batches(sequences: Batch, size: int) -> list[Batch]:
    """Groups of up to ``size`` neighbouring sequences with the same number and size of frames."""
    groups: list[Batch] = []
    shape_before: tuple[int, ...] | None = None
    for name, files in sequences:
        if not files:
            raise UserError(f"sequence {name} holds no frame")
        shape = (len(files), *read_frame(files[0]).shape)
        if groups and shape == shape_before and len(groups[-1]) < size:
            groups[-1].append((name, files))
        else:
            groups.append([(name, files)])
        shape_before = shape
    return groups


def _made_from(method: Method, dataset: str, seed: int, networks: Networks) -> str:
    """A digest of everything but the input frames that decides a sequence's frames: settings, weights, code."""
    from stablevsr.method.model_folder import find_model
    from stablevsr.study.fingerprint import fingerprint, folder_hash

    given = {"tcm": networks.tcm, "decoder": networks.decoder}
    weights = {name: folder_hash(folder) if folder else None for name, folder in given.items()}
    if method.frames is not None:
        root = method.frames_of(dataset)
        weights["frames"] = content_hash(sorted(path for path in root.rglob("*") if path.is_file()))
    if method.kind == "stablevsr":
        folder = find_model(networks.model)
        weights |= {part: folder_hash(folder / part) for part in ("unet", "vae", "text_encoder", "scheduler")}
        if method.checkpoint == MODELS_OWN:
            weights["own"] = folder_hash(folder / "controlnet")
    return digest(
        {
            "method": method.identity(),
            "seed": seed,
            "model": networks.model,
            "code": fingerprint("stablevsr.study.inference"),
            **weights,
        }
    )


def _is_done(folder: Path, files: list[Path], made_from: str) -> bool:
    mark = folder / MARK
    if not mark.exists():
        return False
    content = json.loads(mark.read_text())
    return bool(content["made_from"] == made_from and content["input"] == content_hash(files))


def _write_sequence(
    folder: Path, files: list[Path], frames: list[Frame], made_from: str, seconds: float, stages: dict[str, float]
) -> None:
    """Write a sequence into a folder beside its place and move it there whole, replacing what was there."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for file, frame in zip(files, frames, strict=True):
        write_frame(part / f"{file.stem}.png", frame)
    mark = {
        "made_from": made_from,
        "input": content_hash(files),
        "frames": len(frames),
        "sha256": content_hash(list_frames(part)),
        "seconds": round(seconds, 3),
        "stages": {stage: round(spent, 3) for stage, spent in stages.items()},
    }
    write_text(part / MARK, json.dumps(mark))
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)
