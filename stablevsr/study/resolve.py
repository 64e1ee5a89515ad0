"""From a study's file and its ablations to methods, trainings and base models (:mod:`.methods`).

Everything is checked here, before any job starts; for an unknown name the closest known one is suggested.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from stablevsr.baselines import BASELINES
from stablevsr.baselines.command import PLACES, Command
from stablevsr.data.downloads import registry
from stablevsr.method.settings import PRESETS, Guidance, Optimisation, Sampling, Training
from stablevsr.method.strategies import is_guided
from stablevsr.metrics.registry import resolve as resolve_metrics
from stablevsr.runtime.errors import UserError, near_miss
from stablevsr.runtime.hashing import digest
from stablevsr.runtime.parsing import parse
from stablevsr.study.files import NAME, Ablation, Baseline, DatasetModel, Study, Variant, load_yaml
from stablevsr.study.fingerprint import sampling_code
from stablevsr.study.methods import MODEL_TCM, REFERENCE, Base, Method, ResolvedStudy, TrainingRun
from stablevsr.study.statements import statements


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``base`` updated by ``change``, nested dictionaries key by key.

    A ``preset`` in ``change`` (of sampling settings) replaces what ``base`` says about the settings of presets.
    """
    replaced = PRESETS["exact"] if "preset" in change else {}
    merged = {key: value for key, value in base.items() if key not in replaced}
    for key, value in change.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def study_files(root: Path) -> list[Path]:
    """The study files of a repository's folder. Raises :class:`UserError` if there are none."""
    folder = root / "workflow" / "studies"
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise UserError(f"there is no study in {folder.absolute()}: run this in the repository's folder")
    return files


def load_study(name: str, root: Path = Path()) -> ResolvedStudy:
    """Read ``workflow/studies/NAME.yaml`` and the ablations it lists, below ``root``, and resolve every method.

    Raises :class:`UserError` naming file, key and near miss, before anything runs.
    """
    studies = [file.stem for file in study_files(root)]
    content, files = _extended(name, root / "workflow" / "studies")
    spec = parse(Study, content, files[0])
    lineage = [file.stem for file in files]
    study = resolve(name, spec, load_ablations(lineage, studies, spec, root / "ablations"), files[0])
    return replace(study, files=files)


def _extended(name: str, folder: Path, seen: tuple[str, ...] = ()) -> tuple[Any, tuple[Path, ...]]:
    """A study's content merged into that of the study it ``extends``, and the files it comes from, its own first."""
    file = _named(name, "study", folder)
    content = load_yaml(file)
    if not isinstance(content, dict) or "extends" not in content:
        return content, (file,)
    other = str(content.pop("extends"))
    if other in (*seen, name):
        raise UserError(f"{file}: extends leads back to {other}: a study cannot extend itself")
    inherited, files = _extended(other, folder, (*seen, name))
    return merge(inherited, content), (file, *files)


def load_ablations(lineage: list[str], studies: list[str], spec: Study, folder: Path) -> dict[str, Ablation]:
    """The ablation files that a study lists; ``all`` means every file that is not restricted to other ``studies``.

    ``lineage`` names the study and those that it extends, whose own ablations it may list too.
    """
    everything = spec.ablations == ["all"]
    allowed = set(lineage[:1] if everything else lineage)
    loaded = {}
    for name in sorted(file.stem for file in folder.glob("*.yaml")) if everything else spec.ablations:
        file = _named(name, "ablation", folder)
        ablation = parse(Ablation, load_yaml(file), file)
        for other in ablation.studies or ():
            if other not in studies:
                raise UserError(f"{file}: studies names the unknown study {other}{near_miss(other, studies)}")
        if ablation.studies is None or allowed & set(ablation.studies):
            loaded[name] = ablation
        elif not everything:
            raise UserError(f"{file} is meant for the studies {', '.join(ablation.studies)}, but {lineage[0]} lists it")
    return loaded


def _named(name: str, what: str, folder: Path) -> Path:
    """The file of a study or ablation. Its name is checked because it becomes part of paths and shell commands."""
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if name not in known:
        hint = f"{near_miss(name, known)}: known are {', '.join(known)}"
        raise UserError(f"there is no {what} {name} in {folder}{hint}")
    if not re.fullmatch(NAME, name):
        raise UserError(f"{folder}/{name}.yaml: a name consists of letters, digits, - and _ only: rename the file")
    return folder / f"{name}.yaml"


