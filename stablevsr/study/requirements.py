"""What a study needs but does not make: downloads, by their names in the registry, and external inputs.

External inputs are frames, TCMs and base models in folders that a study names. They must be there before any job.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stablevsr.baselines.command import missing_workdir
from stablevsr.data.downloads import registry
from stablevsr.data.downloads.weights import location
from stablevsr.method.model_folder import tcm_folder
from stablevsr.metrics.registry import METRICS, missing_package, resolve
from stablevsr.runtime.errors import UserError, near_miss
from stablevsr.study.files import Study
from stablevsr.study.methods import Base, Method, ResolvedStudy
from stablevsr.study.weights import baseline_weights, flow_weights, is_fixed, model_download, training_weights


def metric_weights(spec: Study) -> list[str]:
    """The weights of a study's metrics that the workflow fetches."""
    needed = dict.fromkeys(name for metric in spec.metrics for name in METRICS[metric].needs)
    return [name for name in needed if spec.weights == "require" or registry.get(name).source]


def left_empty(spec: Study) -> list[str]:
    """Metrics whose columns stay empty: a package is missing, or weights that the workflow does not fetch."""
    fetched = metric_weights(spec)
    return [
        metric.name
        for metric in (METRICS[name] for name in spec.metrics)
        if missing_package(metric) or not all(name in fetched or location(name).is_file() for name in metric.needs)
    ]


def check_packages(spec: Study) -> None:
    """Raise :class:`UserError` if a metric that the study must score needs a package that is not installed."""
    if spec.weights == "require":
        for metric in resolve(spec.metrics):
            if fault := missing_package(metric):
                raise UserError(f"metric {metric.name}: {fault}")


def all_downloads(study: ResolvedStudy) -> list[str]:
    """Datasets, models and weights that the workflow fetches, each once."""
    names = [name for dataset in study.datasets_in_use() for name in dataset.fetch] + metric_weights(study.spec)
    for method in study.forms():
        names += model_download(method.base.origin) if method.base else []
        names += [*flow_weights(method.guidance), *baseline_weights(method.kind)]
    for run in study.trainings().values():
        names += training_weights(run.settings)
    return list(dict.fromkeys(names))


def made_by_rules(folder: Path) -> bool:
    """Whether an ablation's rules make a folder (they write below ``work/external/``) instead of a person."""
    return folder.parts[:2] == ("work", "external")


def check_external(study: ResolvedStudy, root: Path = Path()) -> None:
    """Raise :class:`UserError` with the first sentence of :func:`absent`, if there is one."""
    for fault in absent(study, root):
        raise UserError(fault)


def absent(study: ResolvedStudy, root: Path) -> list[str]:
    """A sentence for each external input that is not there below ``root``, naming the first method that uses it."""
    faults: dict[str, str] = {}
    for method in study.methods.values():
        for dataset in method.datasets:
            for place, fault in _absent(method.on(dataset), dataset, study, root):
                faults.setdefault(place, fault)
    return list(faults.values())


def _absent(method: Method, dataset: str, study: ResolvedStudy, root: Path) -> Iterator[tuple[str, str]]:
    """The absent inputs of one method on a dataset: the place, and the sentence."""
    if method.frames is not None:
        folder = method.frames_of(dataset)
        if not made_by_rules(folder) and not (root / folder).is_dir():
            yield str(folder), f"the frames of method {method.name} on {dataset} are not in {folder}: put them there"
    if method.command is not None and (workdir := method.command.workdir) and not (root / workdir).is_dir():
        yield str(workdir), missing_workdir(workdir, method.name)
    if method.external_tcm:
        folder = tcm_folder(root / method.external_tcm)
        if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
            fault = "it is no folder with a TCM (config.json and safetensors)"
            yield str(method.external_tcm), f"checkpoint {method.external_tcm} of method {method.name}: {fault}"
    if method.base is not None and (fault := _model_fault(method.base, study, root)):
        yield method.base.name, fault


def _model_fault(base: Base, study: ResolvedStudy, root: Path) -> str:
    """What is wrong with a base model's name; empty for ``tiny``, a folder that is there and a fixed hub id."""
    model = base.origin
    if model == "tiny" or (model and (root / model).is_dir()):
        return ""
    of = f" (base of {base.name})" if base.training else ""
    if registry.is_hub_id(model):
        fix = f"name a commit, {model.partition('@')[0]}@COMMIT with all its 40 digits"
        return "" if is_fixed(model) else f"model '{model}'{of} may change on the hub during a study: {fix}"
    hint = near_miss(model, ["tiny", *study.spec.finetuned])
    return f"model '{model}'{of} is no folder, no hub id (owner/name), not tiny and not among finetuned{hint}"
