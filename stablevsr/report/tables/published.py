"""Table 1 of the paper as far as it is known, where it may be compared with a study's scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stablevsr.report.published_sets import is_published_set
from stablevsr.study.files import load_yaml
from stablevsr.study.paths import Paths


@dataclass(frozen=True)
class PublishedValue:
    """One cell of the paper's table, in the metric's unit; ``value`` None means that no copy of it was found."""

    decimals: int  #: of the paper's table in this metric
    value: float | None = None
    source: str = ""

    @property
    def rounding(self) -> float:
        """Half a unit of the last printed digit."""
        return 0.5 * 10**-self.decimals

    @property
    def text(self) -> str:
        """The value as printed; empty where it is unknown."""
        return "" if self.value is None else f"{self.value:.{self.decimals}f}"


@dataclass(frozen=True)
class PublishedRow:
    """One method of the paper's table: its name in studies, its label, and a cell for every metric of the paper."""

    name: str
    label: str
    cells: dict[str, PublishedValue]


def published_rows(paths: Paths) -> dict[str, dict[str, PublishedRow]]:
    """The paper's rows by dataset and method name, from ``results/published/table1.yaml`` if it exists.

    They are comparable, and so returned, only where the study uses the published model on all of the published clips.
    """
    study, file = paths.study, paths.results_root / "published" / "table1.yaml"
    if not file.exists():
        return {}
    content, datasets = load_yaml(file), study.spec.datasets
    if study.spec.model != content["model"]:
        return {}
    return {
        dataset: {name: _row(name, row, content) for name, row in entry["rows"].items()}
        for dataset, entry in content["datasets"].items()
        if dataset in datasets and is_published_set(datasets[dataset], entry["sequences"])
    }


def _row(name: str, row: dict[str, Any], content: dict[str, Any]) -> PublishedRow:
    hand, cells = "second hand: " if content["second_hand"] else "", {}
    for metric, decimals in content["decimals"].items():
        cells[metric] = PublishedValue(decimals)
        if found := row.get(metric):
            source = hand + "; ".join(content["sources"][key] for key in found["sources"])
            cells[metric] = PublishedValue(decimals, float(found["value"]), source)
    return PublishedRow(name, row["label"], cells)
