"""The mini data: short real clips for training, validation and two test sets, made from files of Python packages."""

from __future__ import annotations

from stablevsr.data.mini.build import build as build
from stablevsr.data.mini.build import build_stills as build_stills
