"""The style of all figures: the Okabe-Ito palette, one colour, marker and line for each method, print sizes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # figures are written to files without a display
import matplotlib.pyplot as plt

from stablevsr.report.scores import ScoreBook
from stablevsr.runtime.io import atomic_file
from stablevsr.study.methods import REFERENCE

#: Okabe and Ito's palette without black (the ground truth's) and yellow (too faint on paper).
VERMILLION, BLUE, GREEN, ORANGE, SKY, PURPLE = "#D55E00", "#0072B2", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
GREY = "#8A8A8A"
COLOURS = (BLUE, GREEN, ORANGE, PURPLE, SKY)
SHAPES = (("o", "-"), ("s", "--"), ("^", ":"), ("v", "-."), ("P", "-"), ("<", "--"), (">", ":"), ("p", "-."))
Look = dict[str, str]  #: a method's color, marker and linestyle, as matplotlib takes them
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
    "text.parse_math": False,  # labels come from study files: a dollar sign in one is a dollar sign
}


def look(colour: str, marker: str, line: str) -> Look:
    return {"color": colour, "marker": marker, "linestyle": line}


def looks(book: ScoreBook) -> dict[str, Look]:
    """The look of every method by digest, so that a method has the same one under all its names.

    The reference method is vermillion and bicubic grey. The others take the palette's colours in the order of Table 1
    and then of the study file; when the colours run out they start again with the next marker and line style.
    """
    free = cycle(look(colour, *shape) for shape in SHAPES for colour in COLOURS)
    fixed = {"bicubic": look(GREY, "X", "-")}
    reference = book.study.methods[REFERENCE].digest
    others = (method for method in book.methods() if method.digest != reference)
    found = {method.digest: fixed.get(method.kind) or next(free) for method in others}
    return {**found, reference: look(VERMILLION, "D", "-")}


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
    handles, where = list(entries.values()), "outside lower center"
    figure.legend(handles, list(entries), loc=where, ncols=columns, fontsize=7, numpoints=1)


def save(figure: Any, folder: Path, name: str) -> None:
    """Write ``name.png`` and ``name.pdf``, without dates, and close the figure."""
    for suffix, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
        with atomic_file(folder / f"{name}.{suffix}") as stream:
            figure.savefig(stream, format=suffix, metadata=metadata)
        figure.set_layout_engine("none")  # the second file keeps the layout of the first
    plt.close(figure)
