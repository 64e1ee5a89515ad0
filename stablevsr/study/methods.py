"""A resolved study: models, trainings and methods, each with the digest under which its files are stored.

A digest covers the settings and the code that numbers depend on, but not labels and names: variants with equal settings
share frames, scores and checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stablevsr.baselines.command import Command
from stablevsr.method.settings import ROUNDING_ONLY, Guidance, Optimisation, Sampling, Training
from stablevsr.runtime.errors import UserError, near_miss
from stablevsr.runtime.hashing import digest
from stablevsr.study.files import Ablation, Dataset, Study
from stablevsr.study.fingerprint import dataset_code, embedded_weights, training_code
from stablevsr.study.weights import baseline_weights, flow_weights, model_download, pins, training_weights
from stablevsr.training.tasks import TRAINING_KINDS

REFERENCE = "stablevsr"  #: the name of the study's own method
MODEL_TCM = Path("model")  #: the value of ``checkpoint`` that means the base model's own TCM


@dataclass(frozen=True)
class Base:
    """The networks that a method starts from: UNet, VAE, text encoder, scheduler, and the TCM of a released model."""

    name: str  #: hub id, folder, ``tiny``, or a name under the study's ``finetuned``
    training: TrainingRun | None = None  #: of its UNet, where the study fine-tunes it

    @property
    def origin(self) -> str:
        """The hub id, folder or ``tiny`` that must be there before anything is trained."""
        return self.training.base.name if self.training else self.name

    @property
    def identity(self) -> str:
        """What identifies it in other digests."""
        if self.training:
            return self.training.digest
        if self.name == "tiny":
            return f"tiny {embedded_weights()}"
        return " ".join([self.name, *pins(model_download(self.name)).values()])


@dataclass(frozen=True)
class TrainingRun:
    """One network to train: its kind, the resolved settings, the data, the model it starts from, and its digest."""

    kind: str  #: of :data:`stablevsr.training.tasks.TRAINING_KINDS`
    settings: Optimisation
    dataset: Dataset
    base: Base
    digest: str

    @classmethod
    def of(cls, kind: str, settings: Optimisation, dataset: Dataset, base: Base) -> TrainingRun:
        """A run with its digest."""
        run = cls(kind, settings, dataset, base, "")
        relevant = settings.model_dump(mode="json", exclude={"dataset", *ROUNDING_ONLY})
        return replace(run, digest=digest(run._identity(relevant)))

    def _identity(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "model": self.base.identity,
            "settings": settings,
            "dataset": dataset_identity(self.dataset),
            "weights": pins(training_weights(self.settings)),
            "code": training_code(self.kind),
        }

    @property
    def guidance(self) -> Guidance | None:
        """The guidance that a TCM is trained with; None for other networks."""
        return self.settings.guidance if isinstance(self.settings, Training) else None

    @property
    def samples(self) -> str | None:
        """The key of its cached samples, shared by trainings that differ in neighbour or optimiser, for example."""
        if not isinstance(self.settings, Training) or not self.settings.cached_samples:
            return None
        shared = {"guidance", "temporal_weight", "crop", "cached_samples"}
        shared |= {"seed", "precision", "tf32", "latents", "order"}
        return digest(self._identity(self.settings.of_samples.model_dump(mode="json", include=shared)))


@dataclass(frozen=True)
class Method:
    """One row of a table. ``name`` is ``<ablation>.<variant>``, or the key under ``methods``, or ``stablevsr``.

    Settings, networks and digest are those of run 0 with the study's model. Its forms (:meth:`on`, :meth:`runs`), which
    are methods again, are what it runs with on a data set, run by run.
    """

    name: str
    label: str
    kind: str  #: stablevsr, frames, command, or the name of a baseline
    digest: str
    run: int = 0  #: number of the run, which is also the seed of its noise
    datasets: tuple[str, ...] = ()
    guidance: Guidance | None = None
    sampling: Sampling | None = None
    base: Base | None = None
    training: TrainingRun | None = None  #: of its TCM
    decoder: TrainingRun | None = None  #: of the small decoder of its guidance
    checkpoint: Path | None = None
    frames: Path | None = None
    command: Command | None = None
    code: str = ""  #: fingerprint of the code that makes its frames
    #: By dataset, for each run; empty for methods that are the same everywhere and draw nothing.
    forms: dict[str, tuple[Method, ...]] = field(default_factory=dict, compare=False)

    def on(self, dataset: str) -> Method:
        """The method as it runs on ``dataset`` in run 0, with the model that the dataset names. Name and label stay."""
        return self.runs(dataset)[0]

    def runs(self, dataset: str) -> tuple[Method, ...]:
        """The method as it runs on ``dataset``, for each run; only one where nothing is random."""
        return self.forms.get(dataset, (self,))

    def frames_of(self, dataset: str) -> Path:
        """The folder of its external frames of a dataset (``root/sequence/frame.png``)."""
        return Path(str(self.frames).replace("{dataset}", dataset))

    @property
    def takes_model_tcm(self) -> bool:
        """Whether its TCM is the one that comes with the base model."""
        return self.checkpoint == MODEL_TCM

    @property
    def external_tcm(self) -> Path | None:
        """The folder of a TCM made elsewhere, or None."""
        return None if self.takes_model_tcm else self.checkpoint

    def trainings(self) -> list[TrainingRun]:
        """Everything that is trained for it."""
        runs = (self.base.training if self.base else None, self.training, self.decoder)
        return [run for run in runs if run]

    def identity(self) -> dict[str, Any]:
        """The settings and code that this method's numbers depend on, for digests and records."""
        return {
            "kind": self.kind,
            "guidance": self.guidance.model_dump(mode="json") if self.guidance else None,
            "sampling": self.sampling.model_dump(mode="json") if self.sampling else None,
            "training": self.training.digest if self.training else None,
            "decoder": self.decoder.digest if self.decoder else None,
            "checkpoint": str(self.checkpoint) if self.checkpoint else None,
            "frames": str(self.frames) if self.frames else None,
            "command": self.command.identity() if self.command else None,
            "weights": pins([*flow_weights(self.guidance), *baseline_weights(self.kind)]),
            "code": self.code,
        }


