"""What methods cost: as published for StableVSR and methods of its kind, and as measured by a study beside it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from stablevsr.report.inference_cost import by_hardware
from stablevsr.report.scores import ScoreBook
from stablevsr.report.text import format_cost
from stablevsr.runtime.parsing import parse
from stablevsr.study.files import load_yaml

GB = 10**9


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    use: str
    source: str
    seconds: float | None = None
    memory_gb: float | None = None
    parameters: float | None = None
    steps: int | None = None
    hardware: str = ""
    frame: str = ""
    derived: str = ""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    rows: list[_Row]


@dataclass(frozen=True)
class CostRow:
    """One row: what was measured, where, and by whom; an empty ``source`` is this study. Empty cells are unknown."""

    method: str
    material: str  #: what was processed: the use and the size of a frame, or this study's data set
    seconds: float | None  #: of one frame
    memory: float | None  #: GB
    parameters: float | None  #: millions
    steps: int | None
    hardware: str
    source: str = ""

    @property
    def seconds_text(self) -> str:
        """Seconds a frame as shown."""
        return self._shown(self.seconds)

    @property
    def memory_text(self) -> str:
        """GB as shown."""
        return self._shown(self.memory)

    @property
    def parameters_text(self) -> str:
        """Millions of parameters as shown."""
        return self._shown(self.parameters)

    def _shown(self, amount: float | None) -> str:
        """Published figures as published, measured ones rounded."""
        if not amount:
            return ""
        return f"{amount:g}" if self.source else format_cost(amount)


def cost_rows(book: ScoreBook) -> list[CostRow]:
    """What this study's methods of Table 1 cost by hardware, then the published figures.

    Empty where the study does not sample the published model, whose cost alone is comparable. Raises
    :class:`~stablevsr.runtime.errors.UserError` if the file of published figures is damaged.
    """
    file = book.paths.results_root / "published" / "cost.yaml"
    if not file.exists():
        return []
    published = parse(_File, load_yaml(file), str(file))
    if book.study.spec.model != published.model:
        return []
    return [*measured(book), *map(_published, published.rows)]


def measured(book: ScoreBook) -> list[CostRow]:
    """What the methods of Table 1 cost on this study's machines."""
    return [
        CostRow(
            method.label,
            book.title(dataset),
            spent.per_frame,
            spent.memory / GB,
            None,
            method.sampling.steps if method.sampling else None,
            hardware,
        )
        for dataset in book.study.table1_datasets()
        for method in book.study.table1()
        if dataset in method.datasets
        for hardware, spent in by_hardware(book, dataset, method).items()
    ]


def _published(row: _Row) -> CostRow:
    material = ", ".join(part for part in (row.use, row.frame) if part)
    source = f"{row.source} ({row.derived})" if row.derived else row.source
    return CostRow(row.method, material, row.seconds, row.memory_gb, row.parameters, row.steps, row.hardware, source)
