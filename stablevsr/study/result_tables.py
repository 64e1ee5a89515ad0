"""Tables of per-frame scores under readable names: all shards and runs of a method in one file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from stablevsr.metrics.tables import read_notes, write_table
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.records import read_record
from stablevsr.study.methods import Method, ResolvedStudy
from stablevsr.study.paths import Paths
from stablevsr.study.protocol import protocol_of

KEYS = ("scene", "sequence", "frame", "run", "protocol")  #: the columns before the metrics


def merge_scores(study: ResolvedStudy, paths: Paths, method: Method, dataset: str) -> Path:
    """Write ``results/<study>/metrics/<dataset>/<method>.csv``, sorted: a row a frame, :data:`KEYS` and the metrics.

    ``<method>.csv.json`` holds the evaluator's notes (conventions, why a column is empty) and the protocol. Raises
    :class:`UserError` if a sequence of the dataset is missing or counted twice.
    """
    spec, what = study.spec.datasets[dataset], f"{method.name} on {dataset}"
    files = {form.run: [paths.scores(dataset, form.digest, form.run, shard) for shard in range(spec.shards)]
             for form in method.runs(dataset)}  # fmt: skip
    tables = {run: _read(shards, what, study) for run, shards in files.items()}
    sequences = read_record(paths.dataset(dataset) / "manifest.json")["sequences"]
    for form in method.runs(dataset):
        made = [paths.manifest(dataset, form.digest, form.run, 0).parent, files[form.run][0].parent]
        _check_complete(tables[form.run], sequences, f"{what}, run {form.run}", made)
    merged = pd.concat(tables.values(), keys=map(str, tables), names=["run"]).reset_index("run")
    protocol = protocol_of(spec, study.spec.metrics)
    merged = merged.assign(protocol=protocol.name, scene=[sequences[name]["scene"] for name in merged["sequence"]])
    merged = merged.sort_values(["scene", "sequence", "frame", "run"], kind="stable")
    metrics = [column for column in merged if column not in KEYS]
    out = paths.table(dataset, method.name)
    notes = _notes([file for shards in files.values() for file in shards], merged)
    notes["protocol"] = asdict(protocol)
    notes["method"] = {"name": method.name, "label": method.label, "digest": method.on(dataset).digest}
    write_table(out, merged[[*KEYS, *metrics]], notes)
    return out


def _notes(files: list[Path], merged: pd.DataFrame) -> dict[str, Any]:
    """The evaluator's notes that hold for all shards and runs: not its counts and means, which are of one shard."""
    every = [read_notes(file) for file in files]
    skipped = {name: reason for notes in every for name, reason in notes.get("skipped", {}).items()}
    empty = {name: reason for name, reason in skipped.items() if name not in merged or (merged[name] == "").all()}
    return {key: every[-1][key] for key in ("metrics", "weights", "versions") if key in every[-1]} | {"skipped": empty}


def _read(files: list[Path], what: str, study: ResolvedStudy) -> pd.DataFrame:
    """The rows of all shards of a run, as text."""
    for file in files:
        if not file.exists():
            raise UserError(
                f"there are no scores of {what} yet ({file}): run "
                f"snakemake --cores all --resources gpu=1 --config study={study.name}"
            )
        read_notes(file)  # compares its checksum
    return pd.concat([pd.read_csv(file, dtype=str, keep_default_na=False) for file in files])


def _check_complete(table: pd.DataFrame, sequences: dict[str, Any], what: str, made: list[Path]) -> None:
    """Raise :class:`UserError` unless the table has every frame of every sequence exactly once, and no others.

    ``made``: the folders of the records of frames and of the scores, one of which is wrong then.
    """
    counted = {name: (len(frames), frames.nunique()) for name, frames in table.groupby("sequence")["frame"]}
    for name, entry in sequences.items():
        if counted.pop(name, (0, 0)) != (entry["frames"], entry["frames"]):
            raise UserError(
                f"scores of {what}: sequence {name} does not have its {entry['frames']} frames exactly once; remove "
                f"{' and '.join(map(str, made))} and run again: finished frames are kept"
            )
    if counted:
        raise UserError(f"scores of {what} hold unknown sequences: {', '.join(map(str, counted))}")
