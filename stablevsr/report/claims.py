"""The paper's statements, checked against a study: holds, does not hold, undecided, or cannot be checked.

A statement says that one method is better than another in a metric. It holds if the 95 % interval of the paired
difference (over windows of frames, clips and seeds; clips in focus only) lies on the better side of zero, does not hold
if it lies on the other side, and is undecided if it contains zero. Temporal metrics reward blur, so they are shown with
the sharpness ratio of the two methods, and a verdict that is not at like sharpness says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from stablevsr.metrics.metric import Metric
from stablevsr.metrics.registry import METRICS
from stablevsr.metrics.statistics import PairedDifference, paired_bootstrap
from stablevsr.report.scores import IN_FOCUS_BELOW, Focus, ScoreBook, format_value
from stablevsr.report.tables.markup import counted
from stablevsr.runtime.errors import UserError
from stablevsr.study.files import Claim
from stablevsr.study.methods import Method, ResolvedStudy
from stablevsr.study.paths import Paths
from stablevsr.study.resolve import claim_method

Verdict = Literal["holds", "does not hold", "undecided", "cannot be checked"]
LIKE_SHARPNESS = 0.05  #: relative difference of sharpness up to which two methods are alike
WINDOW = 4  #: consecutive frames resampled together


@dataclass(frozen=True)
class ClaimResult:
    """One statement on one dataset against one other method, with its verdict and what it rests on."""

    group: str  #: identifies the claim as written; a claim against all others has one result for each
    ablation: str | None
    dataset: str
    dataset_title: str
    metric: Metric
    better: Method
    than: Method
    best_of_all: bool  #: part of a claim against every other method of Table 1
    source: str
    verdict: Verdict
    difference: PairedDifference | None = None  #: better minus than, in the metric's unit
    clips: tuple[str, ...] = ()
    focus_note: str = ""
    sharpness_ratio: float | None = None  #: sharpness of ``better`` over that of ``than``, on the same clips
    caveat: str = ""  #: what the reader must know beside the verdict
    reason: str = ""  #: why it cannot be checked

    @property
    def statement(self) -> str:
        """The claim as a sentence."""
        word = "higher" if self.metric.direction == "higher" else "lower"
        return f"{self.better.label} has {word} {self.metric.label} than {self.than.label} on {self.dataset_title}"

    @property
    def drawn(self) -> tuple[float, float, float] | None:
        """Low end, mean and high end in [-1, 1], positive in favour of the statement; None where not all are finite.

        The farthest end is at 1 or -1: metrics have units of their own, so a drawing only shows where zero lies.
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
        if self.difference is None:
            return ""
        mean, low, high = self.shown_difference
        return f"{mean} [{low}, {high}]" if low and high else mean

    @property
    def shown_difference(self) -> tuple[str, str, str]:
        """Mean and bounds rounded by the registry, or to two digits where that would show nothing but zeros."""
        if self.difference is None:
            return ("", "", "")
        values = (self.difference.mean, self.difference.low, self.difference.high)
        largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
        extra = self.metric.decimals if largest == 0 else max(self.metric.decimals, 1 - math.floor(math.log10(largest)))
        mean, low, high = (format_value(self.metric.name, v, sign=True, decimals=extra) for v in values)
        return (mean, low, high)

    @property
    def counts_text(self) -> str:
        """What the difference rests on."""
        d = self.difference
        if d is None:
            return ""
        return counted(frame=d.n_frames, window=d.n_windows, clip=d.n_clips, seed=d.n_seeds)


def check(study: ResolvedStudy, paths: Paths) -> list[ClaimResult]:
    """Check every claim of the study and its ablations. Missing results are no error: the reason is in the result."""
    return check_with(ScoreBook(study, paths))


def check_with(book: ScoreBook) -> list[ClaimResult]:
    """As :func:`check`, with scores that are read already."""
    study = book.study
    results: list[ClaimResult] = []
    for number, claim in enumerate(study.spec.claims, 1):
        results += _check_claim(book, None, f"study {number}", claim, study.table1_datasets())
    for name, ablation in study.ablations.items():
        datasets = study.ablation_datasets(name)
        for number, claim in enumerate(ablation.claims, 1):
            results += _check_claim(book, name, f"{name} {number}", claim, datasets)
    return results


def _check_claim(
    book: ScoreBook, ablation: str | None, group: str, claim: Claim, datasets: tuple[str, ...]
) -> list[ClaimResult]:
    study = book.study
    better = claim_method(study, ablation, claim.better)
    others = [claim_method(study, ablation, claim.than)] if claim.than else _rivals(study, better)
    return [
        _check_pair(group, ablation, claim, _Pair(book, dataset, METRICS[claim.metric], better, than))
        for dataset in claim.datasets or datasets
        for than in others
    ]


def _rivals(study: ResolvedStudy, better: Method) -> list[Method]:
    return [method for method in study.table1() if method.digest != better.digest]