def resolve(name: str, spec: Study, ablations: dict[str, Ablation], where: Path) -> ResolvedStudy:
    """Resolve a parsed study; ``where`` is only named in errors."""
    try:
        resolve_metrics(spec.metrics)
        for dataset in spec.all_datasets():
            for download in dataset.fetch:
                registry.get(download)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    if REFERENCE in spec.methods:
        raise UserError(f"{where}: methods names {REFERENCE}, which is the study's method: choose another name")
    study = ResolvedStudy(name, spec, ablations, methods := {})
    main = study.table1_datasets()
    resolver = _Resolver(study, where)
    methods[REFERENCE] = resolver.method(REFERENCE, Variant(label=spec.method.label), main)
    for key, baseline in spec.methods.items():
        methods[key] = _baseline(key, baseline, where, study)
    for ablation_name, ablation in ablations.items():
        file = where.parents[2] / "ablations" / f"{ablation_name}.yaml"
        _check_datasets(ablation.datasets, spec, file)
        datasets = study.ablation_datasets(ablation_name)
        for variant_name, variant in ablation.variants.items():
            if variant.frames is not None:
                frames = Path(str(variant.frames).replace("{study}", name))
                variant = variant.model_copy(update={"frames": frames})
            full = f"{ablation_name}.{variant_name}"
            used_on = tuple(dict.fromkeys((*datasets, *main))) if full in spec.table1 else datasets
            methods[full] = resolver.method(full, variant, used_on, f"{file}, variant {variant_name}")
    shown = [(where, "table1", name) for name in spec.table1]
    shown += [
        (where.parents[2] / "ablations" / f"{key}.yaml", "also", n) for key, a in ablations.items() for n in a.also
    ]
    for file, key, method_name in shown:
        if method_name not in methods:
            raise UserError(f"{file}: {key} names the unknown method {method_name}{near_miss(method_name, methods)}")
    _check_labels(study.table1(), f"{where}: table1")
    for key in ablations:
        _check_labels(study.ablation_methods(key).values(), str(where.parents[2] / "ablations" / f"{key}.yaml"))
    statements(study, where)
    return study


def _check_labels(methods: Iterable[Method], at: str) -> None:
    """Labels tell the rows of a table apart, also in figures and findings."""
    known: dict[str, Method] = {}
    for method in methods:
        other = known.setdefault(method.label, method)
        if other.digest != method.digest:
            raise UserError(f"{at}: {other.name} and {method.name} are both called '{method.label}': rename one")


def _baseline(name: str, baseline: Baseline, where: Path, study: ResolvedStudy) -> Method:
    at, datasets = f"{where}: method {name}", study.table1_datasets()
    if isinstance(baseline.kind, dict):
        if unknown := [dataset for dataset in baseline.kind if dataset not in study.spec.datasets]:
            raise UserError(f"{at} names the data set {unknown[0]}{near_miss(unknown[0], study.spec.datasets)}")
        return _by_dataset(name, baseline, baseline.kind, at, datasets)
    if (baseline.kind == "frames") != (baseline.frames is not None):
        raise UserError(f"{at} wants either a frames folder or one of the kinds command, {', '.join(BASELINES)}")
    if (baseline.kind == "command") != (baseline.command is not None):
        raise UserError(f"{at}: `kind: command` and `command:` belong together")
    if baseline.command is None:
        if extra := {"workdir", "env", "per", "resources"} & baseline.model_fields_set:
            raise UserError(f"{at}: {sorted(extra)[0]} belongs to `kind: command`: leave it out")
        return _method(name, baseline.label, baseline.kind, datasets, frames=baseline.frames)
    return _method(name, baseline.label, "command", datasets, command=_command(baseline, baseline.command, at))


