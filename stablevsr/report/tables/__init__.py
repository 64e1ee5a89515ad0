"""The tables of a study: Table 1, one for each ablation, the claims, and the values of every clip and frame."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from stablevsr.data.frames import write_text
from stablevsr.report.claims import check
from stablevsr.report.scores import ScoreBook
from stablevsr.report.tables.build import build_tables
from stablevsr.report.tables.formats import (
    claims_csv,
    claims_markdown,
    csv_text,
    table_csv,
    table_markdown,
    table_tex,
)
from stablevsr.study.paths import Paths


def render(paths: Paths) -> list[Path]:
    """Write ``results/<study>/tables/*`` and return the files.

    ``<table>.{csv,md,tex}`` for Table 1 and every ablation, ``claims.{csv,md}``, and, unrounded, ``clips.csv`` with one
    row a clip and ``frames.csv`` with one a frame and seed. The same scores give the same bytes. Missing scores leave
    cells with a reason; only a damaged ``results/published`` raises :class:`~stablevsr.runtime.errors.UserError`.
    """
    book = ScoreBook(paths)
    texts: dict[str, str] = {}
    for name, table in build_tables(book).items():
        texts |= {f"{name}.csv": table_csv(table), f"{name}.md": table_markdown(table), f"{name}.tex": table_tex(table)}
    claims = check(book)
    texts |= {"claims.csv": claims_csv(claims), "claims.md": claims_markdown(claims)}
    texts |= {"clips.csv": clips_csv(book), "frames.csv": frames_csv(book)}
    folder = paths.results / "tables"
    for file, text in texts.items():
        write_text(folder / file, text)
    return [folder / file for file in texts]


def clips_csv(book: ScoreBook) -> str:
    """The value of every clip, unrounded: dataset, method, clip, whether it is in focus, metrics."""
    metrics = book.study.spec.metrics
    header = ["dataset", "name", "label", "clip", "in_focus", *metrics]
    return csv_text(header, (row for dataset in book.study.spec.datasets for row in _clip_rows(book, dataset)))


def _clip_rows(book: ScoreBook, dataset: str) -> Iterable[list[object]]:
    focus = book.focus(dataset).clips
    for method in book.study.methods.values():
        table = book.scores(dataset, method).table
        if table is None:
            continue
        means = [book.clip_means(dataset, method, metric) for metric in book.study.spec.metrics]
        for clip in sorted(table["sequence"].unique()):
            values = [repr(float(m[clip])) if clip in m.index else "" for m in means]
            in_focus = "" if focus is None else "yes" if clip in focus else "no"
            yield [dataset, method.name, method.label, clip, in_focus, *values]


def frames_csv(book: ScoreBook) -> str:
    """All scores of the study: dataset, method, sequence, frame, seed, metrics; cells may be ``inf`` or empty."""
    columns = ["dataset", "name", "sequence", "frame", "seed", *book.study.spec.metrics]
    parts = [
        table.assign(dataset=dataset, name=method.name)
        for dataset in book.study.spec.datasets
        for method in book.study.methods.values()
        if (table := book.scores(dataset, method).table) is not None
    ]
    table = pd.concat(parts) if parts else pd.DataFrame()
    return table.reindex(columns=columns).to_csv(index=False, lineterminator="\n")
