"""A study with everything filled in: models, trainings and methods, each with the digest its files are kept under.

A digest is taken over the settings that decide numbers, after those that cannot matter are dropped, so that variants
that mean the same share frames, scores and checkpoints. Labels and names are not in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stablevsr.method.settings import Distillation, Finetuning, Guidance, Sampling, Training
from stablevsr.runtime.errors import UserError, near_miss
from stablevsr.study.files import Ablation, Dataset, Study

REFERENCE = "stablevsr"  #: the name of the study's own method
MODELS_OWN = Path("model")  #: as a checkpoint: the base model's own TCM


@dataclass(frozen=True)
class FinetuningRun:
    """One base model to make: the settings of its UNet's fine-tuning, the data, what it starts from, its digest."""

    settings: Finetuning
    dataset: Dataset
    start: str  #: hub id, folder or ``tiny``
    digest: str


@dataclass(frozen=True)
class Base:
    """The networks that a method starts from: UNet, VAE, text encoder, scheduler, and the TCM of a released model."""

    name: str  #: hub id, folder, ``tiny``, or a name under the study's ``finetuned``
    finetuning: FinetuningRun | None = None

    @property
    def identity(self) -> str:
        """What stands for it in digests."""
        return self.finetuning.digest if self.finetuning else self.name


@dataclass(frozen=True)
class TrainingRun:
    """One TCM to train: resolved settings (guidance filled in), the dataset it learns from, and its digest."""

    settings: Training
    dataset: Dataset
    base: Base
    digest: str

    @property
    def guidance(self) -> Guidance:
        """The guidance the TCM is trained with."""
        assert self.settings.guidance is not None
        return self.settings.guidance


@dataclass(frozen=True)
class DecoderRun:
    """One small decoder to distil: settings, the data, the base model whose VAE it learns from, its digest."""

    settings: Distillation
    dataset: Dataset
    base: Base
    digest: str


@dataclass(frozen=True)
class Method:
    """One row of a table. ``name`` is ``<ablation>.<variant>``, or the key under ``methods``, or ``stablevsr``."""

    name: str
    label: str
    kind: str  #: stablevsr, bicubic, realesrgan-x4plus, realesr-animevideov3, frames
    digest: str
    seeds: tuple[int, ...]
    datasets: tuple[str, ...]
    guidance: Guidance | None = None
    sampling: Sampling | None = None
    base: Base | None = None
    training: TrainingRun | None = None
    decoder: DecoderRun | None = None
    checkpoint: Path | None = None
    frames: Path | None = None
    ablation: str | None = None
    own: dict[str, Method] = field(default_factory=dict, compare=False)  #: its form on datasets with their own model

    def on(self, dataset: str) -> Method:
        """The method as it runs on ``dataset``: with the model that belongs there. Name and label stay."""
        return self.own.get(dataset, self)

    def frames_of(self, dataset: str) -> Path:
        """The folder of its given frames of a dataset (``root/sequence/frame.png``)."""
        return Path(str(self.frames).replace("{dataset}", dataset))

    def identity(self) -> dict[str, Any]:
        """The settings that decide this method's numbers, as they are digested and recorded."""
        return {
            "kind": self.kind,
            "guidance": self.guidance.model_dump(mode="json") if self.guidance else None,
            "sampling": self.sampling.model_dump(mode="json") if self.sampling else None,
            "training": self.training.digest if self.training else None,
            "decoder": self.decoder.digest if self.decoder else None,
            "checkpoint": str(self.checkpoint) if self.checkpoint else None,
            "frames": str(self.frames) if self.frames else None,
        }


