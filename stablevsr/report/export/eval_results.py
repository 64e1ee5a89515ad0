"""Scores as ``.eval_results/*.yaml``, which a model's repository on the Hugging Face hub shows on its page.

The hub joins them with a leaderboard where the data set's own repository declares the tasks in its ``eval.yaml``; their
names here are ``<dataset>_<metric>``.
"""

from __future__ import annotations

import datetime
import re
import statistics

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from stablevsr.data.downloads import registry
from stablevsr.report.published_sets import is_published_set
from stablevsr.report.scores import ScoreBook
from stablevsr.report.text import counted
from stablevsr.study.files import Dataset
from stablevsr.study.methods import REFERENCE

FOLDER = ".eval_results"
SOURCE = re.compile(r"https://huggingface\.co/datasets/([\w.-]+/[\w.-]+)/resolve/(\w+)/")


def eval_results(book: ScoreBook, date: datetime.date) -> dict[str, str]:
    """By file, the scores of the study's own method on each whole test set that comes from the hub.

    A value is the mean over frames, then clips, then runs, in the metric's unit; notes say the protocol.
    """
    method, texts = book.study.methods[REFERENCE], {}
    for dataset, spec in book.study.spec.datasets.items():
        hub = hub_dataset(spec)
        if hub is None or not is_published_set(spec) or dataset not in method.datasets:
            continue
        entries = [
            EvalResultEntry(
                dataset_id=hub[0],
                task_id=f"{dataset}_{metric.name}",
                value=round(statistics.fmean(runs), 6),
                dataset_revision=hub[1],
                date=date.isoformat(),
                notes=f"{method.label}, x4, {counted(run=len(runs))}; {metric.label}: {book.protocol(dataset)}",
            )
            for metric in book.metrics
            if (runs := book.run_means(dataset, method, metric.name))
        ]
        if entries:
            text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
            texts[f"{FOLDER}/{dataset}.yaml"] = text
    return texts


def hub_dataset(spec: Dataset) -> tuple[str, str] | None:
    """Name and revision of the hub's repository that a data set is downloaded from, None if from elsewhere."""
    rows = [registry.get(name) for name in spec.fetch]
    for row in list(rows):
        if isinstance(row.destination, registry.Pick):
            rows += [registry.get(name) for name in row.destination.sources]
    found = [match for row in rows for url in row.urls if (match := SOURCE.match(url))]
    return (found[0][1], found[0][2]) if found else None
