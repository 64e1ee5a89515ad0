"""What a study takes instead of making it: folders of frames and of TCMs. A wrong place is said before any job runs."""

from __future__ import annotations

from pathlib import Path

from stablevsr.errors import UserError
from stablevsr.study.methods import MODELS_OWN, Method, ResolvedStudy


def made_by_rules(folder: Path) -> bool:
    """Whether an ablation's own rules make a folder (they write below ``work/``) instead of a person."""
    return folder.parts[:1] == ("work",)


def check_given(study: ResolvedStudy) -> None:
    """Raise :class:`UserError` that names the first method whose given folder is not there."""
    for method in study.methods.values():
        for dataset in method.datasets:
            _check(method.on(dataset), dataset)


def _check(method: Method, dataset: str) -> None:
    if method.frames is not None:
        folder = method.frames_of(dataset)
        if not made_by_rules(folder) and not folder.is_dir():
            raise UserError(f"method {method.name}: its frames of {dataset} should be in {folder}, which is no folder")
    checkpoint = method.checkpoint
    if checkpoint not in (None, MODELS_OWN) and not (checkpoint / "config.json").is_file():
        raise UserError(f"method {method.name}: checkpoint {checkpoint} is no folder with a TCM (config.json)")
