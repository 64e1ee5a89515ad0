"""The style of all figures: the Okabe-Ito palette, one colour, marker and line for each method, print sizes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # figures are written to files without a display
import matplotlib.pyplot as plt

from stablevsr.study.methods import REFERENCE, ResolvedStudy

#: Okabe and Ito's palette without black (the ground truth's) and yellow (too faint on paper).
VERMILLION, BLUE, GREEN, ORANGE, SKY, PURPLE = "#D55E00", "#0072B2", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
GREY, BLACK = "#8A8A8A", "#000000"
COLOURS = (BLUE, GREEN, ORANGE, PURPLE, SKY)
SHAPES = (("o", "-"), ("s", "--"), ("^", ":"), ("v", "-."), ("P", "-"), ("<", "--"), (">", ":"), ("p", "-."))
SETTINGS = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "stablevsr",
    "text.parse_math": False,  # labels come from study files: a dollar sign in one is a dollar sign
}


@dataclass(frozen=True)
class Look:
    """Colour, marker and line of one method."""

    colour: str
    marker: str
    line: str


def looks(study: ResolvedStudy) -> dict[str, Look]:
    """The look of every method by digest, so that a method keeps it under all its names.

    The study's reference method is vermillion and bicubic grey; the others take colours in the order of the study file,
    and a new marker and line each time the colours are used up.
    """
    found = {study.methods[REFERENCE].digest: Look(VERMILLION, "D", "-")}
    # Table 1 first: most figures show its rows together, so they must differ in colour
    for method in [*study.table1(), *study.methods.values()]:
        if method.digest in found:
            continue
        if method.kind == "bicubic":
            found[method.digest] = Look(GREY, "X", "-")
            continue
        place = sum(look.colour not in (VERMILLION, GREY) for look in found.values())
        marker, line = SHAPES[place // len(COLOURS) % len(SHAPES)]
        found[method.digest] = Look(COLOURS[place % len(COLOURS)], marker, line)
    return found


def legend(figure: Any, axes: Iterable[Any]) -> None:
    """One legend for all panels, below them, each label once; the figure grows by the legend's height."""
    entries: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        return
    width, height = figure.get_size_inches()
    columns = max(1, min(len(entries), int(width / (0.55 + 0.058 * max(map(len, entries))))))
    figure.set_size_inches(width, height + 0.16 * math.ceil(len(entries) / columns))
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=columns, fontsize=7, numpoints=1
    )


def save(figure: Any, folder: Path, name: str) -> list[Path]:
    """Write ``name.png`` and ``name.pdf``, without dates, and close the figure."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for suffix, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
        file = folder / f"{name}.{suffix}"
        part = folder / f".{name}.part.{suffix}"
        figure.savefig(part, metadata=metadata)
        part.replace(file)
        files.append(file)
    plt.close(figure)
    return files
