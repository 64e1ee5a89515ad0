"""Write a study's rendered scores into the Markdown files that show them: `make readme`, after `make study`.

A table stands between two comments, of which the first says what it shows:

    <!-- scores mini/table1 reds4: tof_dis psnr -->
    <!-- end of scores -->

Rows and rounding are those of results/mini/tables/table1.csv; nothing is typed by hand.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

from stablevsr.metrics.registry import METRICS

ROOT = Path(__file__).parents[1]
FILES = ("README.md", "docs/performance.md")
BLOCK = re.compile(r"(<!-- scores (\S+)/(\S+) (\S+): ([\w ]+) -->\n).*?(<!-- end of scores -->)", re.S)
ARROWS = {"higher": " ↑", "lower": " ↓", "none": ""}


def render(text: str, results: Path) -> str:
    """``text`` with every block filled in from ``results``; a missing table or metric raises KeyError or OSError."""

    def fill(found: re.Match[str]) -> str:
        begin, study, table, dataset, metrics, end = found.groups()
        with (results / study / "tables" / f"{table}.csv").open() as stream:
            rows = [row for row in csv.DictReader(stream) if row["dataset"] == dataset]
        if not rows:
            raise KeyError(f"{study}/{table} has no data set {dataset}")
        return f"{begin}\n{_markdown(rows, metrics.split())}\n\n{end}"

    return BLOCK.sub(fill, text)


def _markdown(rows: list[dict[str, str]], metrics: list[str]) -> str:
    heads = [f"{METRICS[name].label}{ARROWS[METRICS[name].direction]}" for name in metrics]
    lines = [["method", *heads], ["---"] * (len(heads) + 1)]
    lines += [[row["label"], *(row[name] or "–" for name in metrics)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """Fill in all files; 1 if a table, data set or metric is not there."""
    for name in FILES:
        path = ROOT / name
        try:
            path.write_text(render(path.read_text(), ROOT / "results"))
        except OSError as error:
            print(f"{error.filename} is not there: run make study first", file=sys.stderr)
            return 1
        except KeyError as error:
            print(f"{path}: a table of scores names what is not there, {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
