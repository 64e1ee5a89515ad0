"""The figures on the page: their files as data URIs, with titles, captions and alternative texts."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from stablevsr.report.training_history import KINDS as TRAININGS
from stablevsr.study.paths import Paths

CSS_PIXELS = 0.65  #: for each pixel of a figure, which has 200 to the inch
#: By the figure's kind, which is the beginning of its file name: title and caption, in the order of the page.
KINDS = {
    "perception_distortion": (
        "Perception against distortion",
        "Each point is a method: distortion (PSNR, better to the right) against a perceptual or temporal metric "
        "(better downwards). Filled markers are rows of Table 1, hollow ones variants of the ablations.",
    ),
    "per_frame_curves": (
        "Metrics frame by frame",
        "Each metric over the frames of each clip, averaged over seeds. Temporal metrics begin with the second frame.",
    ),
    "temporal_profile": (
        "Temporal profiles",
        "One row of pixels (the red line in the picture) over time, first frame on top. Steady detail gives smooth "
        "lines, flicker ragged ones. The row is the one where the ground truth changes most.",
    ),
    "crops": (
        "Crops",
        "The most detailed square of each clip's middle frame, without interpolation: input, methods, ground truth.",
    ),
    "guidance": (
        "Flow and guidance",
        "The flow estimated between two bicubic frames (hue is its direction, colour strength its length), and the "
        "previous output warped along it, which is what the TCM sees at the end of sampling.",
    ),
    "ablation": (
        "The variants on one clip",
        "Above, the most detailed square of the middle frame; below, one row of pixels over time.",
    ),
    "training_curves": (
        "Training of the TCM",
        "Left, the training loss. Right, by noise level, the loss on held-out windows with the TCM divided by the loss "
        "without it: below 1 (grey line) the TCM has learned something.",
    ),
    "finetuning_curves": (
        "Fine-tuning of the UNet",
        "Left, the training loss. Right, the loss on held-out frames by noise level.",
    ),
    "distillation_curves": (
        "Distillation of the small decoder",
        "Left, the training loss. Right, by noise level, the PSNR between its images and the VAE decoder's on held-out "
        "frames.",
    ),
    "cost": (
        "Time and memory",
        "Seconds a frame by stage. The rest is time spent waiting for frames to be read or written, and the whole time "
        "of a baseline. Peak memory is the GPU's, or the process's on a machine without one.",
    ),
    "quality_over_seconds": (
        "Quality against time",
        "Metrics against seconds a frame, on a logarithmic axis. The legend names the rows of Table 1; the time of "
        "each ablation variant is in the ablation's table.",
    ),
    "quality_over_steps": (
        "Quality against sampling steps and time",
        "Methods that differ only in sampling steps and solver. Above, metrics against the number of steps; below, "
        "against the seconds a frame that these steps took. Logarithmic axes.",
    ),
}
CURVES = [kind.curves for kind in TRAININGS.values()]


@dataclass(frozen=True)
class Figure:
    """One figure as the page shows it."""

    name: str
    section: str  #: of the page: ``figures``, ``trainings`` or ``ablation-<name>``
    title: str
    caption: str
    uri: str
    width: int  #: CSS pixels, in proportion to the figure's inches, so that letters have one size on the page


def load_figures(paths: Paths) -> list[Figure]:
    """The figures that were drawn, in the order of KINDS."""
    drawn = sorted((paths.results / "figures").glob("*.png"))
    return [_figure(paths, kind, file) for kind in KINDS for file in drawn if _kind(file.stem) == kind]


def _kind(stem: str) -> str:
    matches = [kind for kind in KINDS if stem == kind or stem.startswith(f"{kind}_")]
    return max(matches, key=len, default="")


def _figure(paths: Paths, kind: str, file: Path) -> Figure:
    title, caption = KINDS[kind]
    subject = file.stem.removeprefix(kind).removeprefix("_")
    subjects = paths.study.spec.datasets if kind != "ablation" else paths.study.ablations
    if subject in subjects:
        title = f"{title}: {subjects[subject].title}"
    section = f"ablation-{subject}" if kind == "ablation" else "trainings" if kind in CURVES else "figures"
    uri = "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
    with Image.open(file) as picture:
        width = round(picture.width * CSS_PIXELS)
    return Figure(file.stem, section, title, caption, uri, width)
