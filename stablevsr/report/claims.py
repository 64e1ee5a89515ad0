"""The paper's claims, checked against a study: each holds, does not hold, is undecided, or cannot be checked.

A claim says that one method is better than another in a metric. It holds if the 95 % interval of the paired difference
(over windows of frames, clips and seeds; clips in focus only) lies on the better side of zero, does not hold if it lies
on the other side, and is undecided if it contains zero. Temporal metrics reward blur, so their verdicts come with the
ratio of the two methods' sharpness and a caveat where that ratio is not close to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from stablevsr.metrics.metric import Metric
from stablevsr.metrics.registry import METRICS
from stablevsr.report.bootstrap import PairedDifference, paired_bootstrap
from stablevsr.report.scores import IN_FOCUS_BELOW, ScoreBook
from stablevsr.report.text import counted, format_value
from stablevsr.runtime.errors import UserError
from stablevsr.study.files import Claim
from stablevsr.study.methods import Method
from stablevsr.study.resolve import claim_method

Verdict = Literal["holds", "does not hold", "undecided", "cannot be checked"]
LIKE_SHARPNESS = 0.05  #: relative difference of sharpness up to which two methods count as equally sharp
WINDOW = 4  #: consecutive frames resampled together


@dataclass(frozen=True)
class ClaimResult:
    """One claim on one dataset against one other method: its verdict, and the numbers behind it."""

    group: str  #: identifies the claim as written; a claim against all other methods has one result for each
    ablation: str | None
    dataset: str
    dataset_title: str
    metric: Metric
    better: Method
    than: Method
    best_of_all: bool  #: whether it belongs to a claim without ``than``
    source: str
    focus_note: str = ""
    verdict: Verdict = "cannot be checked"
    difference: PairedDifference | None = None  #: better minus than, in the metric's unit
    clips: tuple[str, ...] = ()
    sharpness_ratio: float | None = None  #: sharpness of ``better`` over that of ``than``, on the same clips
    caveat: str = ""  #: what the reader must know to judge the verdict
    reason: str = ""  #: why it cannot be checked

    @property
    def finding(self) -> str:
        """The claim's words before 'than'."""
        return f"{self.better.label} has {self.metric.direction} {self.metric.label}"

    @property
    def statement(self) -> str:
        """The claim as a sentence."""
        return f"{self.finding} than {self.than.label} on {self.dataset_title}"

    @property
    def bar(self) -> tuple[float, float, float] | None:
        """Low end, mean and high end in [-1, 1], positive in favour of the claim; None where not all are finite.

        The end farthest from zero is at 1 or -1: units differ between metrics, so a bar only shows where zero lies.
        """
        if self.difference is None:
            return None
        ends = (self.difference.low, self.difference.mean, self.difference.high)
        largest = max(map(abs, ends))
        if not math.isfinite(largest) or largest == 0:
            return None
        low, mean, high = (end / largest for end in ends)
        return (low, mean, high) if self.metric.direction == "higher" else (-high, -mean, -low)

    @property
    def difference_text(self) -> str:
        """The paired difference with its interval, as shown."""
        mean, low, high = self.shown_difference
        return f"{mean} [{low}, {high}]" if low and high else mean

    @property
    def shown_difference(self) -> tuple[str, str, str]:
        """Mean and bounds with the metric's decimals, or two significant digits where those would all be zeros."""
        if self.difference is None:
            return ("", "", "")
        values = (self.difference.mean, self.difference.low, self.difference.high)
        largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
        significant = 1 - math.floor(math.log10(largest)) if largest else 0
        digits = max(self.metric.decimals, significant)
        mean, low, high = (format_value(self.metric.name, v, sign=True, decimals=digits) for v in values)
        return (mean, low, high)

    @property
    def counts_text(self) -> str:
        """The numbers of frames, windows, clips and seeds behind the difference."""
        d = self.difference
        return counted(frame=d.n_frames, window=d.n_windows, clip=d.n_clips, seed=d.n_seeds) if d else ""

    @property
    def remarks(self) -> str:
        """Everything a reader should know beside the numbers."""
        return " ".join(part for part in (self.caveat, self.reason, self.focus_note) if part)


def check(book: ScoreBook) -> list[ClaimResult]:
    """Check every claim of the study and its ablations; where results are missing, the result says which."""
    study = book.study
    results = [_unchecked(book, None, *claim, study.table1_datasets()) for claim in enumerate(study.spec.claims, 1)]
    for name, ablation in study.ablations.items():
        datasets = study.ablation_datasets(name)
        results += [_unchecked(book, name, *claim, datasets) for claim in enumerate(ablation.claims, 1)]
    return [_checked(book, pair) for pairs in results for pair in pairs]


