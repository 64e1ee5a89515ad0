"""Plain sentences computed from claims: what a study reproduced, and the answer to each ablation's question."""

from __future__ import annotations

from collections.abc import Sequence

from stablevsr.report.claims import ClaimResult, Verdict

ORDER: tuple[Verdict, ...] = ("holds", "does not hold", "undecided", "cannot be checked")


def counts(results: Sequence[ClaimResult]) -> dict[Verdict, int]:
    """How many checks came to each verdict; what the study and its ablations state more than once counts once."""
    checks = {(r.better.digest, r.than.digest, r.metric.name, r.dataset): r.verdict for r in results}
    return {verdict: sum(found == verdict for found in checks.values()) for verdict in ORDER}


def summary(results: Sequence[ClaimResult]) -> str:
    """One sentence for the whole study."""
    if not results:
        return "The study states no claim, so nothing was checked."
    found = counts(results)
    parts = [
        f"{found['holds']} hold{'s' if found['holds'] == 1 else ''}",
        f"{found['does not hold']} {'does' if found['does not hold'] == 1 else 'do'} not hold",
        f"{found['undecided']} {'is' if found['undecided'] == 1 else 'are'} undecided",
        f"{found['cannot be checked']} cannot be checked here",
    ]
    total = sum(found.values())
    doubled = " (what is stated twice counts once)" if total < len(results) else ""
    return f"Of {total} checked statements{doubled}, {', '.join(parts[:-1])}, and {parts[-1]}."


def answer(results: Sequence[ClaimResult]) -> str:
    """The answer to an ablation's question, as far as its claims give one: one sentence, verdict by verdict."""
    if not results:
        return "The ablation states no claim; its table is all there is to say."
    openings: dict[Verdict, str] = {
        "holds": "as stated, ",
        "does not hold": "the opposite was measured of this: ",
        "undecided": "the data do not decide whether ",
        "cannot be checked": "it cannot be checked here whether ",
    }
    parts = []
    for verdict in ORDER:
        chosen = [r for r in results if r.verdict == verdict]
        if chosen:
            parts.append(openings[verdict] + _join(_phrases(chosen)))
    text = "; ".join(parts) + "."
    return text[0].upper() + text[1:]


def _phrases(results: list[ClaimResult]) -> list[str]:
    """'A has lower M than B and C on D1 and D2', merged over datasets and then over those it is compared with."""
    merged: dict[tuple[str, str, str, str], list[str]] = {}
    for r in results:
        word = "higher" if r.metric.direction == "higher" else "lower"
        caveat = " (not at like sharpness)" if r.caveat.startswith("Not at like") else ""
        key = (r.better.label, f"{word} {r.metric.label}", r.than.label, caveat)
        merged.setdefault(key, []).append(r.dataset_title)
    others: dict[tuple[str, str, str, str], list[str]] = {}
    for (better, metric, than, caveat), datasets in merged.items():
        others.setdefault((better, metric, _join(datasets), caveat), []).append(than)
    return [
        f"{better} has {metric} than {_join(thans)} on {datasets}{caveat}"
        for (better, metric, datasets, caveat), thans in others.items()
    ]


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
