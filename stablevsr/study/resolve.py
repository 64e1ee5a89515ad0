"""From a study and its ablations to methods, trainings and digests.

A *method* is what makes frames: model, TCM, guidance, sampling. Its digest is taken over the settings that decide
numbers, after those that cannot matter are dropped (single_frame has no guidance; a blank image has no warp), so
variants that mean the same share frames, scores and checkpoints. Labels and names are not in it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stablevsr.errors import UserError, near_miss
from stablevsr.metrics.registry import resolve as resolve_metrics
from stablevsr.settings import Guidance, Sampling, Training
from stablevsr.study.files import Ablation, Dataset, Peer, Study, Variant, load_yaml, parse

REFERENCE = "stablevsr"  #: the name of the study's own method
MODELS_OWN = Path("model")  #: as a checkpoint: the base model's own TCM


@dataclass(frozen=True)
class TrainingRun:
    """One TCM to train: resolved settings (guidance filled in), the dataset it learns from, and its digest."""

    settings: Training
    dataset: Dataset
    model: str
    digest: str

    @property
    def guidance(self) -> Guidance:
        """The guidance the TCM is trained with."""
        assert self.settings.guidance is not None
        return self.settings.guidance


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
    training: TrainingRun | None = None
    checkpoint: Path | None = None
    frames: Path | None = None
    ablation: str | None = None

    def identity(self) -> dict[str, Any]:
        """The settings that decide this method's numbers, as they are digested and recorded."""
        return {
            "kind": self.kind,
            "guidance": self.guidance.model_dump(mode="json") if self.guidance else None,
            "sampling": self.sampling.model_dump(mode="json") if self.sampling else None,
            "training": self.training.digest if self.training else None,
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

    def by_digest(self, dataset: str) -> dict[str, Method]:
        """One method for every digest that ``dataset`` needs."""
        chosen: dict[str, Method] = {}
        for method in self.methods.values():
            if dataset in method.datasets:
                chosen.setdefault(method.digest, method)
        return chosen

    def seeds(self, digest: str) -> tuple[int, ...]:
        """All seeds that any method of this digest asks for."""
        return tuple(sorted({s for m in self.methods.values() if m.digest == digest for s in m.seeds}))

    def names(self, digest: str) -> list[str]:
        """The names under which a digest is known, for messages."""
        return [m.name for m in self.methods.values() if m.digest == digest]

    def trainings(self) -> dict[str, TrainingRun]:
        """The TCMs to train, by digest."""
        return {m.training.digest: m.training for m in self.methods.values() if m.training}

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

    def ablation_methods(self, ablation: str) -> dict[str, Method]:
        """The rows of one ablation's table, by variant key."""
        return {key: self.methods[f"{ablation}.{key}"] for key in self.ablations[ablation].variants}

    def dataset(self, name: str) -> Dataset:
        """A test set by name. Raises :class:`UserError` with the near miss."""
        if name not in self.spec.datasets:
            raise UserError(f"study {self.name} has no dataset {name}{near_miss(name, self.spec.datasets)}")
        return self.spec.datasets[name]

    def find(self, name: str) -> Method:
        """A method by name or digest. Raises :class:`UserError` with the near miss."""
        for method in self.methods.values():
            if name in (method.name, method.digest):
                return method
        raise UserError(f"study {self.name} has no method {name}{near_miss(name, self.methods)}")


def digest(content: Any) -> str:
    """16 hex digits over a JSON value, independent of key order."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``change`` laid over it, nested dictionaries key by key."""
    merged = dict(base)
    for key, value in change.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def load_study(name: str, root: Path = Path()) -> ResolvedStudy:
    """Read ``workflow/studies/NAME.yaml`` and the ablations it lists, below ``root``, and resolve every method.

    Raises :class:`UserError` naming file, key and near miss, before anything runs.
    """
    folder = root / "workflow" / "studies"
    known = sorted(p.stem for p in folder.glob("*.yaml"))
    if not known:
        raise UserError(f"there is no study in {folder.absolute()}: run this in the repository's folder")
    if name not in known:
        raise UserError(f"there is no study {name} in {folder}{near_miss(name, known)}: known are {', '.join(known)}")
    spec = parse(Study, load_yaml(folder / f"{name}.yaml"), folder / f"{name}.yaml")
    return resolve(name, spec, load_ablations(spec, root / "ablations"), folder / f"{name}.yaml")


def load_ablations(spec: Study, folder: Path) -> dict[str, Ablation]:
    """The ablation files that a study lists; ``all`` stands for every file in the folder."""
    known = sorted(p.stem for p in folder.glob("*.yaml"))
    names = known if spec.ablations == ["all"] else spec.ablations
    loaded = {}
    for name in names:
        if name not in known:
            raise UserError(f"there is no ablation {name} in {folder}{near_miss(name, known)}")
        loaded[name] = parse(Ablation, load_yaml(folder / f"{name}.yaml"), folder / f"{name}.yaml")
    return loaded


def resolve(name: str, spec: Study, ablations: dict[str, Ablation], where: Path) -> ResolvedStudy:
    """Resolve a parsed study; ``where`` is only named in errors."""
    resolve_metrics(spec.metrics)
    everywhere = tuple(spec.datasets)
    methods = {REFERENCE: _variant(spec, REFERENCE, Variant(label=spec.method.label), everywhere, None, where)}
    for key, peer in spec.methods.items():
        methods[key] = _peer(key, peer, everywhere)
    for ablation_name, ablation in ablations.items():
        file = where.parents[2] / "ablations" / f"{ablation_name}.yaml"
        datasets = _subset(ablation.datasets, everywhere, file)
        for variant_name, variant in ablation.variants.items():
            full = f"{ablation_name}.{variant_name}"
            methods[full] = _variant(spec, full, variant, datasets, ablation_name, file)
    for key, names in (("more_seeds", list(spec.more_seeds)), ("table1", spec.table1)):
        for method_name in names:
            if method_name not in methods:
                raise UserError(
                    f"{where}: {key} names the unknown method {method_name}{near_miss(method_name, methods)}"
                )
    study = ResolvedStudy(name, spec, ablations, methods)
    _check_claims(study, where)
    return study


def _subset(wanted: list[str] | None, known: tuple[str, ...], where: Path) -> tuple[str, ...]:
    for name in wanted or ():
        if name not in known:
            raise UserError(f"{where}: unknown dataset {name}{near_miss(name, known)}")
    return tuple(wanted) if wanted is not None else known


def _seeds(spec: Study, name: str) -> tuple[int, ...]:
    return tuple(spec.more_seeds.get(name, spec.seeds))


def _peer(name: str, peer: Peer, datasets: tuple[str, ...]) -> Method:
    if (peer.kind == "frames") != (peer.frames is not None):
        raise UserError(f"method {name}: kind frames and a frames folder belong together")
    method = Method(name, peer.label, peer.kind, "", (0,), datasets, frames=peer.frames)
    return _digested(method)


def _variant(
    spec: Study, name: str, variant: Variant, datasets: tuple[str, ...], ablation: str | None, where: Path
) -> Method:
    if variant.frames is not None:
        return _digested(
            Method(name, variant.label, "frames", "", (0,), datasets, frames=variant.frames, ablation=ablation)
        )
    key = name.rpartition(".")[2]
    at = f"{where}, variant {key}" if ablation else str(where)
    reference = spec.method
    guidance = parse(Guidance, merge(reference.guidance.model_dump(), variant.guidance), f"{at}, guidance")
    sampling = parse(Sampling, merge(reference.sampling.model_dump(), variant.sampling), f"{at}, sampling")
    base = reference.training.model_dump()
    base["guidance"] = base["guidance"] or reference.guidance.model_dump()
    retrain = spec.retrain_guidance and bool(variant.guidance)
    if retrain:
        base["guidance"] = guidance.model_dump()
    training = parse(Training, merge(base, variant.training), f"{at}, training")
    single = sampling.strategy == "single_frame"
    own = None if variant.training or retrain else reference.checkpoint
    checkpoint = None if single else variant.checkpoint or own
    needs_training = not single and checkpoint is None
    return _digested(
        Method(
            name,
            variant.label,
            "stablevsr",
            "",
            _seeds(spec, name),
            datasets,
            guidance=None if single else _canonical(guidance),
            sampling=sampling,
            training=_training(spec, training, at) if needs_training else None,
            checkpoint=checkpoint,
            ablation=ablation,
        ),
        spec.model,
    )


def _canonical(guidance: Guidance) -> Guidance:
    """Drop what cannot matter: a blank image is not warped, an unwarped image needs neither grid nor flow."""
    if guidance.source == "none":
        return Guidance(source="none")
    if guidance.motion_compensation == "none":
        return Guidance(source=guidance.source, motion_compensation="none")
    return guidance


def _training(spec: Study, training: Training, where: str) -> TrainingRun:
    if training.dataset not in spec.training_datasets:
        raise UserError(
            f"{where}: unknown training dataset {training.dataset}{near_miss(training.dataset, spec.training_datasets)}"
        )
    assert training.guidance is not None
    settings = training.model_copy(update={"guidance": _canonical(training.guidance)})
    dataset = spec.training_datasets[training.dataset]
    identity = {
        "model": spec.model,
        "settings": settings.model_dump(mode="json", exclude={"dataset", "micro_batch"}),
        "dataset": dataset_identity(dataset),
    }
    return TrainingRun(settings, dataset, spec.model, digest(identity))


def dataset_identity(dataset: Dataset) -> dict[str, Any]:
    """What decides the frames of a dataset; its title and its number of shards do not."""
    return dataset.model_dump(mode="json", exclude={"title", "shards"})


def _digested(method: Method, model: str = "") -> Method:
    from dataclasses import replace

    return replace(method, digest=digest({"model": model, **method.identity()}))


def _check_claims(study: ResolvedStudy, where: Path) -> None:
    """Claims must name metrics and methods that exist; in an ablation the variants' own keys may be used."""
    for ablation, claims in [(None, study.spec.claims)] + [(n, a.claims) for n, a in study.ablations.items()]:
        file = where.parents[2] / "ablations" / f"{ablation}.yaml" if ablation else where
        for number, claim in enumerate(claims, start=1):
            try:
                resolve_metrics([claim.metric])
                for name in filter(None, (claim.better, claim.than)):
                    claim_method(study, ablation, name)
            except UserError as error:
                raise UserError(f"{file}, claim {number}: {error}") from error
            _subset(claim.datasets, tuple(study.spec.datasets), file)


def claim_method(study: ResolvedStudy, ablation: str | None, name: str) -> Method:
    """The method a claim names: a variant of its own ablation, or any method by its full name."""
    full = f"{ablation}.{name}" if ablation and f"{ablation}.{name}" in study.methods else name
    if full not in study.methods:
        own = [m.partition(".")[2] for m in study.methods if ablation and m.startswith(f"{ablation}.")]
        raise UserError(
            f"a claim of {ablation or 'the study'} names the unknown method {name}"
            f"{near_miss(name, [*own, *study.methods])}"
        )
    return study.methods[full]