def _unchecked(
    book: ScoreBook, ablation: str | None, number: int, claim: Claim, datasets: tuple[str, ...]
) -> list[ClaimResult]:
    """The claim on every dataset against every method that it names, without a verdict."""
    better = claim_method(book.study, ablation, claim.better)
    rivals = [method for method in book.study.table1() if method.digest != better.digest]
    others = [claim_method(book.study, ablation, claim.than)] if claim.than else rivals
    return [
        ClaimResult(f"{ablation or 'study'} {number}", ablation, dataset, book.title(dataset), METRICS[claim.metric],
                    better, than, claim.than is None, claim.source, book.focus(dataset).note)
        for dataset in claim.datasets or datasets
        for than in others
    ]  # fmt: skip


def _checked(book: ScoreBook, claim: ClaimResult) -> ClaimResult:
    """The claim with its verdict, or with the reason why there is none."""
    a, b = (book.clip_means(claim.dataset, m, claim.metric.name) for m in (claim.better, claim.than))
    in_focus = book.focus(claim.dataset).clips  # all clips where the focus is unknown
    clips = tuple(sorted(c for c in set(a.index) & set(b.index) if in_focus is None or c in in_focus))
    try:
        difference = _difference(book, claim, clips)
    except UserError as error:
        return replace(claim, reason=str(error))
    verdict, remark = _judge(claim.metric, difference)
    if verdict != "undecided" and abs(difference.mean) < 0.5 * 10**-claim.metric.decimals:
        remark = "The difference is too small to be seen in the table."
    ours, theirs = (
        float(book.clip_means(claim.dataset, method, "sharpness").reindex(list(clips)).mean())
        for method in (claim.better, claim.than)
    )
    ratio = ours / theirs if math.isfinite(ours) and math.isfinite(theirs) and theirs > 0 else None
    caveats = (remark, _blur_caveat(claim.metric, ratio, claim.better, claim.than))
    return replace(
        claim,
        verdict=verdict,
        difference=difference,
        clips=clips,
        sharpness_ratio=ratio,
        caveat=" ".join(part for part in caveats if part),
    )


def _difference(book: ScoreBook, claim: ClaimResult, clips: tuple[str, ...]) -> PairedDifference:
    """Better minus than on ``clips``. Raises :class:`UserError` that says why the two cannot be compared."""
    if claim.better.digest == claim.than.digest:
        raise UserError(f"{claim.better.name} and {claim.than.name} resolve to the same settings")
    for method in (claim.better, claim.than):
        scores = book.scores(claim.dataset, method)
        if not scores.has(claim.metric.name):
            raise UserError(f"{method.label} has no {claim.metric.label}: {scores.reason(claim.metric.name)}")
    if book.focus(claim.dataset).clips == []:
        raise UserError(f"no clip is in focus (bicubic reaches {IN_FOCUS_BELOW:.0f} dB on all of them)")
    if not clips:
        raise UserError("the two methods share no clip in focus")
    a, b = (book.scores(claim.dataset, method).table for method in (claim.better, claim.than))
    assert a is not None and b is not None
    a, b = a[a["sequence"].isin(clips)], b[b["sequence"].isin(clips)]
    a, b = _for_seeds(claim.better, a, b), _for_seeds(claim.than, b, a)
    return paired_bootstrap(a, b, claim.metric.name, window=WINDOW)


def _for_seeds(method: Method, rows: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """``rows``, repeated for every seed of ``other`` if the method draws no noise and so has one run for all seeds."""
    if method.kind == "stablevsr":
        return rows
    first = rows[rows["seed"] == rows["seed"].min()]
    repeated: pd.DataFrame = pd.concat([first.assign(seed=seed) for seed in sorted(other["seed"].unique())])
    return repeated


def overall(results: list[ClaimResult]) -> Verdict:
    """The verdict of a claim with several comparisons: it holds if all do, and fails if one does."""
    worst: tuple[Verdict, ...] = ("does not hold", "cannot be checked", "undecided", "holds")
    return next(verdict for verdict in worst if verdict in {result.verdict for result in results})


def _judge(metric: Metric, difference: PairedDifference) -> tuple[Verdict, str]:
    """The verdict by the interval's position, and a remark where there is no interval."""
    low, high = difference.low, difference.high
    if math.isnan(difference.mean):
        return "undecided", "The difference is not defined (infinite values on both sides)."
    if math.isnan(low) or math.isnan(high):
        return "undecided", "There is a single window of frames only, so no interval can be given."
    if metric.direction == "lower":
        low, high = -high, -low
    if low > 0:
        return "holds", ""
    return ("does not hold" if high < 0 else "undecided"), ""


def _blur_caveat(metric: Metric, ratio: float | None, better: Method, than: Method) -> str:
    """What the sharpness of the two methods means for a verdict in a metric that rewards blur."""
    if not metric.rewards_blur:
        return ""
    if ratio is None:
        return f"{metric.label} rewards blur and sharpness was not measured: blur may explain the difference."
    if abs(ratio - 1) <= LIKE_SHARPNESS:
        return f"At like sharpness (ratio {ratio:.2f})."
    blurrier = better if ratio < 1 else than
    return (
        f"Not at like sharpness (ratio {ratio:.2f}): {blurrier.label} is blurrier, and {metric.label} rewards blur"
        f"{', so this may be no merit' if blurrier is better else ', which works against the statement'}."
    )
