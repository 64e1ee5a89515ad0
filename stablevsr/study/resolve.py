"""From a study's file and its ablations to methods, trainings and base models (:mod:`.methods`).

Everything is checked here, before any job starts: unknown names come with the near miss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from stablevsr.method.settings import ROUNDING_ONLY, Guidance, Optimisation, Sampling, Training
from stablevsr.method.strategies import is_guided
from stablevsr.metrics.registry import METRICS
from stablevsr.metrics.registry import resolve as resolve_metrics
from stablevsr.runtime.errors import UserError, near_miss
from stablevsr.runtime.parsing import parse
from stablevsr.study.files import Ablation, Dataset, Peer, Study, Variant, load_yaml
from stablevsr.study.methods import (
    MODELS_OWN,
    REFERENCE,
    Base,
    DecoderRun,
    FinetuningRun,
    Method,
    ResolvedStudy,
    TrainingRun,
    dataset_identity,
    digest,
)


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
    return resolve(name, spec, load_ablations(name, known, spec, root / "ablations"), folder / f"{name}.yaml")


def load_ablations(study: str, studies: list[str], spec: Study, folder: Path) -> dict[str, Ablation]:
    """The ablation files that a study lists; ``all`` stands for every file that does not keep itself for others.

    ``studies`` are the names that an ablation's own ``studies`` may hold.
    """
    known = sorted(p.stem for p in folder.glob("*.yaml"))
    everything = spec.ablations == ["all"]
    loaded = {}
    for name in known if everything else spec.ablations:
        if name not in known:
            raise UserError(f"there is no ablation {name} in {folder}{near_miss(name, known)}")
        file = folder / f"{name}.yaml"
        ablation = parse(Ablation, load_yaml(file), file)
        for other in ablation.studies or ():
            if other not in studies:
                raise UserError(f"{file}: studies names the unknown study {other}{near_miss(other, studies)}")
        if ablation.studies is None or study in ablation.studies:
            loaded[name] = ablation
        elif not everything:
            raise UserError(f"{file} is meant for the studies {', '.join(ablation.studies)}, but {study} lists it")
    return loaded


def resolve(name: str, spec: Study, ablations: dict[str, Ablation], where: Path) -> ResolvedStudy:
    """Resolve a parsed study; ``where`` is only named in errors."""
    try:
        resolve_metrics(spec.metrics)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    homes = _homes(spec, where)
    study = ResolvedStudy(name, spec, ablations, methods := {})
    main = study.table1_datasets()
    methods[REFERENCE] = _method(spec, homes, REFERENCE, Variant(label=spec.method.label), main, None, where)
    if REFERENCE in spec.methods:
        raise UserError(f"{where}: methods names {REFERENCE}, which is the study's own method: choose another name")
    for key, peer in spec.methods.items():
        # Bicubic tells which clips are in focus, wherever a claim is checked
        methods[key] = _peer(key, peer, where, tuple(spec.datasets) if peer.kind == "bicubic" else main)
    for ablation_name, ablation in ablations.items():
        file = where.parents[2] / "ablations" / f"{ablation_name}.yaml"
        _check_datasets(ablation.datasets, spec, file)
        datasets = study.ablation_datasets(ablation_name)
        for variant_name, variant in ablation.variants.items():
            if variant.frames is not None:
                frames = Path(str(variant.frames).replace("{study}", name))
                variant = variant.model_copy(update={"frames": frames})
            full = f"{ablation_name}.{variant_name}"
            methods[full] = _method(spec, homes, full, variant, datasets, ablation_name, file)
    for key, names in (("more_seeds", list(spec.more_seeds)), ("table1", spec.table1)):
        for method_name in names:
            if method_name not in methods:
                raise UserError(
                    f"{where}: {key} names the unknown method {method_name}{near_miss(method_name, methods)}"
                )
    _check_claims(study, where)
    return study


@dataclass(frozen=True)
class _Home:
    """What a method starts from on a dataset: the study's model and TCM, or those of a dataset that has its own."""

    base: Base
    training: dict[str, Any]  #: laid over the reference's
    checkpoint: Path | None


