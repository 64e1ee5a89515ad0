"""Tables of per-frame scores under readable names: all shards and seeds of a method in one file."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pandas as pd

from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import write_text
from stablevsr.study.methods import Method, ResolvedStudy
from stablevsr.study.paths import Paths


def merge_scores(study: ResolvedStudy, paths: Paths, method: Method, dataset: str) -> Path:
    """Write ``results/<study>/metrics/<dataset>/<method>.csv``: ``sequence,frame,seed,<metric>...``, sorted.

    ``<method>.csv.json`` holds the evaluator's notes (conventions, why a column is empty). Raises
    :class:`UserError` if a sequence of the dataset is missing or counted twice.
    """
    spec, method = study.spec.datasets[dataset], method.on(dataset)
    parts, notes = [], {}
    for seed, shard in itertools.product(study.seeds(method.digest, dataset), range(spec.shards)):
        file = paths.scores(dataset, method.digest, seed, shard)
        if not file.exists():
            raise UserError(
                f"there are no scores of {method.name} on {dataset} yet ({file}): run "
                f"snakemake --cores all --resources gpu=1 --config study={study.name}"
            )
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        table.insert(2, "seed", str(seed))
        parts.append(table)
        notes = json.loads(file.with_name(file.name + ".json").read_text())
    merged = pd.concat(parts).sort_values(["sequence", "frame", "seed"], kind="stable")
    _check_complete(merged, paths, study, method, dataset)
    out = paths.table(dataset, method.name)
    notes["method"] = {"name": method.name, "label": method.label, "digest": method.digest}
    write_text(out.with_name(out.name + ".json"), json.dumps(notes, indent=1, sort_keys=True) + "\n")
    write_text(out, merged.to_csv(index=False, lineterminator="\n"))
    return out


def _check_complete(merged: pd.DataFrame, paths: Paths, study: ResolvedStudy, method: Method, dataset: str) -> None:
    manifest = json.loads((paths.dataset(dataset) / "manifest.json").read_text())["sequences"]
    for seed in study.seeds(method.digest, dataset):
        rows = merged[merged["seed"] == str(seed)].groupby("sequence")["frame"]
        counted = {name: (len(frames), frames.nunique()) for name, frames in rows}
        for name, entry in manifest.items():
            if counted.pop(name, (0, 0)) != (entry["frames"], entry["frames"]):
                raise UserError(
                    f"scores of {method.name} on {dataset}, seed {seed}: sequence {name} does not have its "
                    f"{entry['frames']} frames exactly once; remove {paths.scores(dataset, method.digest, seed, 0)} "
                    "and run again"
                )
        if counted:
            names = ", ".join(map(str, counted))
            raise UserError(f"scores of {method.name} on {dataset} hold unknown sequences: {names}")
