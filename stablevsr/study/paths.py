"""Where a study's files lie: stores keyed by digests under ``work/``, and the views of them under ``results/``.

A store entry is made once, whichever study or ablation asks first; the names people read are only in ``results/``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stablevsr.metrics.weights import missing
from stablevsr.study.files import Dataset
from stablevsr.study.methods import Base, ResolvedStudy, TrainingRun, dataset_identity, digest


@dataclass(frozen=True)
class Paths:
    """All paths of one study, relative to the folder that Snakemake runs in."""

    study: ResolvedStudy
    work: Path = Path("work")
    results_root: Path = Path("results")

    @property
    def results(self) -> Path:
        """``results/<study>``: tables, figures, report."""
        return self.results_root / self.study.name

    def dataset(self, name: str) -> Path:
        """A dataset in the plain layout (``gt/``, ``lr/`` by sequence, ``manifest.json``), made of links."""
        spec = self.study.dataset(name)
        return self.work / "datasets" / f"{name}-{digest(dataset_identity(spec))}"

    def training_data(self, spec: Dataset) -> Path:
        """The file that says that a training set is there."""
        return self.work / "datasets" / f"train-{digest(dataset_identity(spec))}.json"

    def model(self, base: Base) -> str:
        """What :func:`~.model_folder.find_model` takes: a fine-tuned model's folder, else the name itself."""
        return str(self.finetuned(base.finetuning.digest)) if base.finetuning else base.name

    def finetuned(self, finetuning: str) -> Path:
        """A base model with a fine-tuned UNet, whole; ``provenance.json`` is written last."""
        return self.work / "models" / finetuning

    @property
    def pools(self) -> Path:
        """Frozen training samples shared by variants."""
        return self.work / "pools"

    def checkpoint(self, training: str) -> Path:
        """A trained TCM: ``config.json``, safetensors, ``settings.json``, ``history.csv``."""
        return self.work / "checkpoints" / training

    def decoder(self, distillation: str) -> Path:
        """A small decoder of the guidance; files as of a TCM."""
        return self.work / "decoders" / distillation

    def state(self, training: str) -> Path:
        """Resume states of a training of any kind; no rule declares it, so Snakemake never deletes it."""
        return self.work / "states" / training

    def frames(self, dataset: str, method: str, seed: int) -> Path:
        """Frames by sequence: ``<sequence>/<frame>.png``."""
        return self.work / "frames" / self.dataset(dataset).name / method / f"seed{seed}"

    def manifest(self, dataset: str, method: str, seed: int, shard: int) -> Path:
        """What an inference shard made: sequences, frame counts, hashes, seconds."""
        folder = self.work / "manifests" / self.dataset(dataset).name / method / f"seed{seed}"
        return folder / f"{self._shard(dataset, shard)}.json"

    def _shard(self, dataset: str, shard: int) -> str:
        """The number of shards is in the name: shards of another cut hold other sequences."""
        return f"shard{shard}of{self.study.spec.datasets[dataset].shards}"

    @cached_property
    def metrics_key(self) -> str:
        """Scores made for another list of metrics, or before the weights of some were fetched, are other files."""
        spec = self.study.spec
        empty = [name for name in spec.metrics if missing(name)] if spec.weights == "skip" else []
        return digest([sorted(spec.metrics), sorted(empty)])

    def scores(self, dataset: str, method: str, seed: int, shard: int) -> Path:
        """Per-frame scores of one shard."""
        folder = self.work / "scores" / self.metrics_key / self.dataset(dataset).name / method / f"seed{seed}"
        return folder / f"{self._shard(dataset, shard)}.csv"

    def table(self, dataset: str, method_name: str) -> Path:
        """Per-frame scores of a method under its readable name, all seeds and shards."""
        return self.results / "metrics" / dataset / f"{method_name}.csv"


def pool_file(run: TrainingRun, pools: Path) -> Path:
    """Where the frozen samples of a training lie; variants that differ in neighbour or optimisation share them."""
    settings = run.settings
    identity = {
        "model": run.base.identity,
        "dataset": dataset_identity(run.dataset),
        "guidance": run.guidance.model_dump(mode="json"),
        "crop": settings.crop,
        "size": settings.pool,
        "seed": settings.seed,
        "precision": settings.precision,
    }
    return pools / digest(identity) / "pool.safetensors"
