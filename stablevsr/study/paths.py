"""Where a study's files are: stores keyed by digests under ``work/``, and tables by readable names under ``results/``.

A store entry is made once, whichever study or ablation needs it first. The rules take their paths from here too
(:meth:`Paths.pattern`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stablevsr.metrics.registry import METRICS
from stablevsr.runtime.hashing import digest
from stablevsr.study.files import Dataset
from stablevsr.study.fingerprint import dataset_code, fingerprint
from stablevsr.study.methods import Base, ResolvedStudy, TrainingRun, dataset_identity
from stablevsr.study.requirements import left_empty
from stablevsr.study.weights import pins

#: The number of shards is part of the path: it changes which sequences a shard holds.
_SHARD = "{dataset}-{key}/{digest}/seed{seed}/shard{shard}of{shards}"
#: Paths below ``work/``, with the wildcards of the rules in braces.
PATTERNS = {
    "dataset": "datasets/{dataset}-{key}/manifest.json",
    "training_data": "datasets/train-{key}.json",
    "low_resolution": "lr/{key}",
    "training": "trainings/{kind}/{digest}/",
    "samples": "samples/{key}/samples.safetensors",
    "state": "states/{digest}",
    "frames": "frames/{dataset}-{key}/{digest}/seed{seed}",
    "manifest": f"manifests/{_SHARD}.json",
    "scores": f"scores/{{metrics}}/{_SHARD}.csv",
    "external": "external/{study}",
    "code": "code/{what}-{key}",
}


def existing_folder(path: Path) -> Path:
    """``path`` or its closest parent that exists, for measuring free disk space."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


@dataclass(frozen=True)
class Paths:
    """All paths of one study, relative to the folder that Snakemake runs in."""

    study: ResolvedStudy
    work: Path = Path("work")
    results_root: Path = Path("results")

    def pattern(self, name: str) -> str:
        """The path of a store with Snakemake's wildcards in it."""
        return f"{self.work}/{PATTERNS[name]}"

    def _fill(self, name: str, **values: object) -> Path:
        return Path(self.pattern(name).format(**values))

    @property
    def results(self) -> Path:
        """``results/<study>``: tables, figures, report."""
        return self.results_root / self.study.name

    def _dataset_key(self, name: str) -> str:
        return digest(dataset_identity(self.study.dataset(name)))

    def dataset(self, name: str) -> Path:
        """A dataset in the plain layout (``gt/``, ``lr/`` by sequence, ``manifest.json``), made of links."""
        return self._fill("dataset", dataset=name, key=self._dataset_key(name)).parent

    def training_data(self, spec: Dataset) -> Path:
        """The file that is written when a training set was found complete."""
        return self._fill("training_data", key=digest(dataset_identity(spec)))

    def low_resolution(self, spec: Dataset) -> Path:
        """LR frames (``<sequence>/<frame>.png``) made for a dataset that comes without them."""
        return self._fill("low_resolution", key=digest([str(spec.root), dataset_code(spec.make)]))

    def model(self, base: Base) -> str:
        """What :func:`~.model_folder.find_model` takes: a fine-tuned model's folder, else the name itself."""
        return str(self.training(base.training)) if base.training else base.name

    def training(self, run: TrainingRun) -> Path:
        """The weights of a training, ``settings.json``, ``history.csv``, and ``provenance.json``, written last."""
        return self._fill("training", kind=run.kind, digest=run.digest)

    def samples(self, run: TrainingRun) -> Path | None:
        """The cached samples that a training learns from, if any."""
        return self._fill("samples", key=run.samples) if run.samples else None

    def state(self, training: str) -> Path:
        """Resume states of a training; no rule declares them as outputs, so Snakemake never deletes them."""
        return self._fill("state", digest=training)

    def frames(self, dataset: str, method: str, seed: int) -> Path:
        """Frames by sequence: ``<sequence>/<frame>.png``."""
        return self._fill("frames", dataset=dataset, key=self._dataset_key(dataset), digest=method, seed=seed)

    def manifest(self, dataset: str, method: str, seed: int, shard: int) -> Path:
        """The record of an inference shard: sequences, frame counts, hashes, seconds."""
        return self._fill("manifest", **self._shard(dataset, method, seed, shard))

    def _shard(self, dataset: str, method: str, seed: int, shard: int) -> dict[str, object]:
        shards = self.study.spec.datasets[dataset].shards
        key = self._dataset_key(dataset)
        return dict(dataset=dataset, key=key, digest=method, seed=seed, shard=shard, shards=shards)

    @cached_property
    def metrics_key(self) -> str:
        """A digest of the metrics, their code and weights, of those without weights here, and of plug-ins' versions."""
        spec = self.study.spec
        empty = left_empty(spec) if spec.weights == "skip" else []
        foreign = METRICS.foreign(spec.metrics)
        code = fingerprint("stablevsr.metrics.evaluate")
        weights = pins(name for metric in spec.metrics for name in METRICS[metric].needs)
        return digest([sorted(spec.metrics), sorted(empty), weights, code, *([foreign] if foreign else [])])

    def scores(self, dataset: str, method: str, seed: int, shard: int) -> Path:
        """Per-frame scores of one shard."""
        return self._fill("scores", metrics=self.metrics_key, **self._shard(dataset, method, seed, shard))

    def external(self) -> Path:
        """Frames that the rules of this study's ablations make."""
        return self._fill("external", study=self.study.name)

    def code(self, what: str, key: str) -> Path:
        """An empty file with a fingerprint in its name: an input of rules whose outputs have fixed names."""
        return self._fill("code", what=what, key=key)

    def table(self, dataset: str, method_name: str) -> Path:
        """Per-frame scores of a method under its readable name, all seeds and shards."""
        return self.results / "metrics" / dataset / f"{method_name}.csv"