@dataclass(frozen=True)
class ResolvedStudy:
    """A study with everything filled in; ``methods`` by name, the study's own first, then peers, then ablations."""

    name: str
    spec: Study
    ablations: dict[str, Ablation]
    methods: dict[str, Method]

    def forms(self) -> Iterator[Method]:
        """Every method as it runs on each of its datasets; the same form may come more than once."""
        for method in self.methods.values():
            yield from (method.on(dataset) for dataset in method.datasets)

    def by_digest(self, dataset: str) -> dict[str, Method]:
        """One method for every digest that ``dataset`` needs."""
        chosen: dict[str, Method] = {}
        for method in self.methods.values():
            if dataset in method.datasets:
                chosen.setdefault(method.on(dataset).digest, method.on(dataset))
        return chosen

    def seeds(self, digest: str, dataset: str) -> tuple[int, ...]:
        """All seeds that any method of this digest asks for on ``dataset``."""
        here = (m for m in self.methods.values() if dataset in m.datasets and m.on(dataset).digest == digest)
        return tuple(sorted({seed for method in here for seed in method.seeds}))

    def names(self, digest: str) -> list[str]:
        """The names under which a digest is known, for messages."""
        return list(dict.fromkeys(m.name for m in self.forms() if m.digest == digest))

    def trainings(self) -> dict[str, TrainingRun]:
        """The TCMs to train, by digest."""
        return {m.training.digest: m.training for m in self.forms() if m.training}

    def trained_for(self, training: str) -> list[str]:
        """The methods that use a training, by name."""
        return list(dict.fromkeys(m.name for m in self.forms() if m.training and m.training.digest == training))

    def finetunings(self) -> dict[str, FinetuningRun]:
        """The base models to make, by digest."""
        runs = (m.base.finetuning for m in self.forms() if m.base)
        return {run.digest: run for run in runs if run}

    def decoders(self) -> dict[str, DecoderRun]:
        """The small decoders to distil, by digest."""
        return {m.decoder.digest: m.decoder for m in self.forms() if m.decoder}

    def distilled_for(self, distillation: str) -> list[str]:
        """The methods that use a small decoder, by name."""
        return list(dict.fromkeys(m.name for m in self.forms() if m.decoder and m.decoder.digest == distillation))

    def decoder(self, name: str) -> DecoderRun:
        """A distillation by its digest or by the name of a method that uses it."""
        if name in self.decoders():
            return self.decoders()[name]
        method = self.find(name)
        if method.decoder is None:
            raise UserError(f"method {name} of study {self.name} has no small decoder: its guidance comes from the VAE")
        return method.decoder

    def training(self, name: str) -> TrainingRun:
        """A training by its digest or by the name of a method that uses it."""
        if name in self.trainings():
            return self.trainings()[name]
        method = self.find(name)
        if method.training is None:
            raise UserError(f"method {name} of study {self.name} trains nothing")
        return method.training

    def table1(self) -> list[Method]:
        """The rows of Table 1: peers, what the study adds, and the study's own method last."""
        names = [*self.spec.methods, *self.spec.table1, REFERENCE]
        return [self.methods[name] for name in names]

    def table1_datasets(self) -> tuple[str, ...]:
        """The test sets of Table 1."""
        return tuple(name for name, spec in self.spec.datasets.items() if "table1" in spec.used_by)

    def main_datasets(self) -> tuple[str, ...]:
        """The test sets of Table 1 and of ablations in general, without those that one ablation asks for by name."""
        return tuple(name for name, spec in self.spec.datasets.items() if spec.used_by)

    def ablation_datasets(self, ablation: str) -> tuple[str, ...]:
        """The test sets of an ablation: those it names, else those of the study that ablations use."""
        usual = [name for name, spec in self.spec.datasets.items() if "ablations" in spec.used_by]
        named = self.ablations[ablation].datasets
        return tuple(usual if named is None else named)

    def ablation_methods(self, ablation: str) -> dict[str, Method]:
        """The rows of one ablation's table, by variant key."""
        return {key: self.methods[f"{ablation}.{key}"] for key in self.ablations[ablation].variants}

    def dataset(self, name: str) -> Dataset:
        """A test set by name. Raises :class:`UserError` with the near miss."""
        if name not in self.spec.datasets:
            raise UserError(f"study {self.name} has no dataset {name}{near_miss(name, self.spec.datasets)}")
        return self.spec.datasets[name]

    def training_dataset(self, name: str) -> Dataset:
        """A training set by name. Raises :class:`UserError` with the near miss."""
        known = self.spec.training_datasets
        if name not in known:
            raise UserError(f"study {self.name} has no training dataset {name}{near_miss(name, known)}")
        return known[name]

    def finetuning(self, name: str) -> FinetuningRun:
        """A fine-tuning by its digest or by its name under ``finetuned``. Raises :class:`UserError` otherwise."""
        if name in self.finetunings():
            return self.finetunings()[name]
        known = {m.base.name: m.base.finetuning for m in self.forms() if m.base and m.base.finetuning}
        if name not in known:
            raise UserError(f"study {self.name} fine-tunes no model {name}{near_miss(name, known)}")
        return known[name]

    def find(self, name: str) -> Method:
        """A method by name or digest. Raises :class:`UserError` with the near miss."""
        if name in self.methods:
            return self.methods[name]
        for method in self.forms():
            if name == method.digest:
                return method
        known = near_miss(name, self.methods) or f": known are {', '.join(self.methods)}"
        raise UserError(f"study {self.name} has no method {name}{known}")


def digest(content: Any) -> str:
    """16 hex digits over a JSON value, independent of key order."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def dataset_identity(dataset: Dataset) -> dict[str, Any]:
    """What decides the frames of a dataset; its title and its number of shards do not."""
    return dataset.model_dump(mode="json", exclude={"title", "shards", "own", "used_by"})
