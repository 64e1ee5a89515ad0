"""Inference of one shard of a dataset: LR frames in, frames and a manifest out, resumable sequence by sequence."""

from stablevsr.study.inference.run import infer
from stablevsr.study.inference.shards import Shard
from stablevsr.study.inference.upscalers import NetworkPaths, Pipelines

__all__ = ["NetworkPaths", "Pipelines", "Shard", "infer"]
