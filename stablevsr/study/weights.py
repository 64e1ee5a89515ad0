"""The downloads whose numbers enter frames: models of the hub, weights of flow estimators and of baselines.

Names are those of the registry. :func:`pins` gives what fixes their content, for digests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from stablevsr.baselines import BASELINES
from stablevsr.data.downloads import registry
from stablevsr.method.settings import Guidance, Optimisation, Training


def model_download(model: str) -> list[str]:
    """The registry's name of a hub model; none for the embedded model, for folders and for other hub models."""
    repo, _, revision = model.partition("@")
    return [
        name
        for name, row in registry.load().items()
        if isinstance(row.destination, registry.Hub) and row.destination.repo == repo and revision in ("", row.version)
    ]


def is_fixed(model: str) -> bool:
    """Whether a hub id always means the same files: it is in the registry, or names a commit."""
    return bool(model_download(model) or re.fullmatch("[0-9a-f]{40}", model.partition("@")[2]))


def model_to_fetch(model: str) -> list[str]:
    """What ``stablevsr fetch`` takes to get a model of the hub; nothing for the embedded model and for folders."""
    if not registry.is_hub_id(model) or Path(model).is_dir():
        return []
    return model_download(model) or [model]


def flow_weights(guidance: Guidance | None) -> list[str]:
    """The weights of the flow estimator that a guidance uses, if any."""
    return ["raft"] if guidance is not None and guidance.needs_flow and guidance.flow == "raft" else []


def training_weights(settings: Optimisation) -> list[str]:
    """The weights of the flow estimator that a training uses, if any."""
    if not isinstance(settings, Training) or not settings.needs_flow or settings.guidance is None:
        return []
    return ["raft"] if settings.guidance.flow == "raft" else []


def baseline_weights(kind: str) -> list[str]:
    """The weights of a baseline, if any."""
    return list(BASELINES[kind].weights) if kind in BASELINES else []


def pins(names: Iterable[str]) -> dict[str, str]:
    """By name, the published hash of a file, or else its version: the commit, for a model of the hub."""
    rows = {name: registry.get(name) for name in sorted(set(names))}
    return {name: row.sha256 or row.sha256_prefix or str(row.version) for name, row in rows.items()}
