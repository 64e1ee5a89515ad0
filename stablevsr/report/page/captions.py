"""The figures on the page: their files as data URIs, with titles, captions and alternative texts."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import yaml
from PIL import Image

from stablevsr.report.text import TEMPLATES
from stablevsr.report.training_history import KINDS as TRAININGS
from stablevsr.study.paths import Paths

CSS_PIXELS = 0.65  #: for each pixel of a figure, which has 200 to the inch
#: By the figure's kind, which is the beginning of its file name: title and caption, in the order of the page.
KINDS: dict[str, dict[str, str]] = yaml.safe_load((TEMPLATES / "captions.yaml").read_text())
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
    title = KINDS[kind]["title"]
    subject = file.stem.removeprefix(kind).removeprefix("_")
    subjects = paths.study.spec.datasets if kind != "ablation" else paths.study.ablations
    if subject in subjects:
        title = f"{title}: {subjects[subject].title}"
    section = f"ablation-{subject}" if kind == "ablation" else "trainings" if kind in CURVES else "figures"
    uri = "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
    with Image.open(file) as picture:
        width = round(picture.width * CSS_PIXELS)
    return Figure(file.stem, section, title, KINDS[kind]["caption"], uri, width)
