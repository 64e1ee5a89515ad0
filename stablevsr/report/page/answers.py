"""Sentences computed from verdicts: what a study reproduced, and the answer to each ablation's question."""

from __future__ import annotations

from collections.abc import Sequence

from stablevsr.report.claims import ClaimResult
from stablevsr.report.text import joined
from stablevsr.report.verdicts import Verdict

#: The beginning of an answer by verdict, in the order of the page.
OPENINGS: dict[Verdict, str] = {
    "holds": "as stated, ",
    "holds for these clips": "as stated, on these clips at least, ",
    "equivalent": "within the metric's margin ",
    "does not hold": "the opposite was measured of this: ",
    "confounded": "blur may be the only cause that ",
    "not shown equal": "it was not shown that ",
    "undecided": "the data do not decide whether ",
    "not testable here": "it cannot be tested here whether ",
}
#: Of a statement: method and relation, then the metrics, rivals and data sets that it is about.
Entry = tuple[tuple[str, ...], ...]


def counts(results: Sequence[ClaimResult]) -> dict[Verdict, int]:
    """How many statements came to each verdict; verdicts that none came to are left out."""
    found = {verdict: sum(r.verdict == verdict for r in results) for verdict in OPENINGS}
    return {verdict: number for verdict, number in found.items() if number}


def summary(results: Sequence[ClaimResult]) -> str:
    """One sentence for the whole study."""
    if not results:
        return "The study states no claim, so nothing was checked."
    parts = [f"{number} × {verdict}" for verdict, number in counts(results).items()]
    return f"Verdicts on {len(results)} statements: {joined(parts)}."


def answer(results: Sequence[ClaimResult]) -> str:
    """The answer to an ablation's question by its statements: one sentence with a part for each verdict."""
    if not results:
        return "The ablation states no claim, so there is only its table."
    by_verdict = {verdict: [r for r in results if r.verdict == verdict] for verdict in OPENINGS}
    parts = [OPENINGS[verdict] + joined(_phrases(chosen)) for verdict, chosen in by_verdict.items() if chosen]
    text = "; ".join(parts) + "."
    return text[0].upper() + text[1:]


def _phrases(results: list[ClaimResult]) -> list[str]:
    """Phrases such as 'A has lower L and M than B and C on D1 and D2': what is alike in all but one thing is merged."""
    entries: list[Entry] = []
    for r in results:
        s = r.statement
        entries.append(((s.better.label, *r.relation), (r.metric.label,), (s.than.label,), (r.dataset_title,)))
    for part in (3, 2, 1):
        entries = _merged(entries, part)
    return [
        f"{better} has {how} {joined(metrics)} {link} {joined(thans)} on {joined(titles)}"
        for (better, how, link), metrics, thans, titles in entries
    ]


def _merged(entries: list[Entry], part: int) -> list[Entry]:
    """The entries with those joined that differ in ``part`` only."""
    groups: dict[Entry, tuple[str, ...]] = {}
    for entry in entries:
        rest = (*entry[:part], (), *entry[part + 1 :])
        groups[rest] = tuple(dict.fromkeys((*groups.get(rest, ()), *entry[part])))
    return [(*rest[:part], names, *rest[part + 1 :]) for rest, names in groups.items()]
