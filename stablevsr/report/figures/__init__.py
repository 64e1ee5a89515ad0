"""The figures of a study. Each is drawn from the results that are there; one that lacks its input is left out."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context

from stablevsr.report.figures import cost, crops_and_profiles, guidance, quality, tradeoffs, training
from stablevsr.report.figures.style import SETTINGS
from stablevsr.report.scores import ScoreBook
from stablevsr.study.paths import Paths


def render(paths: Paths) -> list[Path]:
    """Write ``results/<study>/figures/*.{png,pdf}``, remove older figures there, and return the files.

    The same inputs give the same bytes.
    """
    folder = paths.results / "figures"
    book = ScoreBook(paths)
    with rc_context(SETTINGS):
        modules = (quality, crops_and_profiles, guidance, training, cost, tradeoffs)
        files = [file for module in modules for file in module.draw(book, folder)]
    for old in [*folder.glob("*.png"), *folder.glob("*.pdf")]:
        if old not in files:
            old.unlink()
    return files
