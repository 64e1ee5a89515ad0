"""The statements that a study checks: its claims and its ablations', for each metric, pair of methods and dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stablevsr.metrics.registry import METRICS, resolve
from stablevsr.runtime.errors import UserError, near_miss
from stablevsr.study.files import Claim
from stablevsr.study.methods import Method, ResolvedStudy

TABLE1 = "table1"  #: the question of the study's own claims; those of an ablation have its name


@dataclass(frozen=True)
class Statement:
    """``better`` is better than ``than`` in ``metric`` on ``dataset``; with ``same``, the two are the same in it."""

    question: str
    dataset: str
    metric: str
    better: Method
    than: Method
    same: bool = False
    source: str = ""


def statements(study: ResolvedStudy, where: Path = Path("study.yaml")) -> list[Statement]:
    """All statements of a study, Table 1 first. ``where`` is the study's file, which is only named in errors.

    Raises :class:`UserError` with file and number for a claim that names something unknown, has no right form, or
    compares a method with itself.
    """
    questions = [(TABLE1, study.spec.claims, study.table1_datasets(), where)]
    for name, ablation in study.ablations.items():
        file = where.parent.parent.parent / "ablations" / f"{name}.yaml"
        questions.append((name, ablation.claims, study.ablation_datasets(name), file))
    found = []
    for question, claims, datasets, file in questions:
        for number, claim in enumerate(claims, start=1):
            try:
                found += _statements(study, question, claim, datasets)
            except UserError as error:
                raise UserError(f"{file}, claim {number}: {error}") from error
    return found


def _statements(study: ResolvedStudy, question: str, claim: Claim, datasets: tuple[str, ...]) -> list[Statement]:
    for metric in resolve(claim.metric):
        if metric.direction == "none":
            raise UserError(f"{metric.name} has no better or worse: no claim can be checked in it")
    for dataset in claim.datasets or ():
        if dataset not in study.spec.datasets:
            raise UserError(f"unknown dataset {dataset}{near_miss(dataset, study.spec.datasets)}")
    found = []
    for names in claim.pairs():
        better, than = (_method(study, question, name) for name in names)
        for dataset in claim.datasets or datasets:
            if better.on(dataset).digest == than.on(dataset).digest:
                raise UserError(
                    f"{' and '.join(names)} have the same settings on {dataset}: there is nothing to compare"
                )
            found += [
                Statement(question, dataset, METRICS[metric].name, better, than, bool(claim.same), claim.source)
                for metric in claim.metric
            ]
    return found


def _method(study: ResolvedStudy, question: str, name: str) -> Method:
    """The method that a claim names: a variant of the same ablation, or any method by its full name."""
    own = f"{question}.{name}"
    full = own if own in study.methods else name
    if full not in study.methods:
        variants = [m.removeprefix(f"{question}.") for m in study.methods if m.startswith(f"{question}.")]
        raise UserError(f"it names the unknown method {name}{near_miss(name, [*variants, *study.methods])}")
    return study.methods[full]
