"""The figures of a study. Each is drawn from the results that are there; one that lacks its input is left out."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context

from stablevsr.report.figures import cost, crops_and_profiles, guidance, quality, tradeoffs, training
from stablevsr.report.figures.style import SETTINGS
from stablevsr.report.scores import ScoreBook
from stablevsr.study.paths import Paths


def render(paths: Paths) -> list[Path]:
    """Write ``results/<study>/figures/*.{png,pdf}`` and return the files.

    Deterministic for the same inputs. Figures of an earlier run that can no longer be drawn are removed, so that the
    page never shows an old one.
    """
    folder = paths.results / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    book = ScoreBook(paths)
    with rc_context(SETTINGS):
        modules = (quality, crops_and_profiles, guidance, training, cost, tradeoffs)
        files = [file for module in modules for file in module.draw(book, folder)]
    for old in [*folder.glob("*.png"), *folder.glob("*.pdf")]:
        if old not in files:
            old.unlink()
    return files
