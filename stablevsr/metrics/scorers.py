"""From metric names to numbers: each scorer computes one family of metrics for a chunk of frames and all methods.

A family shares what its metrics have in common (conversions, features, flows); what depends on the ground truth alone
is computed once for all methods of a run and, through the cache, for all runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stablevsr.data.downloads import weights
from stablevsr.method.flow import DISFlow
from stablevsr.metrics.cache import PairCache
from stablevsr.metrics.chunks import Chunk
from stablevsr.metrics.fidelity import FIDELITY, fidelity
from stablevsr.metrics.perceptual import DISTSDistance, LPIPSDistance, load_iqa
from stablevsr.metrics.registry import METRICS
from stablevsr.metrics.temporal import backward_flow, flow_difference, visible_pixels, warping_error

Values = NDArray[np.float64]  #: (methods, frames), nan where undefined
FindWeights = Callable[[str], Path]  #: from a name in the registry of downloads to the file
IQA = ("musiq", "clipiqa", "niqe")


class Scorer(Protocol):
    """Computes some metrics of a chunk, in the registry's units."""

    def __call__(self, chunk: Chunk) -> dict[str, Values]: ...


def build_scorers(
    names: Sequence[str], cache: PairCache, device: torch.device, find: FindWeights = weights.weight_file
) -> list[Scorer]:
    """The scorers for these metrics, networks loaded from the files that ``find`` names (default: verified ones).

    Raises :class:`stablevsr.runtime.errors.UserError` for a missing or damaged weight file.
    """
    chosen = set(names)
    scorers: list[Scorer] = []
    if chosen & set(FIDELITY):
        scorers.append(FidelityScorer(tuple(n for n in FIDELITY if n in chosen)))
    if chosen & {"lpips", "tlp"}:
        scorers.append(LPIPSScorer(chosen, cache, device, find))
    if "dists" in chosen:
        scorers.append(DISTSScorer(device, find))
    scorers += [IQAScorer(name, device, find) for name in IQA if name in chosen]
    if chosen & {"tof_dis", "warp_error"}:
        scorers.append(DISScorer(chosen, cache, device))
    if chosen & {"tof", "tof_raft_std"}:
        scorers.append(RAFTScorer(chosen, cache, device, find))
    return scorers


class FidelityScorer:
    """PSNR, SSIM (RGB and luma) and sharpness: on the CPU, as many frames at once as torch has threads."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def __call__(self, chunk: Chunk) -> dict[str, Values]:
        pairs = [(gt, sr) for output in chunk.outputs for gt, sr in zip(chunk.gt, output, strict=True)]
        shape = (len(chunk.outputs), len(chunk.gt))
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            rows = list(pool.map(lambda pair: fidelity(pair[0], pair[1], self.names), pairs))
        return {n: np.array([row[n] for row in rows]).reshape(shape)[:, chunk.lead :] for n in self.names}


class LPIPSScorer:
    """LPIPS and tLP from one pass of AlexNet a frame."""

    def __init__(self, chosen: set[str], cache: PairCache, device: torch.device, find: FindWeights) -> None:
        self.chosen, self.cache = chosen, cache
        self.network = LPIPSDistance(find("alexnet"), device)
        self.kind = _kind("lpips", "alexnet", device)

    def __call__(self, chunk: Chunk) -> dict[str, Values]:
        network, lead = self.network, chunk.lead
        moving = "tlp" in self.chosen and len(chunk.gt) > 1
        known = self.cache.peek(self.kind, chunk.pair_keys, chunk.device) if moving else None
        features = [] if "lpips" not in self.chosen and known is not None else network.features(chunk.gt_tensor)

        def change(levels: list[Tensor]) -> Tensor:
            return network.distance([level[1:] for level in levels], [level[:-1] for level in levels])

        if moving and known is None:
            known = self.cache.pairs(self.kind, chunk.pair_keys, lambda: change(features), chunk.device)
        distances, changes = [], []
        for output in chunk.output_tensors:
            levels = network.features(output)
            if "lpips" in self.chosen:
                distances.append(network.distance(features, levels)[lead:])
            if known is not None:
                changes.append((change(levels) - known).abs())
        values = {"lpips": _values("lpips", distances)} if "lpips" in self.chosen else {}
        return values | ({"tlp": _pair_values("tlp", changes, chunk)} if "tlp" in self.chosen else {})


class DISTSScorer:
    """DISTS, every method against the same features of the ground truth."""

    def __init__(self, device: torch.device, find: FindWeights) -> None:
        self.network = DISTSDistance(find("vgg16"), device)

    def __call__(self, chunk: Chunk) -> dict[str, Values]:
        outputs = [output[chunk.lead :] for output in chunk.output_tensors]
        return {"dists": _values("dists", self.network(chunk.gt_tensor[chunk.lead :], outputs))}


class IQAScorer:
    """One of pyiqa's metrics without reference."""

    def __init__(self, name: str, device: torch.device, find: FindWeights) -> None:
        self.name = name
        self.metric = load_iqa(name, find(METRICS[name].needs[0]), device)

    def __call__(self, chunk: Chunk) -> dict[str, Values]:
        return {self.name: _values(self.name, [self.metric(o[chunk.lead :]) for o in chunk.output_tensors])}


