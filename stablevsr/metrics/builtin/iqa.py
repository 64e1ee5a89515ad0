"""MUSIQ, CLIP-IQA and NIQE of the output alone, by pyiqa (whose licence forbids commercial use) from local files."""

from __future__ import annotations

import importlib.util
import logging
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stablevsr.metrics.metric import ChunkScorer, Metric, chunk_metric

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stablevsr.metrics.tools import Tools


def load_iqa(name: str, file: Path, device: torch.device | str = "cpu") -> Callable[[Tensor], Tensor]:
    """pyiqa's musiq, clipiqa or niqe from a local weight file: a callable from (B, 3, H, W) in [0, 1] to (B,).

    CLIP's file is a TorchScript archive and is run as such, so load verified files only.
    """
    with warnings.catch_warnings(action="ignore"), _pkg_resources():
        import pyiqa
        import torch
        from pyiqa.archs.arch_util import clean_state_dict

        logging.getLogger("pyiqa").setLevel(logging.WARNING)
        options: dict[str, dict[str, Any]] = {
            "musiq": {"pretrained": False},
            "clipiqa": {"backbone": str(file)},
            "niqe": {"pretrained_model_path": str(file)},
        }
        metric = pyiqa.create_metric(name, device=device, **options[name])
        if name == "musiq":
            state = torch.load(file, map_location="cpu", weights_only=True)
            metric.net.load_state_dict(clean_state_dict(state))
    return lambda images: metric(images).flatten()


@contextmanager
def _pkg_resources() -> Iterator[None]:
    """openai-clip imports ``packaging`` through pkg_resources, which newer setuptools lacks: provide a stub."""
    absent = importlib.util.find_spec("pkg_resources") is None
    if absent:
        import packaging.version

        module: Any = types.ModuleType("pkg_resources")
        module.packaging = packaging
        sys.modules["pkg_resources"] = module
    try:
        yield
    finally:
        if absent:
            del sys.modules["pkg_resources"]


def _scorer(name: str, weight: str, tools: Tools) -> ChunkScorer:
    metric = load_iqa(name, tools.find(weight), tools.device)
    return lambda chunk: [metric(frames) for frames in chunk.output_frames]


@chunk_metric(Metric(
    "musiq", "MUSIQ", "perceptual", "higher", decimals=2, smallest=32, needs=("musiq",), package="pyiqa", extra="iqa",
    reference="none",
    convention="KonIQ-10k weights, multi-scale patches; the output alone, no reference.",
    source="Ke et al., ICCV 2021 (pyiqa, non-commercial licence)",
))  # fmt: skip
def musiq(tools: Tools) -> ChunkScorer:
    return _scorer("musiq", "musiq", tools)


@chunk_metric(Metric(
    "clipiqa", "CLIP-IQA", "perceptual", "higher", decimals=3, smallest=32, needs=("clip_rn50",), package="pyiqa",
    extra="iqa",
    reference="none",
    convention="CLIP RN50 without position embedding, mean over five prompt pairs; the output alone, no reference.",
    source="Wang et al., AAAI 2023 (pyiqa, non-commercial licence)",
))  # fmt: skip
def clipiqa(tools: Tools) -> ChunkScorer:
    return _scorer("clipiqa", "clip_rn50", tools)


@chunk_metric(Metric(
    "niqe", "NIQE", "perceptual", "lower", decimals=2, smallest=192, needs=("niqe",), package="pyiqa", extra="iqa",
    reference="none",
    convention="Luma of YIQ, blocks of 96 pixels, no border crop; the output alone, no reference.",
    source="Mittal et al., SPL 2013 (pyiqa, non-commercial licence)",
))  # fmt: skip
def niqe(tools: Tools) -> ChunkScorer:
    return _scorer("niqe", "niqe", tools)
