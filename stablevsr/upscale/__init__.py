"""``stablevsr upscale``: videos and folders of frames, of any length, resumable; see :mod:`stablevsr.upscale.run`."""

from stablevsr.upscale.run import UpscaleOptions, upscale

__all__ = ["UpscaleOptions", "upscale"]
