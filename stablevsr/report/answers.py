"""Sentences computed from verdicts: what a study reproduced, and the answer to each ablation's question."""

from __future__ import annotations

from collections.abc import Sequence

from stablevsr.report.claims import ClaimResult
from stablevsr.report.text import Parts, counted, joined, merged
from stablevsr.report.verdicts import Verdict

#: The beginning of an answer by verdict, in the order of the page.
OPENINGS: dict[Verdict, str] = {
    "holds": "as stated, ",
    "holds for these clips": "as stated, on these clips at least, ",
    "equivalent": "within the metric's margin ",
    "equivalent for these clips": "within the metric's margin, on these clips at least, ",
    "does not hold": "the opposite was measured of this: ",
    "does not hold for these clips": "on these clips at least, the opposite was measured of this: ",
    "confounded": "blur may be the only cause that ",
    "not shown equal": "it was not shown that ",
    "undecided": "the data do not decide whether ",
    "not testable here": "it cannot be tested here whether ",
}
#: In place of the opening where the winner that may owe it to its blur is the other method.
BLUR_AGAINST = "the opposite was measured of this, and blur may be its only cause: "
MOST_PHRASES = 2  #: for one verdict in an answer


def counts(results: Sequence[ClaimResult]) -> dict[Verdict, int]:
    """How many statements came to each verdict; verdicts that none came to are left out."""
    found = {verdict: sum(r.verdict == verdict for r in results) for verdict in OPENINGS}
    return {verdict: number for verdict, number in found.items() if number}


def summary(results: Sequence[ClaimResult]) -> str:
    """One sentence on how many statements came to which verdict."""
    if not results:
        return "This study checks no statement of the paper."
    parts = [f"{number} × {verdict}" for verdict, number in counts(results).items()]
    return f"Verdicts on {len(results)} statements: {joined(parts)}."


def answer(results: Sequence[ClaimResult]) -> str:
    """The answer to a question by its statements: one sentence with a part for each verdict.

    A verdict that needs more than MOST_PHRASES phrases has only the number of its statements.
    """
    if not results:
        return "No claim is stated, so there is only a table."
    found: dict[tuple[Verdict, str], list[ClaimResult]] = {}
    for verdict, opening in OPENINGS.items():
        for r in (r for r in results if r.verdict == verdict):
            against = verdict == "confounded" and not r.favours_statement
            found.setdefault((verdict, BLUR_AGAINST if against else opening), []).append(r)
    text = "; ".join(_part(verdict, opening, chosen) for (verdict, opening), chosen in found.items()) + "."
    return text[0].upper() + text[1:]


def _part(verdict: Verdict, opening: str, results: list[ClaimResult]) -> str:
    """The statements of one verdict: 'as stated, A has lower L and M than B and C on D1 and D2'.

    What is alike in all but one thing is merged.
    """
    relations: dict[str, list[str]] = {}
    for (better, how, link), metrics, thans, titles in merged([_entry(r) for r in results]):
        what = f"{how} {joined(metrics)} {link} {joined(thans)} on {joined(titles)}"
        relations.setdefault(better, []).append(what)
    if sum(map(len, relations.values())) > MOST_PHRASES:
        return f"{verdict}: {counted(statement=len(results))}"
    return opening + joined([f"{better} has {joined(parts)}" for better, parts in relations.items()])


def _entry(r: ClaimResult) -> Parts:
    s = r.statement
    return ((s.better.label, *r.relation), (r.metric.label,), (s.than.label,), (r.dataset_title,))
