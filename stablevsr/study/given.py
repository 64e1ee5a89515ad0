"""What a study takes instead of making it: folders of frames and of TCMs. A wrong place is said before any job runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stablevsr.errors import UserError
from stablevsr.study.methods import MODELS_OWN, Method, ResolvedStudy


def made_by_rules(folder: Path) -> bool:
    """Whether an ablation's own rules make a folder (they write below ``work/``) instead of a person."""
    return folder.parts[:1] == ("work",)


def check_given(study: ResolvedStudy) -> None:
    """Raise :class:`UserError` for the first thing that :func:`absent` finds."""
    for what, fix in absent(study):
        raise UserError(f"{what} are not there: {fix}")


def absent(study: ResolvedStudy) -> Iterator[tuple[str, str]]:
    """What methods bring that is not where they say: what it is, and the fix."""
    for method in study.methods.values():
        for dataset in method.datasets:
            yield from _absent(method.on(dataset), dataset)


def _absent(method: Method, dataset: str) -> Iterator[tuple[str, str]]:
    if method.frames is not None:
        folder = method.frames_of(dataset)
        if not made_by_rules(folder) and not folder.is_dir():
            yield f"method {method.name}'s frames of {dataset}", f"put them into {folder}, or mend that path"
    checkpoint = method.checkpoint
    if checkpoint not in (None, MODELS_OWN) and not (checkpoint / "config.json").is_file():
        yield f"method {method.name}'s weights", f"{checkpoint} is no folder of a TCM with a config.json"
