"""StableVSR, reproduced: diffusion video super-resolution (x4) with temporally consistent detail.

Rota, Buzzelli and van de Weijer, ECCV 2024 (arXiv 2311.15908). The public name is :class:`StableVSRPipeline`; it is
imported on first use, because importing torch and diffusers takes seconds and most commands do not need them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stablevsr.method.pipeline import StableVSRPipeline

__version__ = "0.1.0"
__all__ = ["StableVSRPipeline", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "StableVSRPipeline":
        from stablevsr.method.pipeline import StableVSRPipeline

        return StableVSRPipeline
    raise AttributeError(f"module 'stablevsr' has no attribute {name!r}")
