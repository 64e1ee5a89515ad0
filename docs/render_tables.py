"""Write the tables of a study into the Markdown files that show them: `make readme`, after `make evidence`.

A table is written between two comments. The first names the study, the table, the dataset and the metrics:

    <!-- scores mini/table1 reds4: tof_dis psnr -->
    <!-- end of scores -->

Means, standard deviations over scenes and rounding are those of results/mini/tables/table1.csv. Statements come from
claims.csv, those of one or several ablations (or `table1`), with their differences and verdicts; findings from
findings.md:

    <!-- claims evidence/guidance+tcm_training reds4 -->
    <!-- end of claims -->
    <!-- findings evidence -->
    <!-- end of findings -->

The scores of some methods on every scene, and their means, from clips.csv:

    <!-- scenes mini/bicubic+stablevsr reds4: lpips psnr -->
    <!-- end of scenes -->

The means of the tables of `stablevsr evaluate` in a folder of results/beyond, one row a table:

    <!-- consistency beyond/scale_consistency reds4: lpips psnr -->
    <!-- end of consistency -->

Where the seconds of a study went, from Snakemake's benchmarks of a clone that ran nothing else:

    <!-- seconds mini -->
    <!-- end of seconds -->

The table of all metrics (in docs/metrics.md) is written between <!-- metrics --> and <!-- end of metrics -->, the code
and machine of a study between <!-- provenance mini --> and <!-- end of provenance -->. Where a study has no results its
tables stay as they are.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from statistics import fmean

from stablevsr.data.downloads.registry import get
from stablevsr.metrics.metric import Metric
from stablevsr.metrics.registry import METRICS
from stablevsr.metrics.tables import read_scores, summarise
from stablevsr.report.text import ARROWS, format_difference, metric_head

ROOT = Path(__file__).parents[1]
FILES = ("docs/metrics.md", "README.md", "docs/performance.md", "docs/evidence.md", "docs/tiny-model.md",
         "docs/beyond.md")  # fmt: skip
KINDS = "scores|scenes|claims|findings|metrics|provenance|seconds|consistency"
TABLE = re.compile(rf"(<!-- ({KINDS})\b *([^\n]*?) -->\n).*?(<!-- end of \2 -->)", re.S)


def render(text: str, results: Path) -> str:
    """``text`` with every table written from ``results``; raises OSError (no such file) or KeyError (no such name)."""

    def table(found: re.Match[str]) -> str:
        begin, kind, wanted, end = found.groups()
        source, _, rest = wanted.partition(" ")
        study, _, names = source.partition("/")
        dataset, _, metrics = rest.partition(":")
        folder = results / study / "tables"
        notes: list[str] = []
        if study and not folder.exists():
            print(f"{results / study} does not exist: its {kind} stay as they are", file=sys.stderr)
            return found[0]
        if kind == "findings":
            _, _, findings = (folder / "findings.md").read_text(encoding="utf-8").partition("\n")
            return "\n".join([begin, findings.strip(), "", end])
        if kind == "scores":
            lines = _scores(_rows(folder / f"{names}.csv", dataset), metrics.split())
        elif kind == "scenes":
            lines = _scenes(_rows(folder / "clips.csv", dataset), names.split("+"), metrics.split())
        elif kind == "claims":
            stated = [row for question in names.split("+") for row in _claims(folder, question, dataset)]
            lines = [["A", "compared with B", "metric", "A - B, 95 % interval", "verdict", "reason"]]
            labels = _labels(folder, dataset)
            lines += [_claim(row, labels) for row in stated if row["mean"]]
            notes = _untested(stated)
        elif kind == "consistency":
            tables = folder.parent / names / dataset
            if not tables.exists():
                print(f"{tables} does not exist: its means stay as they are", file=sys.stderr)
                return found[0]
            lines = _consistency(tables, _labels(folder, dataset), metrics.split())
        elif kind == "seconds":
            lines = [["stage", "jobs", "seconds"], *_seconds(study, results.parent)]
        elif kind == "provenance":
            lines = [["what", "is"], *_provenance(folder.parent)]
        else:
            lines = [
                ["name", "better", "unit", "decimals", "margin", "convention", "source", "weights and their licence"]
            ]
            lines += map(_description, METRICS.values())
        lines.insert(1, ["---"] * len(lines[0]))
        return "\n".join([begin, *(f"| {' | '.join(line)} |" for line in lines), "", *notes, end])

    return TABLE.sub(table, text)


def _description(metric: Metric) -> list[str]:
    factor = f"x{metric.scale:g}" if metric.scale != 1 else ""
    return [
        f"`{metric.name}`",
        ARROWS[metric.direction] or "1 is ideal",
        f"{metric.unit} {factor}".strip() or "1",
        str(metric.decimals),
        f"{metric.margin:g}" if metric.margin else "–",
        metric.convention.replace("|", "\\|"),
        metric.source,
        ", ".join(f"`{name}`: {get(name).licence}" for name in metric.needs) or "none needed",
    ]


#: Stages in the order of a study, by how the names of their benchmark files begin.
STAGES = {
    "data_mini": "making the mini data",
    "cache_samples": "cached samples of the trainings",
    "train": "trainings",
    "infer": "frames",
    "evaluate": "scores",
    "metrics": "tables of scores",
    "tables": "tables and claims",
    "figures": "figures",
    "page": "page",
}


def _seconds(study: str, root: Path) -> list[list[str]]:
    """Jobs of every stage, with their wall-clock time; a job of a training belongs to any study.

    Snakemake looks at a job's processor time every 30 seconds only, so that column of its benchmarks is too low.
    """
    rows = []
    for prefix, stage in STAGES.items():
        shared = prefix in ("data_mini", "cache_samples", "train")
        pattern = f"{prefix}*.tsv" if shared else f"{prefix}_{study}[._]*tsv"
        files = sorted((root / "work" / "benchmarks").glob(pattern))
        if jobs := [row for file in files for row in csv.DictReader(file.open(), delimiter="\t")]:
            rows.append([stage, str(len(jobs)), f"{sum(float(row['s']) for row in jobs):.0f}"])
    return rows


def _provenance(folder: Path) -> list[list[str]]:
    """Code, machine and runs of a study."""
    made = json.loads((folder / "provenance.json").read_text())
    commit = f"`{made['code']['commit']}`{'' if made['code']['clean'] else ', with uncommitted changes'}"
    versions = ", ".join(f"{package} {made['versions'][package]}" for package in ("torch", "diffusers"))
    runs = ", ".join(
        f"{k} (noise {s['sampling_seed']}, training {s['training_seed']})" for k, s in made["runs"].items()
    )
    command = f"`snakemake --cores all --resources gpu=1 --config study={made['study']}`"
    return [["command", command], ["commit", commit], ["machine", made["machine"]],
            ["versions", f"Python {made['python']}, {versions}"], ["runs and their seeds", runs]]  # fmt: skip


def _rows(file: Path, dataset: str) -> list[dict[str, str]]:
    with file.open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["dataset"] == dataset]
    if not rows:
        raise KeyError(f"{file.stem} has no dataset {dataset}")
    return rows


def _scores(rows: list[dict[str, str]], metrics: list[str]) -> list[list[str]]:
    heads = ["method", *(metric_head(METRICS[name]) for name in metrics)]
    return [heads, *([row["label"], *(_cell(row, name) for name in metrics)] for row in rows)]


def _scenes(rows: list[dict[str, str]], names: list[str], metrics: list[str]) -> list[list[str]]:
    """The scores of methods by scene, the mean over its clips, and last the mean over scenes."""
    labels = {row["name"]: row["label"] for row in rows}
    table = [["scene", *(f"{metric_head(METRICS[metric])}: {labels[name]}" for metric in metrics for name in names)]]
    values: dict[str, list[float]] = {}
    for scene in dict.fromkeys(row["scene"] for row in rows):
        own = [row for row in rows if row["scene"] == scene]
        values[scene] = [
            fmean(float(row[metric]) for row in own if row["name"] == name) for metric in metrics for name in names
        ]
    values["mean"] = [fmean(column) for column in zip(*values.values(), strict=True)]
    decimals = [METRICS[metric].decimals for metric in metrics for _ in names]
    for scene, scores in values.items():
        table.append([scene, *(f"{score:.{digits}f}" for score, digits in zip(scores, decimals, strict=True))])
    return table


def _consistency(folder: Path, labels: dict[str, str], metrics: list[str]) -> list[list[str]]:
    """Means over frames, then over sequences, of every table in a folder."""
    table = [["method", *(metric_head(METRICS[name]) for name in metrics)]]
    for file in sorted(folder.glob("*.csv")):
        means = summarise(read_scores(file), metrics)
        table.append([labels[file.stem], *(f"{means[name]:.{METRICS[name].decimals}f}" for name in metrics)])
    return table


def _labels(tables: Path, dataset: str) -> dict[str, str]:
    """The labels of a study's methods by name."""
    return {row["name"]: row["label"] for row in _rows(tables / "clips.csv", dataset)}


