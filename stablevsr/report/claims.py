"""The verdict on every statement of a study (:mod:`.verdicts`), with the numbers that it rests on.

A statement is tested by the paired differences of its two methods, with the scene as the unit
(:mod:`stablevsr.metrics.statistics`). The statements of one question (an ablation, or Table 1) on one data set that say
that a method is better, in all their metrics, are a family: their p-values are adjusted together. Statements that two
methods are the same are tested one by one with the metric's margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stablevsr.metrics.metric import Metric
from stablevsr.metrics.registry import METRICS
from stablevsr.metrics.statistics import Comparison, compare, equivalence
from stablevsr.report.scores import ScoreBook
from stablevsr.report.text import counted, format_difference, format_p
from stablevsr.report.verdicts import (
    Evidence,
    Verdict,
    adjusted_p,
    interval,
    judge,
    judge_equivalence,
    plain_p,
    rests_on_runs,
)
from stablevsr.runtime.errors import UserError
from stablevsr.study.methods import Method, ResolvedStudy
from stablevsr.study.statements import Statement, statements

#: Why a TCM says nothing about the guidance that it is run with.
MISMATCH = "trained for another guidance than it is run with"


@dataclass(frozen=True)
class ClaimResult:
    """One statement with its verdict and, as far as there are scores, the numbers behind it."""

    statement: Statement
    dataset_title: str
    verdict: Verdict = "not testable here"
    reason: str = ""
    comparison: Comparison | None = None  #: better minus than, in the metric's unit
    p: float = math.nan  #: of the statement alone, over what its verdict rests on
    p_adjusted: float | None = None  #: in its family; None for statements that two methods are the same
    sharpness_ratio: float | None = None  #: sharpness of ``better`` over that of ``than``, on the same scenes

    @property
    def metric(self) -> Metric:
        """The metric of the statement."""
        return METRICS[self.statement.metric]

    @property
    def relation(self) -> tuple[str, str]:
        """The words around the metric: ``("lower", "than")`` or ``("the same", "as")``."""
        return ("the same", "as") if self.statement.same else (self.metric.direction, "than")

    @property
    def sentence(self) -> str:
        """The statement as a sentence without a full stop."""
        s, (how, link) = self.statement, self.relation
        return f"{s.better.label} has {how} {self.metric.label} {link} {s.than.label} on {self.dataset_title}"

    @property
    def favours_statement(self) -> bool:
        """Whether the mean difference lies on the side that a statement "better than" says."""
        return self.comparison is not None and (self.comparison.mean > 0) == (self.metric.direction == "higher")

    @property
    def numbers(self) -> tuple[float, float, float] | None:
        """The mean difference, and the ends of the 95 % t-interval over what the verdict rests on; None without one."""
        return None if self.comparison is None else (self.comparison.mean, *interval(self.comparison))

    @property
    def bar(self) -> tuple[float, float, float] | None:
        """Low end, mean and high end in [-1, 1], positive in favour of the statement; None where not all are finite.

        The end farthest from zero is at 1 or -1: units differ between metrics, so a bar only shows where zero lies.
        Statements that two methods are the same have none.
        """
        if self.numbers is None or self.statement.same:
            return None
        middle, start, end = self.numbers
        ends = (start, middle, end)
        largest = max(map(abs, ends))
        if not math.isfinite(largest) or largest == 0:
            return None
        low, mean, high = (end / largest for end in ends)
        return (low, mean, high) if self.metric.direction == "higher" else (-high, -mean, -low)

    @property
    def difference_text(self) -> str:
        """:attr:`numbers` as shown."""
        return "" if self.numbers is None else format_difference(self.metric, *self.numbers)

    @property
    def p_text(self) -> str:
        """The p-value that the verdict rests on, as shown."""
        value = self.p if self.p_adjusted is None else self.p_adjusted
        return "" if math.isnan(value) else format_p(value)  # NaN: too few scenes and runs

    @property
    def counts_text(self) -> str:
        """The numbers of scenes and runs behind the difference."""
        c = self.comparison
        return "" if c is None else counted(scene=c.n_scenes, run=c.n_runs)


def check(book: ScoreBook) -> list[ClaimResult]:
    """The verdicts on all statements of the study, Table 1 first; where there is none, the reason says why."""
    results = [_compared(book, statement) for statement in statements(book.study)]
    adjusted: dict[int, float] = {}
    for family in _families(results):
        members = [results[i] for i in family]
        comparisons = [r.comparison for r in members if r.comparison]
        p_values = adjusted_p(comparisons, [_trained_here(r.statement) for r in members])
        adjusted |= dict(zip(family, p_values, strict=True))
    return [_judged(result, adjusted.get(i)) for i, result in enumerate(results)]


def by_question(results: list[ClaimResult], study: ResolvedStudy) -> dict[str, list[ClaimResult]]:
    """The statements by the title of their ablation, those of Table 1 first."""
    found: dict[str, list[ClaimResult]] = {}
    for result in results:
        ablation = study.ablations.get(result.statement.question)
        found.setdefault(ablation.title if ablation else "Table 1", []).append(result)
    return found


def _families(results: list[ClaimResult]) -> list[list[int]]:
    """The places in ``results`` of the statements that are adjusted together, by question and data set."""
    found: dict[tuple[str, str], list[int]] = {}
    for place, result in enumerate(results):
        s = result.statement
        if result.comparison is not None and not s.same:
            found.setdefault((s.question, s.dataset), []).append(place)
    return list(found.values())


def _compared(book: ScoreBook, s: Statement) -> ClaimResult:
    """The statement with its comparison, or with the reason why its methods cannot be compared."""
    result = ClaimResult(s, book.title(s.dataset))
    ours, theirs = (book.scores(s.dataset, method) for method in (s.better, s.than))
    for method, scores in ((s.better, ours), (s.than, theirs)):
        if not scores.has(s.metric):
            return replace(result, reason=f"{method.label} has no {result.metric.label}: {scores.reason(s.metric)}")
    assert ours.table is not None and theirs.table is not None
    try:
        comparison = compare(ours.table, theirs.table, s.metric)
    except UserError as error:
        return replace(result, reason=str(error))
    p = plain_p(comparison)
    if s.same:
        margin = result.metric.margin
        tested = comparison.runs if rests_on_runs(comparison) else comparison.scenes
        p = math.nan if margin is None else equivalence(tested.to_numpy(), margin)
    return replace(result, comparison=comparison, p=p, sharpness_ratio=_sharpness_ratio(book, s, comparison))


def _judged(result: ClaimResult, p_adjusted: float | None) -> ClaimResult:
    """The statement with its verdict."""
    s, comparison = result.statement, result.comparison
    if comparison is None:
        return result
    mismatched = [m.label for m in (s.better, s.than) if _trained_otherwise(m.on(s.dataset))]
    if mismatched:
        verdict: Verdict = "not testable here"
        reason = f"the TCM of {' and '.join(mismatched)} was {MISMATCH}"
    elif s.same:
        verdict, reason = judge_equivalence(comparison, result.metric.margin)
    else:
        assert p_adjusted is not None
        evidence = Evidence(
            comparison=comparison,
            p_adjusted=p_adjusted,
            higher_is_better=result.metric.direction == "higher",
            rewards_blur=result.metric.rewards_blur,
            between_trainings=_trained_here(s),
            sharpness_ratio=result.sharpness_ratio,
        )
        verdict, reason = judge(evidence)
    return replace(result, verdict=verdict, reason=reason, p_adjusted=p_adjusted)


def _trained_here(s: Statement) -> bool:
    """Whether either method uses a network that the study trains."""
    return any(method.on(s.dataset).trainings() for method in (s.better, s.than))


def _trained_otherwise(form: Method) -> bool:
    """Whether a TCM that the study trains saw another guidance in training than it gets at sampling."""
    return form.training is not None and form.training.guidance != form.guidance


def _sharpness_ratio(book: ScoreBook, s: Statement, comparison: Comparison) -> float | None:
    """Sharpness of ``better`` over that of ``than`` on the compared scenes; None where it was not measured."""
    ours, theirs = (
        float(book.scene_means(s.dataset, method, "sharpness").reindex(comparison.scenes.index).mean())
        for method in (s.better, s.than)
    )
    return ours / theirs if math.isfinite(ours) and math.isfinite(theirs) and theirs > 0 else None
