"""The jobs of a study's rules on several methods: their frames, and the scores of these."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stablevsr.baselines import BASELINES
from stablevsr.data.downloads.weights import absence, location
from stablevsr.data.frames import list_frames
from stablevsr.method.model_folder import tcm_folder
from stablevsr.metrics.registry import METRICS, missing
from stablevsr.runtime.devices import device_of
from stablevsr.runtime.errors import DamagedError, UserError
from stablevsr.runtime.hashing import digest, tree_hash
from stablevsr.runtime.records import read_record, write_record
from stablevsr.study.methods import Method, ResolvedStudy
from stablevsr.study.paths import Paths

if TYPE_CHECKING:
    from stablevsr.study.inference import NetworkPaths

Chosen = list[tuple[str, Method]]  #: data sets, and the form of a method on each


def choose(study: ResolvedStudy, methods: Sequence[str], datasets: Sequence[str], seed: int, shards: int) -> Chosen:
    """The forms of ``methods`` (names or digests) on ``datasets`` whose noise has ``seed``.

    Raises :class:`UserError` if a method has none, or a data set is not cut into ``shards``.
    """
    cut = {dataset: study.dataset(dataset).shards for dataset in datasets}
    found: dict[tuple[str, str], Method] = {}
    for name in methods:
        forms = {
            (dataset, form.digest): form
            for dataset in datasets
            for form in study.forms_on(dataset)
            if name in (form.name, form.digest) and form.run == seed
        }
        found |= forms or {(datasets[0], name): study.form(name, datasets[0], seed)}
    for dataset, count in cut.items():
        if count != shards:
            raise UserError(f"study {study.name} cuts {dataset} into {count} shards: give --shard K/{count}")
    return [(dataset, form) for (dataset, _), form in found.items()]


def infer_all(paths: Paths, chosen: Chosen, shard: int) -> None:
    """Make the frames of ``chosen`` on a shard; forms with the same networks one after the other, loading them once.

    A baseline whose weights the study can do without and does not have gets a manifest that says so.
    """
    from stablevsr.study.inference import Pipelines, Shard, infer

    study, pipelines = paths.study, Pipelines()
    networks = {form.digest: locate_networks(paths, form) for _, form in chosen}
    for dataset, form in sorted(chosen, key=lambda pair: (repr(networks[pair[1].digest]), repr(pair[1].sampling))):
        if reason := _lacks_weights(study, form):
            manifest = {"sequences": {}, "missing": reason}
            write_record(paths.manifest(dataset, form.digest, form.run, shard), manifest)
            continue
        infer(
            form,
            Shard(dataset, paths.dataset(dataset) / "lr", shard, study.spec.datasets[dataset].shards),
            form.run,
            paths.frames(dataset, form.digest, form.run),
            paths.manifest(dataset, form.digest, form.run, shard),
            networks[form.digest],
            study.spec.batch,
            pipelines,
        )


def _lacks_weights(study: ResolvedStudy, form: Method) -> str:
    """Why a baseline cannot run although the study may go on; empty if it can."""
    if study.spec.weights == "require" or form.kind not in BASELINES:
        return ""
    return next((absence(name) for name in BASELINES[form.kind].weights if not location(name).is_file()), "")


def locate_networks(paths: Paths, form: Method) -> NetworkPaths:
    """Where the networks of ``form`` are. Raises :class:`DamagedError` if weights are not those that were trained."""
    from stablevsr.study.inference import NetworkPaths

    for run in (form.base.training if form.base else None, form.training, form.decoder):
        if run is not None:
            _check_training(paths.training(run))
    external = tcm_folder(form.external_tcm) if form.external_tcm else None
    on_torch = form.kind == "stablevsr" or (form.kind in BASELINES and BASELINES[form.kind].on_torch)
    return NetworkPaths(
        paths.model(form.base) if form.base else "",
        device_of(paths.study.spec.device) if on_torch else "cpu",
        paths.training(form.training) if form.training else external,
        paths.training(form.decoder) if form.decoder else None,
    )


def _check_training(folder: Path) -> None:
    """Raise :class:`DamagedError` if a training's weights are not those that it wrote."""
    if read_record(folder / "provenance.json").get("sha256") != tree_hash(folder):
        raise DamagedError(folder)


def score_all(paths: Paths, chosen: Chosen, shard: int) -> None:
    """Score the frames of ``chosen`` on a shard, those of a data set together.

    Scores that were made from the same frames, of the method and the ground truth, are kept. Raises :class:`UserError`
    if frames are missing.
    """
    for dataset in dict.fromkeys(dataset for dataset, _ in chosen):
        _score(paths, dataset, [form for name, form in chosen if name == dataset], shard)


def _score(paths: Paths, dataset: str, forms: list[Method], shard: int) -> None:
    truth = read_record(paths.dataset(dataset) / "manifest.json")["sequences"]
    # columns that could not be filled here: after `stablevsr fetch` or an installation they are scored
    empty = sorted(name for name in paths.study.spec.metrics if missing(METRICS[name]))
    frames, made_from, sequences = {}, {}, []
    for form in forms:
        manifest = paths.manifest(dataset, form.digest, form.run, shard)
        if not manifest.exists():
            raise UserError(
                f"there are no frames of {form.name} on {dataset} yet ({manifest}): run stablevsr infer first"
            )
        content = read_record(manifest)
        made, no_frames = content["sequences"], content.get("missing")
        key = digest([paths.metrics_key, empty, made, {name: truth[name]["sha256"] for name in made}])
        out = paths.scores(dataset, form.digest, form.run, shard)
        if no_frames:
            _leave_empty(paths, dataset, shard, out, no_frames)
        elif not _is_current(out, key):
            frames[out], made_from[out], sequences = paths.frames(dataset, form.digest, form.run), key, list(made)
    if not frames:
        return
    from stablevsr.metrics.evaluate import evaluate

    spec = paths.study.spec
    evaluate(
        paths.dataset(dataset) / "gt", frames, spec.metrics, weights=spec.weights, sequences=sequences,
        cache=paths.work / "cache", device=device_of(spec.device), made_from=made_from,
    )  # fmt: skip


def _leave_empty(paths: Paths, dataset: str, shard: int, out: Path, reason: str) -> None:
    """Write scores without values for the frames of a shard, and in their notes why."""
    import pandas as pd

    from stablevsr.metrics.tables import KEYS, write_table

    spec = paths.study.spec
    folders = sorted(folder for folder in (paths.dataset(dataset) / "gt").iterdir() if folder.is_dir())
    shards = spec.datasets[dataset].shards
    rows = [(folder.name, frame.stem) for folder in folders[shard::shards] for frame in list_frames(folder)]
    table = pd.DataFrame(rows, columns=[*KEYS]).reindex(columns=[*KEYS, *spec.metrics])
    write_table(out, table, {"skipped": dict.fromkeys(spec.metrics, reason)})


def _is_current(scores: Path, made_from: str) -> bool:
    from stablevsr.metrics.tables import read_notes  # pandas takes half a second

    try:
        return scores.exists() and read_notes(scores).get("made_from") == made_from
    except DamagedError as error:
        print(f"{error}: scoring again", file=sys.stderr)
        return False