def _homes(spec: Study, where: Path) -> dict[str, _Home]:
    """One home for the study (key ``""``) and one for every dataset with a model of its own."""
    homes = {"": _Home(_base(spec, spec.model, where), {}, spec.method.checkpoint)}
    for name, dataset in spec.datasets.items():
        if dataset.own is not None:
            at = Path(f"{where}, dataset {name}")
            homes[name] = _Home(_base(spec, dataset.own.model, at), dataset.own.training, dataset.own.checkpoint)
    for home in homes.values():
        _check_own_tcm(home.base, home.checkpoint, where)
    return homes


def _check_own_tcm(base: Base, checkpoint: Path | None, where: Path | str) -> None:
    if base.finetuning and checkpoint == MODELS_OWN:
        raise UserError(f"{where}: the fine-tuned model {base.name} has no TCM: leave out `checkpoint: model`")


def _base(spec: Study, model: str, where: Path) -> Base:
    if model not in spec.finetuned:
        return Base(model)
    entry = spec.finetuned[model]
    if entry.base in spec.finetuned:
        raise UserError(f"{where}: finetuned {model} starts from {entry.base}, which is fine-tuned itself")
    dataset = _training_set(spec, entry.training.dataset, f"{where}, finetuned {model}")
    _check_batch(spec, entry.training, f"{where}, finetuned {model}")
    identity = {
        "finetuned": entry.base,
        "settings": entry.training.model_dump(mode="json", exclude={"dataset", *ROUNDING_ONLY}),
        "dataset": dataset_identity(dataset),
    }
    return Base(model, FinetuningRun(entry.training, dataset, entry.base, digest(identity)))


def _check_batch(spec: Study, training: Optimisation, where: str) -> None:
    if training.batch % spec.training_processes:
        raise UserError(
            f"{where}: a batch of {training.batch} cannot be shared by {spec.training_processes} training_processes"
        )


def _training_set(spec: Study, name: str, where: str) -> Dataset:
    if name not in spec.training_datasets:
        raise UserError(f"{where}: unknown training dataset {name}{near_miss(name, spec.training_datasets)}")
    return spec.training_datasets[name]


def _method(
    spec: Study, homes: dict[str, _Home], name: str, variant: Variant, datasets: tuple[str, ...],
    ablation: str | None, where: Path,
) -> Method:  # fmt: skip
    """A method of the study, with its form for each of its datasets that has a model of its own."""
    method = _variant(spec, homes[""], name, variant, datasets, ablation, where)
    if method.kind != "stablevsr":
        return method
    own = {
        dataset: _variant(spec, homes[dataset], name, variant, datasets, ablation, where)
        for dataset in datasets
        if dataset in homes
    }
    return replace(method, own=own)


def _check_datasets(wanted: list[str] | None, spec: Study, where: Path) -> None:
    for name in wanted or ():
        if name not in spec.datasets:
            raise UserError(f"{where}: unknown dataset {name}{near_miss(name, spec.datasets)}")


def _seeds(spec: Study, name: str) -> tuple[int, ...]:
    return tuple(spec.more_seeds.get(name, spec.seeds))


def _peer(name: str, peer: Peer, where: Path, datasets: tuple[str, ...]) -> Method:
    if (peer.kind == "frames") != (peer.frames is not None):
        kinds = ", ".join(kind for kind in get_args(Peer.model_fields["kind"].annotation) if kind != "frames")
        raise UserError(f"{where}: method {name} wants either a frames folder or one of the kinds {kinds}")
    method = Method(name, peer.label, peer.kind, "", (0,), datasets, frames=peer.frames)
    return _digested(method)


