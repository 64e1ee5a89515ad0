"""Sentences computed from claims: what a study reproduced, and the answer to each ablation's question."""

from __future__ import annotations

from collections.abc import Sequence

from stablevsr.report.claims import ClaimResult, Verdict
from stablevsr.report.text import joined

#: The beginning of an answer by verdict, in the order of the page.
OPENINGS: dict[Verdict, str] = {
    "holds": "as stated, ",
    "does not hold": "the opposite was measured of this: ",
    "undecided": "the data do not decide whether ",
    "cannot be checked": "it cannot be checked here whether ",
}


def counts(results: Sequence[ClaimResult]) -> dict[Verdict, int]:
    """How many claims came to each verdict; a claim that the study and an ablation both state counts once."""
    checks = {(r.better.digest, r.than.digest, r.metric.name, r.dataset): r.verdict for r in results}
    return {verdict: sum(found == verdict for found in checks.values()) for verdict in OPENINGS}


def summary(results: Sequence[ClaimResult]) -> str:
    """One sentence for the whole study."""
    if not results:
        return "The study states no claim, so nothing was checked."
    found = counts(results)
    total = sum(found.values())
    repeated = " (a repeated one counts once)" if total < len(results) else ""
    return (
        f"Of {total} checked claims{repeated}, {found['holds']} hold{'s' if found['holds'] == 1 else ''}, "
        f"{found['does not hold']} {'does' if found['does not hold'] == 1 else 'do'} not hold, "
        f"{found['undecided']} {'is' if found['undecided'] == 1 else 'are'} undecided, and "
        f"{found['cannot be checked']} cannot be checked here."
    )


def answer(results: Sequence[ClaimResult]) -> str:
    """The answer to an ablation's question by its claims: one sentence with a part for each verdict."""
    if not results:
        return "The ablation states no claim, so there is only its table."
    by_verdict = {verdict: [r for r in results if r.verdict == verdict] for verdict in OPENINGS}
    parts = [OPENINGS[verdict] + joined(_phrases(chosen)) for verdict, chosen in by_verdict.items() if chosen]
    text = "; ".join(parts) + "."
    return text[0].upper() + text[1:]


def _phrases(results: list[ClaimResult]) -> list[str]:
    """Phrases such as 'A has lower M than B and C on D1 and D2', with datasets and compared methods merged."""
    datasets: dict[tuple[str, str, str], list[str]] = {}
    for r in results:
        caveat = " (not at like sharpness)" if r.caveat.startswith("Not at like") else ""
        datasets.setdefault((r.finding, r.than.label, caveat), []).append(r.dataset_title)
    others: dict[tuple[str, str], list[str]] = {}
    for (finding, than, caveat), titles in datasets.items():
        others.setdefault((finding, f"on {joined(titles)}{caveat}"), []).append(than)
    return [f"{finding} than {joined(thans)} {where}" for (finding, where), thans in others.items()]
