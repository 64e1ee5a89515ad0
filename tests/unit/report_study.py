"""A made-up study with scores, frames, manifests and trainings on disk, for the tests of the report.

Its scores are chosen, not measured: ``stablevsr`` is better than ``sampling.single_frame`` in tof_dis by 0.5 in every
scene, and one of the three scenes has 5 more than the others by every method.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from stablevsr.data.frames import write_frame
from stablevsr.report.training_history import histories
from stablevsr.runtime.io import write_text
from stablevsr.runtime.parsing import parse
from stablevsr.study.files import Ablation, Study
from stablevsr.study.methods import Method, ResolvedStudy
from stablevsr.study.paths import Paths
from stablevsr.study.resolve import resolve
from stablevsr.study.result_tables import KEYS

CLIPS, FRAMES, SIZE = ("000", "011", "020"), 8, 32
HARD = "020"  #: the scene of the other clips is their name with an s before it
METRICS = ("psnr", "tof_dis", "lpips", "sharpness")

SPEC: dict[str, Any] = {
    "title": "A study",
    "description": "For tests.",
    "model": "tiny",
    "datasets": {"reds4": {"title": "REDS4 (made up)", "layout": "reds", "root": "data/REDS", "shards": 2}},
    "training_datasets": {"reds": {"title": "REDS", "layout": "reds", "root": "data/REDS"}},
    "metrics": list(METRICS),
    "weights": "skip",
    "method": {
        "label": "StableVSR",
        "guidance": {"flow": "dis", "warp": "aligned"},
        "sampling": {"steps": 4},
        "training": {"steps": 100, "batch": 2, "crop": 16},
    },
    "methods": {"bicubic": {"label": "Bicubic", "kind": "bicubic"}},
    "ablations": ["sampling"],
    "table1": ["sampling.single_frame"],
    "runs": 2,
    "claims": [
        {"metric": "tof_dis", "better": "stablevsr", "than": "sampling.single_frame", "source": "Table 1"},
        {"metric": "lpips", "better": "stablevsr", "than": "bicubic", "source": "Table 1"},
        {"metric": "psnr", "better": "stablevsr", "than": ["bicubic", "sampling.single_frame"], "source": "Table 1"},
    ],
}
SAMPLING: dict[str, Any] = {
    "title": "Sampling strategy",
    "question": "Does it help to go both ways?",
    "variants": {
        "single_frame": {"label": "Single-frame", "sampling": {"strategy": "single_frame"}},
        "bidirectional": {"label": "Bidirectional"},
    },
    "claims": [{"metric": "tof_dis", "better": "bidirectional", "than": "single_frame", "source": "section 4.3"}],
}
#: Samplings that differ in steps and solver; the reference method takes four DDPM steps.
STEPS: dict[str, Any] = {
    "title": "Sampling steps",
    "question": "How few are enough?",
    "variants": {
        "two": {"label": "2 steps", "sampling": {"steps": 2}},
        "four": {"label": "4 steps"},
        "ddim": {"label": "DDIM, 2 steps", "sampling": {"steps": 2, "scheduler": "ddim"}},
    },
}
#: Mean of each metric by method kind of the made-up scores: psnr, tof_dis, sharpness.
LEVELS = {"bicubic": (28.0, 2.0, 0.5), "stablevsr": (27.0, 1.0, 1.00), "sampling.single_frame": (26.0, 1.5, 1.02)}


def make(
    root: Path, spec: dict[str, Any] | None = None, sampling: dict[str, Any] | None = None, **others: dict[str, Any]
) -> ResolvedStudy:
    """The study with the ablation ``sampling`` and ``others``, resolved; nothing is written."""
    contents = {"sampling": sampling or SAMPLING, **others}
    ablations = {name: parse(Ablation, content, f"{name}.yaml") for name, content in contents.items()}
    return resolve(
        "made_up", parse(Study, spec or SPEC, "study.yaml"), ablations, root / "workflow/studies/made_up.yaml"
    )


def make_paths(root: Path, study: ResolvedStudy) -> Paths:
    """Its paths below ``root``."""
    return Paths(study, root / "work", root / "results")


def write_scores(paths: Paths, method: Method, dataset: str = "reds4") -> Path:
    """Per-frame scores: the method's level, an offset for the hard clip, and variation that all methods share."""
    name = method.name if method.name in LEVELS else "stablevsr"
    psnr, tof, sharp = LEVELS[name]
    lines = [",".join((*KEYS, *METRICS))]
    for clip, index in ((c, i) for c in CLIPS for i in range(FRAMES)):
        for form in method.runs(dataset):
            wobble = 0.1 * math.sin(index) + 0.01 * form.run + 5.0 * (clip == HARD)
            first = "" if index == 0 else f"{tof + wobble!r}"
            lines.append(f"s{clip},{clip},{index:08d},{form.run},all frames,{psnr + wobble!r},{first},,{sharp!r}")
    table = paths.table(dataset, method.name)
    write_text(table, "\n".join(lines) + "\n")
    write_text(Path(f"{table}.json"), json.dumps({"skipped": {"lpips": "the weights alexnet are not in the cache"}}))
    return table


