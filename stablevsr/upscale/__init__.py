"""``stablevsr upscale``: clips, folders and videos of any length, resumable; see :mod:`stablevsr.upscale.job`."""

from stablevsr.upscale.job import UpscaleOptions, upscale

__all__ = ["UpscaleOptions", "upscale"]
