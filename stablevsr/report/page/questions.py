"""The questions of a study, each with its answer, statements and table: the paper's, and those beyond it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from stablevsr.report.answers import answer
from stablevsr.report.claims import ClaimResult
from stablevsr.report.tables.build import Table
from stablevsr.report.text import counted, joined
from stablevsr.study.files import Ablation, Variant
from stablevsr.study.methods import ResolvedStudy
from stablevsr.study.statements import TABLE1


@dataclass(frozen=True)
class Question:
    """One question: Table 1, or an ablation."""

    name: str
    title: str
    text: str
    paper: str  #: where the paper asks it
    beyond_paper: bool
    tested: list[ClaimResult]  #: statements with scores on both sides
    untested: list[ClaimResult]
    table: Table | None  #: None for Table 1, which the page shows by itself
    changes: dict[str, str]  #: what each variant changes, by label
    no_claims: str = ""  #: why nothing is stated

    @property
    def answer(self) -> str:
        """The answer by the statements that can be compared."""
        if self.untested and not self.tested:
            return "There are no scores to test it with that can be compared."
        return self.no_claims or answer(self.tested)

    @property
    def gap(self) -> str:
        """Which statements cannot be compared, as a sentence; empty if all can."""
        if not self.untested:
            return ""
        labels = list(dict.fromkeys(r.metric.label for r in self.untested))
        return f"Without scores that can be compared: {counted(statement=len(self.untested))}, in {joined(labels)}."


def questions(study: ResolvedStudy, results: Sequence[ClaimResult], tables: dict[str, Table]) -> list[Question]:
    """Table 1, if the study states anything about it, then every ablation, those that state something first."""
    found = [_question(name, ablation, results, tables[name]) for name, ablation in study.ablations.items()]
    found.sort(key=lambda question: not question.tested and not question.untested)
    tested, untested = _parted(TABLE1, results)
    if not tested and not untested:
        return found
    text = f"Is {study.spec.method.label} better than the other methods?"
    return [Question(TABLE1, "Table 1", text, "Table 1", False, tested, untested, None, {}), *found]


def _question(name: str, ablation: Ablation, results: Sequence[ClaimResult], table: Table) -> Question:
    beyond = not ablation.paper or ablation.paper.lower().startswith("not in the paper")
    changes = {variant.label: changed(variant) for variant in ablation.variants.values()}
    about = name, ablation.title, ablation.question, ablation.paper, beyond
    return Question(*about, *_parted(name, results), table, changes, ablation.no_claims)


def _parted(name: str, results: Sequence[ClaimResult]) -> tuple[list[ClaimResult], list[ClaimResult]]:
    """The statements of a question with and without scores that can be compared."""
    own = [r for r in results if r.statement.question == name]
    return [r for r in own if r.comparison is not None], [r for r in own if r.comparison is None]


def changed(variant: Variant) -> str:
    """What a variant changes, as in its file."""
    difference = variant.model_dump(mode="json", exclude={"label"}, exclude_defaults=True)
    return json.dumps(difference, ensure_ascii=False) if difference else "nothing: the study's own settings"
