"""Everything that the page cannot show, once and with reasons: scores, metrics, frames and figures."""

from __future__ import annotations

from collections.abc import Iterable

from stablevsr.report.page.viewer import Viewer
from stablevsr.report.scores import ScoreBook
from stablevsr.report.text import Parts, joined, merged


def missing(book: ScoreBook, clips: Iterable[Viewer], drawn: bool) -> list[str]:
    """All gaps as sentences: of scores, metrics, frames in the player, and figures if none were ``drawn``."""
    shown = {viewer.dataset for viewer in clips}
    unseen = [dataset for dataset in book.study.main_datasets() if dataset not in shown]
    frames = [f"frames of {dataset}: no clip with ground truth and a method's frames was found" for dataset in unseen]
    figures = [] if drawn else ["figures: none were drawn (run the figures part of the report first)"]
    return [*book.missing(), *missing_metrics(book), *frames, *figures]


def missing_metrics(book: ScoreBook) -> list[str]:
    """The metrics without a value where frames were scored, one sentence for each reason, methods and data sets."""
    entries: list[Parts] = []
    for dataset in book.study.spec.datasets:
        scored = [method for method in book.methods() if book.scores(dataset, method).table is not None]
        for metric in book.metrics:
            reasons: dict[str, list[str]] = {}
            for method in scored:
                scores = book.scores(dataset, method)
                if not scores.has(metric.name):
                    reasons.setdefault(scores.reason(metric.name), []).append(method.label)
            for reason, labels in reasons.items():
                methods = "every method" if len(labels) == len(scored) else joined(labels)
                entries.append(((reason, methods), (metric.label,), (book.title(dataset),)))
    return [
        f"{joined(metrics)} of {methods} on {joined(titles)}: {reason}"
        for (reason, methods), metrics, titles in merged(entries)
    ]