def _cell(row: dict[str, str], metric: str) -> str:
    mean, deviation = row[metric], row[f"{metric}_sd"]
    return f"{mean} ± {deviation}" if deviation else mean or "–"


def _claims(tables: Path, question: str, dataset: str) -> list[dict[str, str]]:
    """The statements of a question on a dataset."""
    stated = [row for row in _rows(tables / "claims.csv", dataset) if row["question"] == question]
    if not stated:
        raise KeyError(f"{question} has no claims on {dataset}")
    return stated


def _claim(row: dict[str, str], labels: dict[str, str]) -> list[str]:
    """A statement with its difference and verdict."""
    metric, (mean, low, high) = METRICS[row["metric"]], (float(row[end] or "nan") for end in ("mean", "low", "high"))
    difference = format_difference(metric, mean, low, high)
    methods = [labels.get(row[end], row[end]) for end in ("better", "than")]
    return [*methods, metric.label, difference, row["verdict"], row["reason"]]


def _untested(stated: list[dict[str, str]]) -> list[str]:
    """A line for each metric that has no values for some statements, with the reason of the first."""
    reasons: dict[str, str] = {}
    for row in stated:
        if not row["mean"]:
            reasons.setdefault(METRICS[row["metric"]].label, row["reason"])
    return [part for label, reason in reasons.items() for part in (f"Not testable here: {label} ({reason}).", "")]


def main() -> int:
    """Write the tables into all files; 1 if a table, dataset or metric does not exist."""
    for name in FILES:
        path = ROOT / name
        try:
            path.write_text(render(path.read_text(encoding="utf-8"), ROOT / "results"))
        except OSError as error:
            print(f"{error.filename} does not exist: run the study first", file=sys.stderr)
            return 1
        except KeyError as error:
            print(f"{path} names a table, dataset or metric that does not exist: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
