"""What a study needs from the network, as names of the registry (:mod:`stablevsr.data.downloads.registry`)."""

from __future__ import annotations

from stablevsr.baselines import BASELINES
from stablevsr.data.downloads import registry
from stablevsr.method.settings import Guidance
from stablevsr.study.files import Study
from stablevsr.study.methods import ResolvedStudy


def model_download(model: str) -> list[str]:
    """The name of a hub model; none for the embedded model and for folders."""
    return [
        name
        for name, row in registry.load().items()
        if isinstance(row.destination, registry.Hub) and row.destination.repo == model
    ]


def metric_weights(spec: Study) -> list[str]:
    """The weights of a study's metrics; none where it leaves out metrics without weights."""
    from stablevsr.metrics.registry import METRICS

    if spec.weights == "skip":
        return []
    return list(dict.fromkeys(name for metric in spec.metrics for name in METRICS[metric].needs))


def flow_weights(guidance: Guidance | None) -> list[str]:
    """The weights of the flow estimator that a guidance uses, if any."""
    return ["raft"] if guidance is not None and guidance.needs_flow and guidance.flow == "raft" else []


def baseline_weights(kind: str) -> list[str]:
    """The weights of a baseline, if any."""
    return list(BASELINES[kind].weights) if kind in BASELINES else []


def all_downloads(study: ResolvedStudy) -> list[str]:
    """Everything, each once: datasets, model, weights."""
    spec = study.spec
    names = [name for dataset in (*spec.datasets.values(), *spec.training_datasets.values()) for name in dataset.fetch]
    names += metric_weights(spec)
    for method in study.forms():
        names += model_download(method.base.origin) if method.base else []
        names += [*flow_weights(method.guidance), *baseline_weights(method.kind)]
    return list(dict.fromkeys(names))
