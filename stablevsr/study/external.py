"""External inputs of a study: frames, TCMs and base models that it does not make. They must be there before any job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stablevsr.data.downloads.registry import is_hub_id
from stablevsr.runtime.errors import UserError, near_miss
from stablevsr.study.methods import Base, Method, ResolvedStudy


def made_by_rules(folder: Path) -> bool:
    """Whether an ablation's own rules make a folder (they write below ``work/external/``) instead of a person."""
    return folder.parts[:2] == ("work", "external")


def check_external(study: ResolvedStudy, root: Path = Path()) -> None:
    """Raise :class:`UserError` with the first fault that :func:`absent` finds below ``root``."""
    for fault in absent(study, root):
        raise UserError(fault)


def absent(study: ResolvedStudy, root: Path) -> list[str]:
    """A sentence for every external input that is not there, with the first method that wants it."""
    faults: dict[str, str] = {}
    for method in study.methods.values():
        for dataset in method.datasets:
            for place, fault in _absent(method.on(dataset), dataset, study, root):
                faults.setdefault(place, fault)
    return list(faults.values())


def _absent(method: Method, dataset: str, study: ResolvedStudy, root: Path) -> Iterator[tuple[str, str]]:
    """The places of one method's inputs that are not there, and what is wrong with each."""
    if method.frames is not None:
        folder = method.frames_of(dataset)
        if not made_by_rules(folder) and not (root / folder).is_dir():
            yield str(folder), f"the frames of method {method.name} on {dataset} are not in {folder}: put them there"
    if method.checkpoint and not method.takes_model_tcm:
        folder = root / method.checkpoint
        if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
            holds = "it is no folder with a TCM (config.json and safetensors)"
            yield str(method.checkpoint), f"checkpoint {method.checkpoint} of method {method.name}: {holds}"
    if method.base is not None and (fault := _model_fault(method.base, study, root)):
        yield method.base.name, fault


def _model_fault(base: Base, study: ResolvedStudy, root: Path) -> str:
    """What is wrong with the name of a base model; empty if it is ``tiny``, a folder or of the form of a hub id."""
    model = base.origin
    if model == "tiny" or is_hub_id(model) or (model and (root / model).is_dir()):
        return ""
    of = f" (base of {base.name})" if base.training else ""
    hint = near_miss(model, ["tiny", *study.spec.finetuned])
    return f"model '{model}'{of} is no folder, no hub id (owner/name), not tiny and not among finetuned{hint}"
