"""Numbers and lists as the report writes them: rounding, counts with nouns, enumerations, and the Jinja2 templates.

Templates for Markdown and LaTeX use ``<< >>`` and ``<% %>``, because braces are LaTeX's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import jinja2
import pandas as pd

from stablevsr.metrics.metric import Metric
from stablevsr.metrics.registry import METRICS

TEMPLATES = Path(__file__).parent / "templates"
#: What a phrase is about, part by part; of a statement its relation, then metrics, rivals and data sets.
Parts = tuple[tuple[str, ...], ...]
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}
#: For the page: text from study files is escaped.
HTML = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
#: For tables in Markdown and LaTeX: the templates escape by filters of those formats.
PLAIN = HTML.overlay(
    block_start_string="<%",
    block_end_string="%>",
    variable_start_string="<<",
    variable_end_string=">>",
    comment_start_string="<#",
    comment_end_string="#>",
    keep_trailing_newline=True,
    autoescape=False,
)


def format_value(metric: str, value: float | None, sign: bool = False, decimals: int | None = None) -> str:
    """A number rounded to the metric's decimals (or to ``decimals``); empty for None or nan, ``inf`` where infinite."""
    if value is None or math.isnan(value):
        return ""
    if math.isinf(value):
        return ("+" if sign and value > 0 else "") + str(value)
    decimals = METRICS[metric].decimals if decimals is None else decimals
    rounded = round(value, decimals) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{rounded:{'+' if sign else ''}.{decimals}f}"


def format_difference(metric: Metric, mean: float, low: float, high: float) -> str:
    """A mean difference with its interval, ``-0.30 [-0.40, -0.20]``; without the interval where it is undefined.

    The decimals are the metric's, or more where two significant digits need them.
    """
    largest = max((abs(value) for value in (mean, low, high) if math.isfinite(value)), default=0.0)
    significant = 1 - math.floor(math.log10(largest)) if largest else 0
    digits = max(metric.decimals, significant)
    shown = [format_value(metric.name, value, sign=True, decimals=digits) for value in (mean, low, high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]" if all(shown) else shown[0]


def format_p(p: float) -> str:
    """A p-value with its relation, ``p = 0.031`` or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def format_cost(amount: float) -> str:
    """Seconds or GiB with two significant digits, or as a whole number from 10 on; never in powers of ten."""
    return f"{amount:.0f}" if amount >= 10 else f"{amount:#.2g}"


def metric_head(metric: Metric) -> str:
    """A metric's label with the arrow that says which direction is better, for the head of a column."""
    return f"{metric.label} {ARROWS[metric.direction]}".strip()


def counted(**numbers: int) -> str:
    """Numbers with their nouns: ``counted(frame=8, seed=1)`` is '8 frames, 1 seed'."""
    return ", ".join(f"{number} {noun}{'' if number == 1 else 's'}" for noun, number in numbers.items())


def joined(parts: Sequence[str], word: str = "and") -> str:
    """An enumeration: 'a', 'a and b', 'a, b and c'."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def merged(entries: Sequence[Parts]) -> list[Parts]:
    """The entries with those joined that differ in one part only; the first part is never joined.

    ``[(("a",), ("x",), ("1",)), (("a",), ("y",), ("1",))]`` becomes ``[(("a",), ("x", "y"), ("1",))]``.
    """
    found = list(entries)
    for part in range(len(found[0]) - 1, 0, -1) if found else ():
        groups: dict[Parts, tuple[str, ...]] = {}
        for entry in found:
            rest = (*entry[:part], (), *entry[part + 1 :])
            groups[rest] = tuple(dict.fromkeys((*groups.get(rest, ()), *entry[part])))
        found = [(*rest[:part], names, *rest[part + 1 :]) for rest, names in groups.items()]
    return found


def csv_text(table: pd.DataFrame) -> str:
    """A table as CSV: unrounded numbers, ``inf`` where infinite, an empty cell where undefined (nan)."""
    return table.to_csv(index=False, lineterminator="\n")
