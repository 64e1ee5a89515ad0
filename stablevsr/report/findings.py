"""The study's findings: at most five sentences with numbers and verdicts, in the order of the paper.

Which metric a finding is about is decided here and not by the result: the first of the topic's metrics that has values.
The words follow from the values that the tables show, so a finding may say the opposite of the paper; its verdicts say
whether that may be concluded. Where values are missing there is no finding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from stablevsr.report.answers import OPENINGS
from stablevsr.report.claims import MISMATCH, ClaimResult
from stablevsr.report.scores import ScoreBook
from stablevsr.report.text import format_value, joined, merged
from stablevsr.report.verdicts import BLURRIER, Verdict
from stablevsr.study.methods import REFERENCE
from stablevsr.study.statements import TABLE1

CONSISTENCY = ("tlp", "tof", "tof_dis", "warp_error")  #: metrics of temporal consistency, the paper's first
QUALITY = ("lpips", "dists")  #: of perceptual quality


@dataclass(frozen=True)
class Topic:
    """What a finding is about: the statements that it uses, and what is compared in them."""

    title: str
    question: str  #: of its statements
    metrics: tuple[str, ...]
    noun: str  #: of what is compared, in the plural


#: Findings that say which of several methods is best; questions are file names of ablations.
RANKINGS = (
    Topic("Quality against other methods", TABLE1, QUALITY, "methods"),
    Topic("Sampling strategy", "sampling", CONSISTENCY, "strategies"),
    Topic("Guidance", "guidance", CONSISTENCY, "kinds of guidance"),
    Topic("Training of the TCM", "tcm_training", CONSISTENCY, "trainings"),
)


@dataclass(frozen=True)
class Judged:
    """A verdict with what it is on and why, both empty where the finding's words say it."""

    verdict: Verdict
    subject: str
    reason: str

    @property
    def text(self) -> str:
        """The verdict in words: 'holds against Bicubic (same sign on 9 of 9 scenes)'."""
        words = f"{self.verdict} {self.subject}".strip()
        return f"{words} ({self.reason})" if self.reason else words


@dataclass(frozen=True)
class Finding:
    """One finding: a fact about these scores, and what may be concluded from it."""

    title: str
    question: str  #: where its numbers are
    fact: str
    verdicts: tuple[Judged, ...]

    @property
    def sentence(self) -> str:
        """The fact, and the verdicts on the paper's claim that the method is better."""
        verdicts = "; ".join(judged.text for judged in self.verdicts)
        return f"{self.fact}. The paper's claim: {verdicts}." if verdicts else f"{self.fact}."


def findings(book: ScoreBook, results: Sequence[ClaimResult]) -> list[Finding]:
    """What the study found, most important first; empty where nothing has been measured."""
    better = [r for r in results if not r.statement.same and _have_values(book, r)]
    usable = [r for r in better if _agree(book, r)]
    found = [_single_frame(book, usable), *(_ranking(book, better, topic) for topic in RANKINGS)]
    return [finding for finding in found if finding]


def _have_values(book: ScoreBook, result: ClaimResult) -> bool:
    """Whether both methods have values; one whose weights are missing has none, and is left out of findings."""
    return result.comparison is not None and all(map(math.isfinite, _values(book, result)))


def _agree(book: ScoreBook, result: ClaimResult) -> bool:
    """Whether the shown values differ in the direction of the paired difference.

    They need not where values of one method are undefined on some scenes: the tables average what there is.
    """
    assert result.comparison is not None
    ours, theirs = _values(book, result)
    return (ours - theirs) * result.comparison.mean >= 0


def _values(book: ScoreBook, result: ClaimResult) -> tuple[float, float]:
    """The values of both methods as in the tables, unrounded; NaN where there is none."""
    s = result.statement
    ours, theirs = (book.value(s.dataset, method, s.metric) for method in (s.better, s.than))
    return math.nan if ours is None else ours, math.nan if theirs is None else theirs


def _first_measured(results: list[ClaimResult], metrics: Sequence[str]) -> list[ClaimResult]:
    """The results in the first of ``metrics`` that has any, sorted by data set as first named."""
    for metric in metrics:
        if found := [r for r in results if r.statement.metric == metric]:
            order = list(dict.fromkeys(r.statement.dataset for r in found))
            return sorted(found, key=lambda r: order.index(r.statement.dataset))
    return []


def _single_frame(book: ScoreBook, results: list[ClaimResult]) -> Finding | None:
    """By how much the method changes consistency against sampling every frame alone."""
    own = book.study.methods[REFERENCE]
    against = [
        r
        for r in results
        if r.statement.better.on(r.statement.dataset).digest == own.on(r.statement.dataset).digest
        and r.statement.than.sampling is not None
        and r.statement.than.sampling.strategy == "single_frame"
        and _values(book, r)[1] > 0
    ]
    chosen = list({r.statement.dataset: r for r in reversed(_first_measured(against, CONSISTENCY))}.values())[::-1]
    if not chosen:
        return None
    clauses: list[str] = []
    for verb, group in groupby(chosen, key=lambda r: _verb(book, r)):
        parts = joined([_change(book, r) for r in group])
        what = "it" if clauses else f"{chosen[0].metric.label} against single-frame sampling"
        clauses.append(f"{verb} {what} {parts}")
    fact = f"{own.label} {joined(clauses)}"
    return Finding("Consistency", chosen[0].statement.question, fact, _judged(chosen, lambda r: ()))


