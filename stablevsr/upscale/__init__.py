"""``stablevsr upscale``: clips, folders and videos of any length, resumable; see :mod:`stablevsr.upscale.run`."""

from stablevsr.upscale.run import UpscaleOptions, upscale

__all__ = ["UpscaleOptions", "upscale"]