class DISScorer:
    """tOF by DIS and the warping error, which share the ground truth's flow."""

    def __init__(self, chosen: set[str], cache: PairCache, device: torch.device) -> None:
        self.chosen, self.cache = chosen, cache
        self.estimator = DISFlow()
        self.kind = f"dis-opencv{cv2.__version__}"

    def _flow(self, frames: Tensor) -> Tensor:
        return backward_flow(self.estimator, 2 * frames - 1)

    def __call__(self, chunk: Chunk) -> dict[str, Values]:
        if len(chunk.gt) == 1:
            return {name: _pair_values(name, [], chunk) for name in ("tof_dis", "warp_error") if name in self.chosen}
        frames, outputs = chunk.gt_tensor, chunk.output_tensors
        flow = self._pairs(self.kind, chunk, lambda: self._flow(frames))
        values = {}
        if "tof_dis" in self.chosen:
            gaps = [flow_difference(flow, self._flow(output)) for output in outputs]
            values["tof_dis"] = _pair_values("tof_dis", gaps, chunk)
        if "warp_error" in self.chosen:
            visible = self._pairs(
                f"{self.kind}-visible", chunk, lambda: visible_pixels(self.estimator, 2 * frames - 1, flow)
            )
            errors = [warping_error(output, flow, visible) for output in outputs]
            values["warp_error"] = _pair_values("warp_error", errors, chunk)
        return values

    def _pairs(self, kind: str, chunk: Chunk, compute: Callable[[], Tensor]) -> Tensor:
        return self.cache.pairs(kind, chunk.pair_keys, compute, chunk.device)


class RAFTScorer:
    """tOF by RAFT, fed [0, 1] (``tof``) or [-1, 1] (``tof_raft_std``)."""

    def __init__(self, chosen: set[str], cache: PairCache, device: torch.device, find: FindWeights) -> None:
        # Here, because torchvision takes seconds to import and the other metrics do without
        from stablevsr.metrics.raft import ConsecutiveRAFT

        self.names = [name for name in ("tof", "tof_raft_std") if name in chosen]
        self.cache = cache
        self.estimator = ConsecutiveRAFT(find("raft"), device)
        self.kind = _kind("raft", "raft", device)

    def __call__(self, chunk: Chunk) -> dict[str, Values]:
        return {name: self._score(name, chunk) for name in self.names}

    def _score(self, name: str, chunk: Chunk) -> Values:
        if len(chunk.gt) == 1:
            return _pair_values(name, [], chunk)

        def flow(frames: Tensor) -> Tensor:
            return self.estimator(frames if name == "tof" else 2 * frames - 1)

        gt = self.cache.pairs(f"{self.kind}-{name}", chunk.pair_keys, lambda: flow(chunk.gt_tensor), chunk.device)
        return _pair_values(name, [flow_difference(gt, flow(output)) for output in chunk.output_tensors], chunk)


def _kind(what: str, weight: str, device: torch.device) -> str:
    """Where results of a network are cached: devices and versions differ by rounding and are kept apart."""
    return f"{what}-{weights.published_hash(weight)[:8]}-{device.type}-torch{torch.__version__}"


def _values(name: str, rows: Iterable[Tensor]) -> Values:
    return np.stack([row.double().cpu().numpy() for row in rows]) * METRICS[name].scale


def _pair_values(name: str, rows: Sequence[Tensor], chunk: Chunk) -> Values:
    """Results of consecutive pairs as results of frames: nan on the first frame of a sequence."""
    values = np.full((len(chunk.outputs), len(chunk)), np.nan)
    if rows:
        values[:, 1 - chunk.lead :] = _values(name, rows)
    return values
