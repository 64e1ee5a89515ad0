"""The paper's numbers, as data with sources, and the rule for when tables show them next to reproduced ones.

They are comparable only where the study uses the published model on the whole published set of clips. The mini study
does neither, so its tables never show them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stablevsr.study.files import load_yaml
from stablevsr.study.methods import ResolvedStudy
from stablevsr.study.paths import Paths


@dataclass(frozen=True)
class Published:
    """One published number, in the metric's unit, and its source."""

    value: float
    source: str


@dataclass(frozen=True)
class PublishedRow:
    """One method of the paper's table on one dataset; numbers that were not found are left out."""

    label: str
    values: dict[str, Published]


def published_rows(paths: Paths) -> dict[str, dict[str, PublishedRow]]:
    """The paper's rows by dataset and method name, for the study's datasets where they are comparable.

    They are read from ``results/published/table1.yaml``; without that file there are none. Raises
    :class:`~stablevsr.runtime.errors.UserError` if it is damaged.
    """
    study, file = paths.study, paths.results_root / "published" / "table1.yaml"
    if not file.exists():
        return {}
    content = load_yaml(file)
    if study.spec.model != content["model"]:
        return {}
    return {
        name: {key: _row(row, content) for key, row in entry["rows"].items()}
        for name, entry in content["datasets"].items()
        if _same_clips(study, name, entry["sequences"])
    }


def _same_clips(study: ResolvedStudy, dataset: str, sequences: list[str] | None) -> bool:
    spec = study.spec.datasets.get(dataset)
    if spec is None or spec.frames is not None or spec.every != 1 or spec.make is not None:
        return False
    return spec.sequences is None or (sequences is not None and set(spec.sequences) == set(sequences))


def _row(row: dict[str, Any], content: dict[str, Any]) -> PublishedRow:
    hand = "second hand: " if content["second_hand"] else ""
    values = {
        metric: Published(float(cell["value"]), hand + "; ".join(content["sources"][key] for key in cell["sources"]))
        for metric, cell in row.items()
        if metric != "label" and cell is not None
    }
    return PublishedRow(row["label"], values)