@dataclass(frozen=True)
class ResolvedStudy:
    """A study with everything filled in; ``methods`` by name: the study's method, then baselines, then ablations."""

    name: str
    spec: Study
    ablations: dict[str, Ablation]
    methods: dict[str, Method]
    files: tuple[Path, ...] = ()  #: the study's file, then those that it extends

    def forms(self) -> Iterator[Method]:
        """Every method as it runs on each of its datasets, run by run, with repetitions."""
        for method in self.methods.values():
            for dataset in method.datasets:
                yield from method.runs(dataset)

    def forms_on(self, dataset: str) -> list[Method]:
        """Every method as it runs on ``dataset``, run by run, with repetitions."""
        return [form for m in self.methods.values() if dataset in m.datasets for form in m.runs(dataset)]

    def by_digest(self, dataset: str) -> dict[str, Method]:
        """The digests of all forms on ``dataset``, each with one form that has it."""
        chosen: dict[str, Method] = {}
        for form in self.forms_on(dataset):
            chosen.setdefault(form.digest, form)
        return chosen

    def names(self, digest: str) -> list[str]:
        """Names of the methods that have this digest, or use a training that has it."""
        used = (m.name for m in self.forms() if digest in (m.digest, *(run.digest for run in m.trainings())))
        return list(dict.fromkeys(used))

    def trainings(self) -> dict[str, TrainingRun]:
        """Everything to train, by digest: UNets, then TCMs, then small decoders."""
        runs = [run for method in self.forms() for run in method.trainings()]
        return {run.digest: run for kind in TRAINING_KINDS for run in runs if run.kind == kind}

    def datasets_in_use(self) -> list[Dataset]:
        """The test sets that a method runs on, and the training and validation sets of everything to train."""
        found = [spec for name, spec in self.spec.datasets.items() if self.forms_on(name)]
        learned_from = {run.settings.dataset: run.dataset for run in self.trainings().values()}.values()
        found += learned_from
        return found + [spec.validation for spec in learned_from if spec.validation]

    def training(self, kind: str, name: str) -> TrainingRun:
        """Find a training by its digest, by a method that uses it, or (a UNet) by its name under ``finetuned``.

        Raises :class:`UserError` where there is none.
        """
        known: dict[str, TrainingRun] = {}
        for form in self.forms():
            for run in (run for run in form.trainings() if run.kind == kind):
                finetuned = [form.base.name] if form.base and form.base.training == run else []
                known |= {key: known.get(key, run) for key in (run.digest, form.name, *finetuned)}
        if name not in known:
            names = [key for key in known if key not in self.trainings()]
            hint = near_miss(name, names) or f": it does for {', '.join(names) or 'none'}"
            raise UserError(f"study {self.name} trains no {TRAINING_KINDS[kind]} for {name}{hint}")
        return known[name]

    def table1(self) -> list[Method]:
        """The rows of Table 1: baselines, those under ``table1`` in the study, and the study's method last."""
        names = [*self.spec.methods, *self.spec.table1, REFERENCE]
        return [self.methods[name] for name in names]

    def runs(self, dataset: str) -> int:
        """How many runs there are on a test set."""
        return self.spec.datasets[dataset].runs or self.spec.runs

    def table1_datasets(self) -> tuple[str, ...]:
        """The test sets of Table 1."""
        return tuple(name for name, spec in self.spec.datasets.items() if "table1" in spec.used_by)

    def main_datasets(self) -> tuple[str, ...]:
        """The test sets that are used by default, without those that only some ablations name."""
        return tuple(name for name, spec in self.spec.datasets.items() if spec.used_by)

    def ablation_datasets(self, ablation: str) -> tuple[str, ...]:
        """The test sets of an ablation: those it names, else the study's test sets for ablations."""
        usual = [name for name, spec in self.spec.datasets.items() if "ablations" in spec.used_by]
        named = self.ablations[ablation].datasets
        return tuple(usual if named is None else named)

    def ablation_methods(self, ablation: str) -> dict[str, Method]:
        """The rows of one ablation's table: its variants by key, then other methods that it shows, by full name."""
        file = self.ablations[ablation]
        rows = {key: self.methods[f"{ablation}.{key}"] for key in file.variants}
        known = {method.digest for method in rows.values()}
        others = {name: replace(self.methods[name], label=label) for name, label in file.also.items()}
        return rows | {name: method for name, method in others.items() if method.digest not in known}

    def dataset(self, name: str, training: bool = False) -> Dataset:
        """A test set or training set by name. Raises :class:`UserError` with the near miss."""
        known, what = self.spec.datasets, "dataset"
        if training:
            known, what = self.spec.training_datasets, "training dataset"
        if name not in known:
            raise UserError(f"study {self.name} has no {what} {name}{near_miss(name, known)}")
        return known[name]

    def form(self, name: str, dataset: str, seed: int) -> Method:
        """The form on ``dataset`` whose noise has ``seed``, by the method's name or the form's digest.

        Raises :class:`UserError` where there is none.
        """
        method = self.find(name)
        forms = [form for form in self.forms_on(dataset) if name in (form.name, form.digest)]
        for form in forms:
            if form.run == seed:
                return form
        known = ", ".join(str(form.run) for form in forms) or "none"
        raise UserError(f"method {method.name} has no run with seed {seed} on {dataset}: its seeds there are {known}")

    def find(self, name: str) -> Method:
        """A method by name or digest. Raises :class:`UserError` with the near miss."""
        if name in self.methods:
            return self.methods[name]
        for method in self.forms():
            if name == method.digest:
                return method
        known = near_miss(name, self.methods) or f": known are {', '.join(self.methods)}"
        raise UserError(f"study {self.name} has no method {name}{known}")


def dataset_identity(dataset: Dataset) -> dict[str, Any]:
    """A dataset's part of digests: everything that its frames depend on."""
    changes_no_frame = {"title", "degradation", "shards", "runs", "model", "used_by", "validation"}
    spec = dataset.model_dump(mode="json", exclude=changes_no_frame)
    return spec | {"code": dataset_code(dataset.make)}