def _verb(book: ScoreBook, result: ClaimResult) -> str:
    change = _relative(book, result)
    return "changes" if abs(change) < 0.01 else "lowers" if change < 0 else "raises"


def _relative(book: ScoreBook, result: ClaimResult) -> float:
    ours, theirs = _values(book, result)
    return ours / theirs - 1


def _change(book: ScoreBook, result: ClaimResult) -> str:
    """Such as 'by 42 % on REDS-like (19.01 against 32.80)'."""
    ours, theirs = (format_value(result.metric.name, value) for value in _values(book, result))
    change = abs(_relative(book, result))
    amount = "less than 1" if change < 0.01 else f"{100 * change:.0f}"
    return f"by {amount} % on {result.dataset_title} ({ours} against {theirs})"


def _ranking(book: ScoreBook, results: list[ClaimResult], topic: Topic) -> Finding | None:
    """Which of the compared methods is best, and where the method under study stands."""
    asked = [r for r in results if r.statement.question == topic.question]
    if topic.question == TABLE1:
        asked = [r for r in asked if r.statement.better.name == REFERENCE]
    chosen = _first_measured(asked, topic.metrics)
    chosen = [r for r in chosen if r.statement.better.name == chosen[0].statement.better.name]
    if not chosen or not all(_agree(book, r) for r in chosen):  # a ranking would contradict the paired differences
        return None
    quote = "{}" if topic.question == TABLE1 else "“{}”"  # variants have labels that are no names
    clauses: dict[tuple[str, str], list[str]] = {}
    for _, group in groupby(chosen, key=lambda r: r.statement.dataset):
        *head, detail = _best(book, list(group), topic.noun, quote)
        clauses.setdefault((head[0], head[1]), []).append(detail)
    parts, said = [], ""
    for (best, has), details in clauses.items():
        parts.append(f"{best} {joined(details)}" if has == said else f"{best} {has} {joined(details)}")
        said = has
    return Finding(topic.title, topic.question, joined(parts), _judged(chosen, lambda r: (r.statement.than.label,)))


def _best(book: ScoreBook, results: list[ClaimResult], noun: str, quote: str) -> tuple[str, str, str]:
    """On one data set: 'A', 'has the lowest tLP of 3 methods', 'on REDS-like (19.01; next: B, 20.30)'."""
    metric, own = results[0].metric, results[0].statement.better.label
    values = {own: _values(book, results[0])[0]} | {r.statement.than.label: _values(book, r)[1] for r in results}
    shown = {label: format_value(metric.name, value) for label, value in values.items()}
    ranked = sorted(shown, key=lambda label: float(shown[label]))  # all metrics of findings are better lower
    best = [label for label in ranked if shown[label] == shown[ranked[0]]]
    has = f"{'share' if len(best) > 1 else 'has'} the lowest {metric.label} of {len(ranked)} {noun}"
    detail = shown[ranked[0]]
    if own not in best:
        place = 1 + sum(float(shown[label]) < float(shown[own]) for label in ranked)
        detail += f"; {quote.format(own)} is number {place} with {shown[own]}"
    elif len(best) < len(ranked):
        following = ranked[len(best)]
        detail += f"; next: {quote.format(following)}, {shown[following]}"
    return joined([quote.format(label) for label in best]), has, f"on {results[0].dataset_title} ({detail})"


def _judged(results: list[ClaimResult], subject: Callable[[ClaimResult], tuple[str, ...]]) -> tuple[Judged, ...]:
    """The verdicts on the statements, each with rivals and data sets where they are not all alike."""
    groups = {verdict: [r for r in results if r.verdict == verdict] for verdict in OPENINGS}
    groups = {verdict: group for verdict, group in groups.items() if group}
    return tuple(
        Judged(verdict, _subject(group, subject) if len(groups) > 1 else "", _common_reason(group))
        for verdict, group in groups.items()
    )


def _subject(group: list[ClaimResult], subject: Callable[[ClaimResult], tuple[str, ...]]) -> str:
    entries = [((), subject(r), (r.dataset_title,)) for r in group]
    phrases = [
        f"{f'against {joined(rivals)} ' if rivals else ''}on {joined(titles)}" for _, rivals, titles in merged(entries)
    ]
    return joined(phrases)


def _common_reason(group: list[ClaimResult]) -> str:
    """The reason if it is the same for all, without the methods and numbers in it."""
    for part, reason in ((MISMATCH, f"a TCM was {MISMATCH}"), (BLURRIER, BLURRIER)):
        if all(part in r.reason for r in group):
            return reason
    reasons = {r.reason for r in group}
    return reasons.pop() if len(reasons) == 1 else ""
