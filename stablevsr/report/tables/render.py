"""Writes the tables of a study: Table 1, one for each ablation, the claims, and the values of every clip."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from stablevsr.report.claims import ClaimResult, check_with
from stablevsr.report.published import published_rows
from stablevsr.report.scores import ScoreBook
from stablevsr.report.tables.markup import (
    csv_text,
    escape_markdown,
    markdown_table,
    table_csv,
    table_markdown,
    table_tex,
)
from stablevsr.report.tables.tabular import Table, build_tables
from stablevsr.runtime.io import write_text
from stablevsr.study.methods import ResolvedStudy
from stablevsr.study.paths import Paths


def render(study: ResolvedStudy, paths: Paths) -> list[Path]:
    """Write ``results/<study>/tables/*`` and return the files.

    ``<table>.{csv,md,tex}`` for Table 1 and every ablation, ``claims.{csv,md}``, and, unrounded, ``clips.csv`` with one
    value a clip and ``frames.csv`` with one a frame and seed. The same scores give the same bytes. Scores that are
    missing leave cells with a reason; only a damaged ``results/published`` raises
    :class:`~stablevsr.runtime.errors.UserError`.
    """
    book = ScoreBook(study, paths)
    tables = build_tables(study, book, published_rows(study, paths.results_root / "published"))
    texts: dict[str, str] = {}
    for name, table in tables.items():
        texts |= _table_files(name, table)
    claims = check_with(book)
    texts["claims.csv"], texts["claims.md"] = claims_csv(claims), claims_markdown(claims)
    texts["clips.csv"], texts["frames.csv"] = clips_csv(book), frames_csv(book)
    folder = paths.results / "tables"
    for file, text in texts.items():
        write_text(folder / file, text)
    return [folder / file for file in texts]


def _table_files(name: str, table: Table) -> dict[str, str]:
    return {f"{name}.csv": table_csv(table), f"{name}.md": table_markdown(table), f"{name}.tex": table_tex(table)}


def claims_csv(claims: Iterable[ClaimResult]) -> str:
    """One line a checked pair, numbers as shown."""
    header = [
        "claim", "dataset", "metric", "better", "than", "verdict", "difference", "low", "high", "frames", "windows",
        "clips", "seeds", "sharpness_ratio", "clips_used", "caveat", "focus", "reason", "source",
    ]  # fmt: skip
    return csv_text(header, (_claim_row(claim) for claim in claims))


def _claim_row(claim: ClaimResult) -> list[object]:
    d = claim.difference
    counts: list[object] = [""] * 4 if d is None else [d.n_frames, d.n_windows, d.n_clips, d.n_seeds]
    return [
        claim.group, claim.dataset, claim.metric.name, claim.better.name, claim.than.name, claim.verdict,
        *claim.shown_difference, *counts,
        "" if claim.sharpness_ratio is None else f"{claim.sharpness_ratio:.3f}",
        " ".join(claim.clips), claim.caveat, claim.focus_note, claim.reason, claim.source,
    ]  # fmt: skip


def claims_markdown(claims: list[ClaimResult]) -> str:
    """The claims for people, in the order in which the study states them."""
    rows = [
        [
            f"**{claim.verdict}**",
            escape_markdown(claim.statement),
            escape_markdown(claim.difference_text),
            escape_markdown(claim.counts_text),
            escape_markdown(" ".join(part for part in (claim.caveat, claim.reason, claim.focus_note) if part)),
            escape_markdown(claim.source),
        ]
        for claim in claims
    ]
    header = ["Verdict", "Statement", "Paired difference [95 % interval]", "Rests on", "Remarks", "Source"]
    intro = (
        "The difference is the first method minus the second, paired by frame and seed, on the clips in focus. A "
        "statement holds if the interval lies on the better side of zero, and is undecided if zero is inside it.\n"
    )
    return f"# Claims\n\n{intro}\n{markdown_table(header, rows) if rows else 'The study states no claim.'}"


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
        means = {metric: book.clip_means(dataset, method, metric) for metric in book.study.spec.metrics}
        for clip in sorted(table["sequence"].unique()):
            values = [repr(float(m[clip])) if clip in m.index else "" for m in means.values()]
            shown = "" if focus is None else "yes" if clip in focus else "no"
            yield [dataset, method.name, method.label, clip, shown, *values]


def frames_csv(book: ScoreBook) -> str:
    """All scores of the study: dataset, method, sequence, frame, seed, metrics; cells may be ``inf`` or empty."""
    keys = ["dataset", "name", "sequence", "frame", "seed"]
    parts = [pd.DataFrame(columns=[*keys, *book.study.spec.metrics])]
    for dataset in book.study.spec.datasets:
        for method in book.study.methods.values():
            table = book.scores(dataset, method).table
            if table is not None:
                parts.append(table.assign(dataset=dataset, name=method.name))
    return pd.concat(parts[1:] or parts).reindex(columns=parts[0].columns).to_csv(index=False, lineterminator="\n")
