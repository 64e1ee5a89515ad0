"""A study's results in the formats that others read, written into the folder of the study.

These are ``.eval_results/`` for a model's page on the Hugging Face hub, ``hardware.csv`` (seconds and memory), and
``ro-crate-metadata.json``, which makes the folder a research object with citation and licence inside.
"""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

from stablevsr.report.export.crate import METADATA, crate
from stablevsr.report.export.eval_results import FOLDER, eval_results
from stablevsr.report.export.hardware import hardware_csv
from stablevsr.report.scores import ScoreBook, read_json
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import write_text
from stablevsr.study.paths import Paths

ENCLOSED = ("CITATION.cff", "LICENSE")  #: copied from the repository


def export(paths: Paths, date: datetime.date) -> list[Path]:
    """Write the exports of a rendered study, dated ``date``, and return the files.

    Raises :class:`UserError` if the study has not been rendered yet.
    """
    if "code" not in read_json(paths.results / "provenance.json"):
        command = f"stablevsr report --study {paths.study.name}"
        raise UserError(f"{paths.results} holds no rendered study: run {command} first")
    book, files = ScoreBook(paths), []
    for name in ENCLOSED:
        source = paths.results_root.parent / name
        if source.exists():
            shutil.copyfile(source, paths.results / name)
            files.append(paths.results / name)
    shutil.rmtree(paths.results / FOLDER, ignore_errors=True)  # an earlier export may have had more data sets
    texts = {"hardware.csv": hardware_csv(book), **eval_results(book, date)}
    for name, text in texts.items():
        write_text(paths.results / name, text)
    write_text(paths.results / METADATA, crate(paths, date))
    return [*files, *(paths.results / name for name in (*texts, METADATA))]