@dataclass(frozen=True)
class _Pair:
    """Two methods on one dataset in one metric, and the clips to compare them on."""

    book: ScoreBook
    dataset: str
    metric: Metric
    better: Method
    than: Method

    @property
    def focus(self) -> Focus:
        return self.book.focus(self.dataset)

    def obstacle(self) -> str:
        """Why the two cannot be compared; empty if they can."""
        if self.better.digest == self.than.digest:
            return f"{self.better.name} and {self.than.name} resolve to the same settings"
        for method in (self.better, self.than):
            scores = self.book.scores(self.dataset, method)
            if not scores.has(self.metric.name):
                return f"{method.label} has no {self.metric.label}: {scores.reason(self.metric.name)}"
        if self.focus.clips == []:
            return f"no clip is in focus (bicubic reaches {IN_FOCUS_BELOW:.0f} dB on all of them)"
        return "" if self.clips() else "the two methods share no clip in focus"

    def clips(self) -> tuple[str, ...]:
        """The clips in focus (or all, if that cannot be told) on which both have a value."""
        a, b = (self.book.clip_means(self.dataset, m, self.metric.name) for m in (self.better, self.than))
        wanted = self.focus.clips
        return tuple(sorted(c for c in set(a.index) & set(b.index) if wanted is None or c in wanted))

    def difference(self) -> PairedDifference:
        """Better minus than on those clips. Raises :class:`UserError` if no frame can be paired."""
        a, b = self._rows(self.better), self._rows(self.than)
        return paired_bootstrap(
            _for_seeds(self.better, a, b), _for_seeds(self.than, b, a), self.metric.name, window=WINDOW
        )

    def _rows(self, method: Method) -> pd.DataFrame:
        table = self.book.scores(self.dataset, method).table
        assert table is not None
        chosen: pd.DataFrame = table[table["sequence"].isin(self.clips())]
        return chosen

    def sharpness_ratio(self) -> float | None:
        """Mean sharpness of ``better`` over that of ``than``; None where it was not measured."""
        clips = list(self.clips())
        a, b = (
            float(self.book.clip_means(self.dataset, method, "sharpness").reindex(clips).mean())
            for method in (self.better, self.than)
        )
        return a / b if math.isfinite(a) and math.isfinite(b) and b > 0 else None


def _check_pair(group: str, ablation: str | None, claim: Claim, pair: _Pair) -> ClaimResult:
    unchecked = ClaimResult(
        group=group,
        ablation=ablation,
        dataset=pair.dataset,
        dataset_title=pair.book.study.spec.datasets[pair.dataset].title,
        metric=pair.metric,
        better=pair.better,
        than=pair.than,
        best_of_all=claim.than is None,
        source=claim.source,
        verdict="cannot be checked",
        focus_note=_focus_note(pair.focus),
    )
    try:
        reason = pair.obstacle()
        if reason:
            return replace(unchecked, reason=reason)
        difference = pair.difference()
    except UserError as error:
        return replace(unchecked, reason=str(error))
    ratio = pair.sharpness_ratio()
    verdict, remark = _judge(pair.metric, difference)
    if verdict != "undecided" and abs(difference.mean) < 0.5 * 10**-pair.metric.decimals:
        remark = "The difference is too small to be seen in the table."
    blur = _blur_caveat(pair.metric, ratio, pair.better, pair.than)
    return replace(
        unchecked,
        verdict=verdict,
        difference=difference,
        clips=pair.clips(),
        sharpness_ratio=ratio,
        caveat=" ".join(part for part in (remark, blur) if part),
    )


def _for_seeds(method: Method, own: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """``own``, repeated for every seed of ``other`` if the method draws no noise and so has one run for all seeds."""
    if method.kind == "stablevsr":
        return own
    first = own[own["seed"] == own["seed"].min()]
    repeated: pd.DataFrame = pd.concat([first.assign(seed=seed) for seed in sorted(other["seed"].unique())])
    return repeated


def overall(results: list[ClaimResult]) -> Verdict:
    """The verdict of a claim with several comparisons: it holds if all do, and fails if one does."""
    verdicts = {result.verdict for result in results}
    if "does not hold" in verdicts:
        return "does not hold"
    if verdicts == {"holds"}:
        return "holds"
    return "cannot be checked" if "cannot be checked" in verdicts else "undecided"


def _judge(metric: Metric, difference: PairedDifference) -> tuple[Verdict, str]:
    low, high = difference.low, difference.high
    if math.isnan(difference.mean):
        return "undecided", "The difference is not defined (infinite values on both sides)."
    if math.isnan(low) or math.isnan(high):
        return "undecided", "There is a single window of frames only, so no interval can be given."
    if metric.direction == "lower":
        low, high = -high, -low
    if low > 0:
        return "holds", ""
    if high < 0:
        return "does not hold", ""
    return "undecided", ""


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


def _focus_note(focus: Focus) -> str:
    if focus.clips is None:
        return f"All clips are used: {focus.why}."
    if focus.left_out:
        listed = ", ".join(f"{clip} ({focus.bicubic_psnr[clip]:.1f} dB)" for clip in focus.left_out)
        return f"Left out as out of focus, by bicubic's PSNR: {listed}."
    return ""
