"""The tables of a study: Table 1, one for each ablation, the claims, and the values of every clip and frame.

Where the paper's own Table 1 is comparable, there is also a verdict on each of its cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from stablevsr.metrics.tables import notes_path
from stablevsr.report.claims import by_question, check
from stablevsr.report.findings import findings
from stablevsr.report.scores import ScoreBook
from stablevsr.report.tables.build import Table, build_tables
from stablevsr.report.tables.formats import claims_csv, table_csv, table_text
from stablevsr.report.tables.reproduction import (
    REPRODUCTION_NOTE,
    by_dataset,
    reproduction_csv,
    reproductions,
    summary,
)
from stablevsr.report.text import PLAIN, csv_text
from stablevsr.runtime.errors import UserError, near_miss
from stablevsr.runtime.io import write_text
from stablevsr.study.methods import Method
from stablevsr.study.paths import Paths
from stablevsr.study.protocol import describe, protocol_of
from stablevsr.study.result_tables import KEYS


def render_one(paths: Paths, name: str) -> list[Path]:
    """Write ``results/<study>/tables/<name>.{csv,md,tex}``, of Table 1 (``table1``) or an ablation.

    Raises :class:`UserError` for a name that the study does not have.
    """
    tables = build_tables(ScoreBook(paths))
    if name not in tables:
        raise UserError(f"study {paths.study.name} has no table {name}{near_miss(name, tables)}")
    return _write(paths, _texts(name, tables[name]))


def render(paths: Paths) -> list[Path]:
    """Write ``results/<study>/tables/*`` and return the files; tables of methods and ablations that are gone go too.

    ``<table>.{csv,md,tex}`` for Table 1 and every ablation, ``claims.{csv,md}``, ``findings.md``, and, unrounded,
    ``clips.csv`` with one row a clip and ``frames.csv`` with one a frame and run; ``protocols.csv``, what the names of
    protocols mean; and ``reproduction.{csv,md}`` where the paper's Table 1 is comparable. A cell without scores has a
    reason instead. Only a damaged ``results/published`` raises :class:`~stablevsr.runtime.errors.UserError`.
    """
    book = ScoreBook(paths)
    texts: dict[str, str] = {}
    for name, table in build_tables(book).items():
        texts |= _texts(name, table)
    claims = check(book)
    questions = by_question(claims, paths.study)
    texts |= {
        "claims.csv": claims_csv(claims),
        "claims.md": PLAIN.get_template("claims.md").render(questions=questions),
        "findings.md": PLAIN.get_template("findings.md").render(findings=findings(book, claims)),
    }
    texts |= {"clips.csv": clips_csv(book), "frames.csv": frames_csv(book), "protocols.csv": protocols_csv(book)}
    texts |= _reproduction(book)
    written = _write(paths, texts)
    _remove_others(paths, set(written))
    return written


def _texts(name: str, table: Table) -> dict[str, str]:
    """The files of one table."""
    return {f"{name}.csv": table_csv(table)} | {f"{name}.{kind}": table_text(table, kind) for kind in ("md", "tex")}


def _write(paths: Paths, texts: dict[str, str]) -> list[Path]:
    folder = paths.results / "tables"
    for file, text in texts.items():
        write_text(folder / file, text)
    return [folder / file for file in texts]


def _remove_others(paths: Paths, written: set[Path]) -> None:
    """Remove tables that are not of this study, as of an ablation under its former name: exports name every file."""
    study = paths.study
    scores = {paths.table(d, method.name) for method in study.methods.values() for d in method.datasets}
    kept = written | scores | {notes_path(file) for file in scores}
    for file in [*(paths.results / "tables").glob("*.*"), *(paths.results / "metrics").glob("*/*.*")]:
        if file not in kept and not file.name.startswith("."):  # hidden ones are being written by another process
            file.unlink()


def _reproduction(book: ScoreBook) -> dict[str, str]:
    """The verdicts on the paper's cells, by file; no file where the paper's values are not comparable."""
    cells = reproductions(book)
    if not cells:
        return {}
    text = PLAIN.get_template("reproduction.md").render(
        summary=summary(cells), note=REPRODUCTION_NOTE, datasets=by_dataset(cells)
    )
    return {"reproduction.csv": reproduction_csv(cells), "reproduction.md": text}


def clips_csv(book: ScoreBook) -> str:
    """The value of every clip, unrounded: dataset, method, scene, clip, metrics."""
    metrics = book.study.spec.metrics
    parts = []
    for dataset, method, table in _scored(book):
        part = table[["scene", "sequence"]].drop_duplicates().rename(columns={"sequence": "clip"}).sort_values("clip")
        for metric in metrics:
            part[metric] = part["clip"].map(book.clip_means(dataset, method, metric))
        parts.append(part.assign(dataset=dataset, name=method.name, label=method.label))
    return _csv(parts, ["dataset", "name", "label", "scene", "clip", *metrics])


def protocols_csv(book: ScoreBook) -> str:
    """What the protocols of the study's data sets mean, metric by metric."""
    spec = book.study.spec
    rows = [
        describe(protocol_of(dataset, spec.metrics), metric)
        for dataset in spec.datasets.values()
        for metric in book.metrics
    ]
    return csv_text(pd.DataFrame(rows))


def frames_csv(book: ScoreBook) -> str:
    """All scores of the study: dataset, method, and the columns of its table; cells may be ``inf`` or empty."""
    parts = [table.assign(dataset=dataset, name=method.name) for dataset, method, table in _scored(book)]
    return _csv(parts, ["dataset", "name", *KEYS, *book.study.spec.metrics])


def _scored(book: ScoreBook) -> Iterator[tuple[str, Method, pd.DataFrame]]:
    """Dataset, method and scores, as far as there are any."""
    for dataset in book.study.spec.datasets:
        for method in book.study.methods.values():
            table = book.scores(dataset, method).table
            if table is not None:
                yield dataset, method, table


def _csv(parts: list[pd.DataFrame], columns: list[str]) -> str:
    table = pd.concat(parts) if parts else pd.DataFrame()
    return csv_text(table.reindex(columns=columns))
