"""``stablevsr upscale``: videos and folders of frames, of any length, resumable; see :mod:`stablevsr.upscale.run`."""

from stablevsr.upscale.options import UpscaleOptions
from stablevsr.upscale.run import upscale

__all__ = ["UpscaleOptions", "upscale"]
