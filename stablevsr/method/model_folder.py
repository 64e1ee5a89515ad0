"""Model folders in the layout of the hub: finding one, and checking it before anything is loaded.

A folder holds ``unet/``, ``vae/``, ``controlnet/`` (the TCM), ``text_encoder/``, ``tokenizer/`` and ``scheduler/``,
with weights as safetensors, and ``model_index.json``. Nothing here imports torch, so errors come at once.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from stablevsr.data.downloads import registry
from stablevsr.method.settings import Flow, Grid, Guidance
from stablevsr.runtime.errors import UserError, near_miss
from stablevsr.runtime.parsing import parse

TINY = Path(__file__).parents[1] / "assets" / "tiny"  #: the model embedded in this package
#: What every frame and every training depends on; the TCM may be another one than the model's.
FROZEN_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
PARTS = (*FROZEN_PARTS, "controlnet")


def find_model(model: str | Path, revision: str | None = None) -> Path:
    """The local folder of ``model``: ``tiny``, a folder, or a hub id (downloaded once, then taken from the cache).

    ``owner/name@revision`` names a commit, branch or tag of the hub's repository, as ``revision`` does.
    Raises :class:`UserError` if there is no such folder or the hub cannot be reached.
    """
    if not isinstance(model, str | Path) or not str(model):
        raise UserError(f"the model is {model!r}: give a hub id, a folder or `tiny`")
    path = TINY if str(model) == "tiny" else Path(model)
    if path.is_dir():
        if revision:
            raise UserError(f"revision {revision} has no effect on {model}, which is no hub id: leave it out")
        return path
    if not registry.is_hub_id(str(model)):
        raise UserError(f"there is no model folder {model}{near_miss(str(model), ['tiny'])}")
    from stablevsr.data.downloads.hub import model_folder

    repo, _, named = str(model).partition("@")
    try:
        return model_folder(repo, revision or named or None)
    except UserError as error:
        raise UserError(f"{error}; or take the embedded model, `tiny`") from error


def check_model(folder: Path, without: Collection[str] = ()) -> None:
    """Raise :class:`UserError` that names the first part, except those in ``without``, that a model folder lacks."""
    for part in (part for part in PARTS if part not in without):
        if not (folder / part).is_dir():
            raise UserError(f"model folder {folder} lacks {part}/: it must hold {', '.join(PARTS)}")
        if part not in ("tokenizer", "scheduler"):
            check_weights(folder / part)


def check_weights(folder: Path) -> None:
    """Raise :class:`UserError` unless ``folder`` holds a configuration and safetensors weights."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json: it is not a diffusers model folder")
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{folder} has no .safetensors weights (pickled weights are not loaded)")


def tcm_folder(folder: str | Path) -> Path:
    """The TCM that ``folder`` is, or holds as ``controlnet/``, as models and the released training do."""
    inner = Path(folder) / "controlnet"
    return inner if inner.is_dir() and not (Path(folder) / "config.json").exists() else Path(folder)


def default_guidance(folder: Path, flow: Flow | None = None, warp: Grid | None = None) -> Guidance:
    """The guidance with ``flow`` and ``warp``; None takes what the model stores in its ``model_index.json``.

    A model that stores none, as the released one, gets RAFT and the published grid. Raises :class:`UserError`.
    """
    index = model_index(folder)
    stored = {name: index[name] for name in ("flow", "warp") if name in index}
    defaults = parse(Guidance, stored, folder / "model_index.json")
    return parse(Guidance, {"flow": flow or defaults.flow, "warp": warp or defaults.warp}, "guidance")


def model_index(folder: Path) -> dict[str, Any]:
    """The content of a folder's ``model_index.json``, empty if there is none. Raises :class:`UserError` if damaged."""
    file = folder / "model_index.json"
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
    except (ValueError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}): copy the model folder again") from error
