"""The figures on the page: their files as data URIs, with titles and captions."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from stablevsr.report.text import TEMPLATES
from stablevsr.report.training_history import CURVES as TRAININGS
from stablevsr.study.paths import Paths

CSS_PIXELS = 0.65  #: for each pixel of a figure (200 dpi)
#: Title and caption by the beginning of a figure's file name, in the order of the page.
FIGURE_KINDS: dict[str, dict[str, str]] = yaml.safe_load((TEMPLATES / "captions.yaml").read_text(encoding="utf-8"))
CURVES = [kind.curves for kind in TRAININGS.values()]


def load_figures(paths: Paths) -> list[dict[str, Any]]:
    """The figures that were drawn, for the template, in the order of FIGURE_KINDS.

    ``section`` is ``figures``, ``trainings`` or ``ablation-<name>``. ``width`` is in CSS pixels and proportional to the
    figure's size in inches, so that text has the same size in all figures.
    """
    folder = paths.results / "figures"
    return [
        _figure(paths, kind, file)
        for kind in FIGURE_KINDS
        for file in sorted([*folder.glob(f"{kind}.png"), *folder.glob(f"{kind}_*.png")])
    ]


def _figure(paths: Paths, kind: str, file: Path) -> dict[str, Any]:
    subject = file.stem.removeprefix(kind).removeprefix("_")
    subjects = paths.study.spec.datasets if kind != "ablation" else paths.study.ablations
    with Image.open(file) as picture:
        width = round(picture.width * CSS_PIXELS)
    return {
        "name": file.stem,
        "section": f"ablation-{subject}" if kind == "ablation" else "trainings" if kind in CURVES else "figures",
        "title": FIGURE_KINDS[kind]["title"] + (f": {subjects[subject].title}" if subject in subjects else ""),
        "caption": FIGURE_KINDS[kind]["caption"],
        "uri": "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode(),
        "width": width,
    }
