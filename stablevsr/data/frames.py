"""Frames on disk: the files of a sequence in order, reading them as 8-bit RGB, and writing them atomically as PNG."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import atomic_file

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
Frame = NDArray[np.uint8]  #: (H, W, 3), RGB


def natural_key(path: Path) -> tuple[object, ...]:
    """Sort key by which im2 comes before im10: runs of digits are compared as numbers, then the whole name."""
    parts = re.split(r"(\d+)", path.stem)
    return (*((1, int(p)) if p.isdigit() else (0, p) for p in parts), path.name)


def list_frames(folder: Path) -> list[Path]:
    """The image files directly in ``folder``, in natural order, without hidden files."""
    files = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(files, key=natural_key)


def read_frame(path: Path) -> Frame:
    """Read one image as uint8 RGB (H, W, 3).

    Grey images are repeated over the channels, a fully opaque alpha channel is dropped, 16-bit images are scaled to
    8 bits. Raises :class:`UserError` that names the file if it is missing, truncated, no image, or transparent.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return _as_rgb8(image, path)
    except FileNotFoundError as error:
        raise UserError(f"frame {path} is missing: restore it, or remove the sequence") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"frame {path} cannot be read ({error}): the file is damaged, replace it") from error


def _as_rgb8(image: Image.Image, path: Path) -> Frame:
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.float64)
        levels = np.clip(np.rint(grey / 257.0), 0, 255).astype(np.uint8)
        return np.repeat(levels[..., None], 3, axis=2)
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"))
        if int(rgba[..., 3].min()) < 255:
            raise UserError(f"frame {path} has transparent pixels: flatten it onto a background first")
        return np.ascontiguousarray(rgba[..., :3])
    return np.asarray(image.convert("RGB"))


def write_frame(path: Path, frame: Frame) -> None:
    """Write uint8 RGB (H, W, 3) as PNG, atomically. Raises OSError if the disk is full."""
    with atomic_file(path) as stream:
        Image.fromarray(frame).save(stream, format="PNG", compress_level=3)