def manifest() -> str:
    """The manifest of the made-up dataset."""
    return json.dumps({"sequences": {clip: {"frames": FRAMES, "scene": f"s{clip}"} for clip in CLIPS}})


def write_frames(paths: Paths, dataset: str = "reds4") -> None:
    """A drifting texture as ground truth, its quarter as input, and noisy copies as the methods' frames; manifests."""
    random = np.random.default_rng(0)
    texture = random.integers(0, 256, (SIZE, SIZE + FRAMES, 3), dtype=np.uint8)
    for number, clip in enumerate(CLIPS):
        for index in range(FRAMES):
            frame = np.ascontiguousarray(np.roll(texture, number, 0)[:, index : index + SIZE])
            name = f"{index:08d}.png"
            write_frame(paths.dataset(dataset) / "gt" / clip / name, frame)
            write_frame(paths.dataset(dataset) / "lr" / clip / name, np.ascontiguousarray(frame[::4, ::4]))
            for strength, method in enumerate(paths.study.by_digest(dataset).values(), 1):
                made = np.clip(frame.astype(int) + random.integers(-9, 9, frame.shape) * strength, 0, 255)
                write_frame(paths.frames(dataset, method.digest, method.run) / clip / name, made.astype(np.uint8))
    write_text(paths.dataset(dataset) / "manifest.json", manifest())
    for form in paths.study.forms_on(dataset):
        write_manifest(paths, form, dataset)


def write_manifest(paths: Paths, form: Method, dataset: str) -> None:
    """Two shards, of two clips and of one; two seconds a frame, half of them in the UNet."""
    for shard, clips in enumerate((CLIPS[:2], CLIPS[2:])):
        seconds = 2.0 * FRAMES
        spent = {
            "seconds": seconds,
            "stages": {"UNet": seconds / 2} if form.kind == "stablevsr" else {},
            "peak_memory_bytes": 2**30 * (shard + 1),
            "hardware": "",
        }
        content = {
            "sequences": {clip: {"frames": FRAMES, "sha256": "0" * 64} for clip in clips},
            "costs": dict.fromkeys(clips, spent),
            "device": "cpu",
        }
        write_text(paths.manifest(dataset, form.digest, form.run, shard), json.dumps(content))


def write_history(paths: Paths, ratio: float = 0.9, steps: int = 100) -> None:
    """Histories of all trainings: loss every 20 steps, validation at the half and the end."""
    for history in histories(paths):
        folder, measure = history.folder, history.kind.measure
        lines = [f"step,loss,val_{measure}_low,val_{measure}_high"]
        for step in range(20, steps + 1, 20):
            validated = f"{ratio},{ratio + 0.02}" if step in (steps, steps // 40 * 20) else ","
            lines.append(f"{step},{1 / step},{validated}")
        write_text(folder / "history.csv", "\n".join(lines) + "\n")
        made = {"seconds_per_step": 3.0, "peak_memory_bytes": 3 * 2**29}
        write_text(folder / "provenance.json", json.dumps(made))
        for step, grey in ((steps // 2, 0), (steps, 200)):
            write_frame(folder / "validation" / f"step{step:06d}.png", np.full((60, 50, 3), grey, np.uint8))


def with_model_per_dataset() -> dict[str, Any]:
    """SPEC with a second dataset, for which another model is made: the tiny one, its UNet fine-tuned."""
    spec = copy.deepcopy(SPEC)
    spec["finetuned"] = {"vimeo_unet": {"base": "tiny", "training": {"dataset": "vimeo_train", "steps": 100}}}
    spec["training_datasets"]["vimeo_train"] = {"title": "Septuplets", "layout": "vimeo90k", "root": "data/vimeo"}
    spec["datasets"]["vimeo"] = {
        "title": "Vimeo (made up)", "layout": "vimeo90k", "root": "data/vimeo", "shards": 2, "used_by": ["table1"],
        "model": {"name": "vimeo_unet", "training": {"dataset": "vimeo_train"}},
    }  # fmt: skip
    return spec


def write_all(
    root: Path, spec: dict[str, Any] | None = None, sampling: dict[str, Any] | None = None, **others: dict[str, Any]
) -> Paths:
    """A whole study on disk."""
    paths = make_paths(root, make(root, spec, sampling, **others))
    for dataset in paths.study.spec.datasets:
        for method in paths.study.methods.values():
            if dataset in method.datasets:
                write_scores(paths, method, dataset)
        write_frames(paths, dataset)
    write_history(paths)
    return paths
