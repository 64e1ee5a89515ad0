"""What each figure shows and how to read it: captions for people who see it, alternative texts for those who do not."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from stablevsr.study.methods import ResolvedStudy

CSS_PIXELS = 0.65  #: of the page for a pixel of a figure (200 to the inch)
#: By the figure's kind, the beginning of its file's name: title, caption.
KINDS = {
    "perception_distortion": (
        "Perception against distortion",
        "Each point is a method: distortion (PSNR, to the right is better) against perception or temporal consistency "
        "(down is better). Filled markers are the rows of Table 1, hollow ones variants of the ablations.",
    ),
    "per_frame_curves": (
        "Frame by frame",
        "Each metric over the frames of each clip, averaged over seeds. Temporal metrics begin with the second frame.",
    ),
    "temporal_profile": (
        "Temporal profiles",
        "One row of pixels (red line in the picture) over time, first frame on top: smooth lines are steady detail, "
        "ragged ones flicker. The row is where the ground truth changes most.",
    ),
    "crops": (
        "Crops",
        "The most detailed square of each clip's middle frame, pixel by pixel, input to ground truth.",
    ),
    "guidance": (
        "Motion and guidance",
        "The motion estimated between two bicubic frames (hue: direction, colour strength: length), and the previous "
        "output warped along it: what the TCM sees at the end of sampling.",
    ),
    "ablation": (
        "What the variants make of one clip",
        "Above the most detailed square of the middle frame, below a row of pixels over time.",
    ),
    "training_curves": (
        "Training of the TCM",
        "Left the training loss. The others: loss on held-out windows with the TCM divided by the loss without it, by "
        "noise level; below 1 (grey line) the TCM has learned something.",
    ),
    "finetuning_curves": (
        "Fine-tuning of the UNet",
        "Left the training loss. The others: loss on held-out frames by noise level.",
    ),
    "distillation_curves": (
        "Distillation of the small decoder",
        "Left the training loss. The others: how near its images come to the VAE's on held-out frames, by noise level.",
    ),
    "cost": (
        "Time and memory",
        "Seconds a frame by stage, and the rest (waiting for frames to be read or written; all of a baseline). "
        "Peak memory: of the GPU, or of the process where there was none.",
    ),
    "quality_over_seconds": (
        "Quality against time",
        "What the seconds a frame buy, time on a logarithmic axis. Rows of Table 1 by name; what each variant of the "
        "ablations took is in its table on this page.",
    ),
    "quality_over_steps": (
        "Quality against sampling steps and time",
        "Methods that differ in nothing but sampling steps and solver: above by steps, below by the seconds a frame "
        "that these steps took. Logarithmic axes.",
    ),
}


@dataclass(frozen=True)
class Figure:
    """One figure as the page shows it."""

    name: str
    kind: str
    title: str
    caption: str
    alt: str
    uri: str
    width: int  #: CSS pixels: the same for every figure's inch, so that letters are of one size on the page


def load_figures(study: ResolvedStudy, folder: Path) -> list[Figure]:
    """The figures that were drawn, in the order of KINDS, as data URIs."""
    files = [(kind, file) for kind in KINDS for file in sorted(folder.glob("*.png")) if _kind(file.stem) == kind]
    return [_figure(study, kind, file) for kind, file in files]


def _kind(stem: str) -> str:
    matches = [kind for kind in KINDS if stem == kind or stem.startswith(f"{kind}_")]
    return max(matches, key=len, default="")


def _figure(study: ResolvedStudy, kind: str, file: Path) -> Figure:
    title, caption = KINDS[kind]
    subject = file.stem.removeprefix(kind).removeprefix("_")
    if subject in study.spec.datasets:
        title = f"{title}: {study.spec.datasets[subject].title}"
    elif subject in study.ablations:
        title = f"{title}: {study.ablations[subject].title}"
    uri = "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
    with Image.open(file) as picture:
        width = round(picture.width * CSS_PIXELS)
    return Figure(file.stem, kind, title, caption, f"{title}. {caption}", uri, width)