def _variant(
    spec: Study, home: _Home, name: str, variant: Variant, datasets: tuple[str, ...], ablation: str | None, where: Path
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
    plain = reference.training.model_dump()
    plain["guidance"] = plain["guidance"] or reference.guidance.model_dump()
    retrain = spec.retrain_guidance and bool(variant.guidance)
    if retrain:
        plain["guidance"] = guidance.model_dump()
    training = parse(Training, merge(merge(plain, home.training), variant.training), f"{at}, training")
    single = not is_guided(sampling.strategy)
    if single:
        sampling = sampling.model_copy(update={"guide_every": 1, "guide_from": 0.0})  # there is nothing to guide
    if sampling.guidance_decoder == "small" and guidance.source == "xt":
        raise UserError(f"{at}: the small decoder learns clean latents (x0) and cannot decode noisy ones (xt)")
    if single or guidance.source == "none":
        sampling = sampling.model_copy(update={"guidance_decoder": "vae"})  # there is nothing to decode
    base = _base(spec, variant.model, Path(at)) if variant.model else home.base
    own = None if variant.training or variant.model or retrain else home.checkpoint
    checkpoint = None if single else variant.checkpoint or own
    _check_own_tcm(base, checkpoint, at)
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
            base=base,
            training=_training(spec, base, training, at) if needs_training else None,
            decoder=_decoder(spec, base, training, at) if sampling.guidance_decoder == "small" else None,
            checkpoint=checkpoint,
            ablation=ablation,
        )
    )


def _decoder(spec: Study, base: Base, training: Training, where: str) -> DecoderRun:
    """The distillation for a base model, on the data that its TCM learns from."""
    ignored = {"dataset", "gradient_checkpointing"} & spec.distillation.model_fields_set
    if ignored:
        raise UserError(f"{where}: distillation takes no {ignored.pop()} (it learns on the TCM's data): leave it out")
    dataset = _training_set(spec, training.dataset, where)
    settings = spec.distillation.model_copy(update={"dataset": training.dataset})
    _check_batch(spec, settings, f"{where}, distillation")
    identity = {
        "model": base.identity,
        "settings": settings.model_dump(mode="json", exclude={"dataset", *ROUNDING_ONLY}),
        "dataset": dataset_identity(dataset),
    }
    return DecoderRun(settings, dataset, base, digest(identity))


def _canonical(guidance: Guidance) -> Guidance:
    """Drop what cannot matter: a blank image is not warped, an unwarped image needs neither grid nor flow."""
    if guidance.source == "none":
        return Guidance(source="none")
    if guidance.motion_compensation == "none":
        return Guidance(source=guidance.source, motion_compensation="none")
    return guidance


def _training(spec: Study, base: Base, training: Training, where: str) -> TrainingRun:
    dataset = _training_set(spec, training.dataset, where)
    _check_batch(spec, training, where)
    assert training.guidance is not None
    settings = training.model_copy(update={"guidance": _canonical(training.guidance)})
    identity = {
        "model": base.identity,
        "settings": settings.model_dump(mode="json", exclude={"dataset", *ROUNDING_ONLY}),
        "dataset": dataset_identity(dataset),
    }
    return TrainingRun(settings, dataset, base, digest(identity))


def _digested(method: Method) -> Method:
    model = method.base.identity if method.base else ""
    return replace(method, digest=digest({"model": model, **method.identity()}))


def _check_claims(study: ResolvedStudy, where: Path) -> None:
    """Claims must name metrics and methods that exist; in an ablation the variants' own keys may be used."""
    for ablation, claims in [(None, study.spec.claims)] + [(n, a.claims) for n, a in study.ablations.items()]:
        file = where.parents[2] / "ablations" / f"{ablation}.yaml" if ablation else where
        for number, claim in enumerate(claims, start=1):
            try:
                resolve_metrics([claim.metric])
                if METRICS[claim.metric].direction == "none":
                    raise UserError(f"{claim.metric} has no better or worse: no claim can be checked in it")
                for name in filter(None, (claim.better, claim.than)):
                    claim_method(study, ablation, name)
            except UserError as error:
                raise UserError(f"{file}, claim {number}: {error}") from error
            _check_datasets(claim.datasets, study.spec, file)


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
