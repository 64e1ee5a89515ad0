"""Draws all figures of a study. Each is drawn from what is there; one that lacks its input is left out, not faked."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context

from stablevsr.report.figures import (
    cost,
    frames,
    motion,
    scores,
    speed,
    training,
)
from stablevsr.report.figures.style import SETTINGS
from stablevsr.report.scores import ScoreBook
from stablevsr.study.methods import ResolvedStudy
from stablevsr.study.paths import Paths


def render(study: ResolvedStudy, paths: Paths) -> list[Path]:
    """Write ``results/<study>/figures/*.{png,pdf}`` and return the files.

    Deterministic for the same inputs. Figures of an earlier run that can no longer be drawn are removed, so that the
    page never shows an old one.
    """
    folder = paths.results / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    book = ScoreBook(study, paths)
    with rc_context(SETTINGS):
        files = [
            *scores.draw(book, folder),
            *frames.draw(book, folder),
            *motion.draw(book, folder),
            *training.draw(book, folder),
            *cost.draw(book, folder),
            *speed.draw(book, folder),
        ]
    for old in [*folder.glob("*.png"), *folder.glob("*.pdf")]:
        if old not in files:
            old.unlink()
    return files