def _by_dataset(name: str, baseline: Baseline, kinds: dict[str, str], at: str, datasets: tuple[str, ...]) -> Method:
    """A baseline with a kind for each data set; it has no row where it names none."""
    if own := {"frames", "command"} & set(kinds.values()):
        raise UserError(f"{at}: a kind by data set names baselines, not {sorted(own)[0]}: make two methods of it")
    here = tuple(dataset for dataset in datasets if dataset in kinds)
    if not here:
        raise UserError(f"{at}: its kind names none of Table 1's data sets: name one of {', '.join(datasets)}")
    forms: dict[str, tuple[Method, ...]] = {d: (_method(name, baseline.label, kinds[d], here),) for d in here}
    return replace(forms[here[0]][0], forms=forms)


def _command(baseline: Baseline, text: str, at: str) -> Command:
    """The command of a baseline. Raises :class:`UserError` where a placeholder is missing or quotes do not match."""
    for place in PLACES:
        if place not in text:
            raise UserError(f"{at}: its command lacks {place}, which is replaced by a folder")
    try:
        shlex.split(text)
    except ValueError as error:
        raise UserError(f"{at}: its command is no shell command ({str(error).lower()})") from error
    resources = tuple(baseline.resources.model_dump(exclude_none=True).items())
    return Command(text, baseline.workdir, tuple(sorted(baseline.env.items())), baseline.per == "shard", resources)


def _method(name: str, label: str, kind: str, datasets: tuple[str, ...], **settings: Any) -> Method:
    """A method with the fingerprint of its code and its digest."""
    method = Method(name, label, kind, "", datasets=datasets, code=sampling_code(kind), **settings)
    model = method.base.identity if method.base else ""
    return replace(method, digest=digest({"model": model, **method.identity()}))


