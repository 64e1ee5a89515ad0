"""Write the tables of a study into the Markdown files that show them: `make readme`, after `make study`.

A table is written between two comments. The first names the study, the table, the dataset and the metrics:

    <!-- scores mini/table1 reds4: tof_dis psnr -->
    <!-- end of scores -->

Rows and rounding are those of results/mini/tables/table1.csv. The claims of ablations, with the paired differences and
verdicts of claims.csv, are written in the same way:

    <!-- claims mini/guidance+tcm_training reds4 -->
    <!-- end of claims -->
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

from stablevsr.metrics.registry import METRICS
from stablevsr.report.text import metric_head

ROOT = Path(__file__).parents[1]
FILES = ("README.md", "docs/performance.md", "docs/deviations.md")
SCORES = re.compile(r"(<!-- scores (\S+)/(\S+) (\S+): ([\w ]+) -->\n).*?(<!-- end of scores -->)", re.S)
CLAIMS = re.compile(r"(<!-- claims (\S+)/(\S+) (\S+) -->\n).*?(<!-- end of claims -->)", re.S)


def render(text: str, results: Path) -> str:
    """``text`` with every table written from ``results``; raises OSError (no such file) or KeyError (no such name)."""

    def scores(found: re.Match[str]) -> str:
        begin, study, table, dataset, metrics, end = found.groups()
        rows = _rows(results / study / "tables" / f"{table}.csv", dataset)
        return f"{begin}\n{_scores(rows, metrics.split())}\n\n{end}"

    def claims(found: re.Match[str]) -> str:
        begin, study, ablations, dataset, end = found.groups()
        lines = [["better", "than", "in", "difference, 95 % interval", "verdict"], ["---"] * 5]
        for ablation in ablations.split("+"):
            lines += _claims(results / study / "tables", ablation, dataset)
        return f"{begin}\n{_table(lines)}\n\n{end}"

    return CLAIMS.sub(claims, SCORES.sub(scores, text))


def _rows(file: Path, dataset: str) -> list[dict[str, str]]:
    with file.open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["dataset"] == dataset]
    if not rows:
        raise KeyError(f"{file.stem} has no dataset {dataset}")
    return rows


def _scores(rows: list[dict[str, str]], metrics: list[str]) -> str:
    heads = [metric_head(METRICS[name]) for name in metrics]
    lines = [["method", *heads], ["---"] * (len(heads) + 1)]
    return _table(lines + [[row["label"], *(row[name] or "–" for name in metrics)] for row in rows])


def _claims(tables: Path, ablation: str, dataset: str) -> list[list[str]]:
    """The claims of an ablation on a dataset, one a row."""
    labels = {row["name"]: row["label"] for row in _rows(tables / "clips.csv", dataset)}
    stated = [row for row in _rows(tables / "claims.csv", dataset) if row["claim"].rpartition(" ")[0] == ablation]
    if not stated:
        raise KeyError(f"{ablation} has no claims on {dataset}")
    return [
        [
            labels[row["better"]],
            labels[row["than"]],
            METRICS[row["metric"]].label,
            f"{row['difference']} [{row['low']}, {row['high']}]" if row["difference"] else "–",
            row["verdict"],
        ]
        for row in stated
    ]


def _table(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """Write the tables into all files; 1 if a table, dataset or metric does not exist."""
    for name in FILES:
        path = ROOT / name
        try:
            path.write_text(render(path.read_text(), ROOT / "results"))
        except OSError as error:
            print(f"{error.filename} does not exist: run make study first", file=sys.stderr)
            return 1
        except KeyError as error:
            print(f"{path} asks for something that the results do not have: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
