"""The figures of a study. Each is drawn from the results that are there; one that lacks its input is left out."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context

from stablevsr.report.figures import cost, crops_and_profiles, guidance, quality, tradeoffs, training
from stablevsr.report.figures.style import SETTINGS
from stablevsr.report.scores import ScoreBook
from stablevsr.study.paths import Paths


def render(paths: Paths) -> list[Path]:
    """Write ``results/<study>/figures/*.{png,pdf}``, without those of earlier runs, and return the files.

    The same inputs give the same bytes.
    """
    folder = paths.results / "figures"
    for old in _figures(folder):
        old.unlink()
    book = ScoreBook(paths)
    with rc_context(SETTINGS):
        for module in (quality, crops_and_profiles, guidance, training, cost, tradeoffs):
            module.draw(book, folder)
    return _figures(folder)


def _figures(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.png"), *folder.glob("*.pdf")])