class _Resolver:
    """Resolves the variants of one study; ``at`` is the place named in errors."""

    def __init__(self, study: ResolvedStudy, where: Path) -> None:
        self.study, self.spec, self.where = study, study.spec, str(where)
        spec = study.spec
        self.start = DatasetModel(name=spec.model, checkpoint=spec.method.checkpoint)
        self.starts = {name: dataset.model for name, dataset in spec.datasets.items() if dataset.model is not None}
        for at, start in {
            self.where: self.start,
            **{f"{where}, dataset {k}": v for k, v in self.starts.items()},
        }.items():
            _check_model_tcm(self.base(start.name, at), start.checkpoint, at)

    def base(self, model: str, at: str, run: int = 0) -> Base:
        """A base model by name; one under ``finetuned`` with the training of its UNet."""
        if model not in self.spec.finetuned:
            return Base(model)
        entry, at = self.spec.finetuned[model], f"{at}, finetuned {model}"
        if entry.base in self.spec.finetuned:
            raise UserError(f"{at} starts from {entry.base}, which is fine-tuned itself")
        return Base(model, self.training("unet", entry.training, Base(entry.base), at, run))

    def training(self, kind: str, settings: Optimisation, base: Base, at: str, run: int) -> TrainingRun:
        """A training on a training set of the study; every run of the study adds its number to the seed."""
        known, processes = self.spec.training_datasets, self.spec.training_processes
        if settings.dataset not in known:
            hint = near_miss(settings.dataset, known)
            raise UserError(f"{at}: unknown training dataset {settings.dataset}{hint}")
        if settings.batch % processes:
            raise UserError(f"{at}: a batch of {settings.batch} cannot be shared by {processes} training_processes")
        if base.training and isinstance(settings, Training) and settings.start == "model":
            raise UserError(f"{at}: {base.name} is fine-tuned here and has no TCM to start from: give start: unet")
        seeded = settings.model_copy(update={"seed": settings.seed + run})
        return TrainingRun.of(kind, seeded, known[settings.dataset], base)

    def method(self, name: str, variant: Variant, datasets: tuple[str, ...], at: str = "") -> Method:
        """A method of the study, with its form on each dataset in each run."""
        at = at or self.where
        if variant.frames is not None:
            if extra := {"guidance", "sampling", "training", "model", "checkpoint"} & variant.model_fields_set:
                raise UserError(f"{at}: {sorted(extra)[0]} has no effect on frames that are there: leave it out")
            return _method(name, variant.label, "frames", datasets, frames=variant.frames)

        def form(start: DatasetModel, run: int) -> Method:
            return self.form(name, variant, datasets, start, at, run)

        forms = {d: tuple(form(self.starts.get(d, self.start), k) for k in range(self.study.runs(d))) for d in datasets}
        return replace(form(self.start, 0), forms=forms)

    def form(
        self, name: str, variant: Variant, datasets: tuple[str, ...], start: DatasetModel, at: str, run: int
    ) -> Method:
        """A method that starts from the model and TCM of ``start``, in one run."""
        if variant.checkpoint and variant.training:
            raise UserError(f"{at}: a TCM from checkpoint is not trained: leave out checkpoint or training")
        guidance, sampling, training = self.settings(variant, start, at)
        single = not is_guided(sampling.strategy)
        base = self.base(variant.model or start.name, at, run)
        retrained = variant.training or variant.model or self.retrains(variant)
        checkpoint = None if single else variant.checkpoint or (None if retrained else start.checkpoint)
        _check_model_tcm(base, checkpoint, at)
        small = sampling.guidance_decoder == "small"
        return _method(
            name,
            variant.label,
            "stablevsr",
            datasets,
            run=run,
            guidance=None if single else guidance,
            sampling=sampling,
            base=base,
            training=None if single or checkpoint else self.training("tcm", training, base, at, run),
            decoder=self.training("decoder", self.distillation(training, at), base, at, run) if small else None,
            checkpoint=checkpoint,
        )

    def settings(self, variant: Variant, start: DatasetModel, at: str) -> tuple[Guidance, Sampling, Training]:
        """The settings of a variant merged into the reference's; settings without effect get their defaults."""
        reference = self.spec.method
        guidance = parse(Guidance, merge(reference.guidance.model_dump(), variant.guidance), f"{at}, guidance")
        sampling = parse(Sampling, merge(reference.sampling.model_dump(), variant.sampling), f"{at}, sampling")
        plain = reference.training.model_dump()
        trained = guidance if self.retrains(variant) else reference.training.guidance or reference.guidance
        plain["guidance"] = trained.model_dump()
        training = parse(Training, merge(merge(plain, start.training), variant.training), f"{at}, training")
        assert training.guidance is not None
        training = training.model_copy(update={"guidance": _canonical(training.guidance, training)})
        if sampling.guidance_decoder == "small" and guidance.source == "xt":
            raise UserError(f"{at}: the small decoder learns clean latents (x0) and cannot decode noisy ones (xt)")
        if not is_guided(sampling.strategy):  # nothing to guide
            sampling = sampling.model_copy(update={"guide_every": 1, "guide_from": 0.0})
        if not is_guided(sampling.strategy) or guidance.source == "none":  # nothing to decode
            sampling = sampling.model_copy(update={"guidance_decoder": "vae"})
        return _canonical(guidance, training), sampling, training

    def retrains(self, variant: Variant) -> bool:
        """Whether a variant's guidance also trains a TCM."""
        return self.spec.retrain_guidance and bool(variant.guidance)

    def distillation(self, training: Training, at: str) -> Optimisation:
        """The settings of a small decoder, which learns on the data of the TCM."""
        ignored = {"dataset", "gradient_checkpointing"} & self.spec.distillation.model_fields_set
        if ignored:
            raise UserError(f"{at}: distillation takes no {ignored.pop()} (it learns on the TCM's data): leave it out")
        return self.spec.distillation.model_copy(update={"dataset": training.dataset})


def _check_model_tcm(base: Base, checkpoint: Path | None, at: str) -> None:
    if base.training and checkpoint == MODEL_TCM:
        raise UserError(f"{at}: the fine-tuned model {base.name} has no TCM: leave out `checkpoint: model`")


def _canonical(guidance: Guidance, training: Training) -> Guidance:
    """The guidance with settings without effect at their defaults: a blank image is not warped, for example.

    The flow keeps its effect where the training's target moves, whatever the TCM is shown.
    """
    if guidance.flow != "raft":
        guidance = guidance.model_copy(update={"raft_norm": Guidance().raft_norm})
    if guidance.needs_flow:
        return guidance
    kept = {"source"} if guidance.source == "none" else {"source", "motion_compensation"}
    if training.temporal_weight > 0:
        kept |= {"flow", "raft_norm"}
    return Guidance(**guidance.model_dump(include=kept))


def _check_datasets(wanted: list[str] | None, spec: Study, where: Path) -> None:
    for name in wanted or ():
        if name not in spec.datasets:
            raise UserError(f"{where}: unknown dataset {name}{near_miss(name, spec.datasets)}")
