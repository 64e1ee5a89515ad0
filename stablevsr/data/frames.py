"""Frames on disk: the files of a sequence in order, reading them as 8-bit RGB, and writing them atomically as PNG."""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import atomic_file

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
Frame = NDArray[np.uint8]  #: (H, W, 3), RGB
#: Folders that storage systems and archivers make: Synology, QNAP, macOS, Windows, ext4.
FOREIGN = ("@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "__macosx",
           "network trash folder", "temporary items", "$recycle.bin", "system volume information",
           "lost+found")  # fmt: skip
ORIENTATION = 0x0112  #: the EXIF tag
UNREAD = {"I": "32-bit integers", "F": "32-bit floats", "LAB": "CIELAB colours"}  #: by Pillow's mode
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  #: a TIFF tag, which Pillow heeds up to 8 bits only, and a value of it
SIXTEEN_BIT = ("PNG", "PPM")  #: formats whose grey images of Pillow's 32-bit mode hold 16 bits


def natural_key(path: Path) -> tuple[object, ...]:
    """Sort key by which im2 comes before im10: runs of digits are compared as numbers, then the whole name."""
    parts = re.split(r"(\d+)", path.stem)
    return tuple((1, int(p)) if p.isdecimal() else (0, p) for p in parts), path.name


def list_frames(folder: Path) -> list[Path]:
    """The image files directly in ``folder``, in natural order, without hidden files."""
    return [path for path in _entries(folder) if path.suffix.lower() in SUFFIXES and not path.is_dir()]


def list_sequences(folder: Path) -> list[Path]:
    """The folders directly in ``folder``, in natural order, without hidden ones and those of storage systems."""
    return [path for path in _entries(folder) if path.name.lower() not in FOREIGN and path.is_dir()]


def _entries(folder: Path) -> list[Path]:
    found = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=natural_key)
    for path in found:
        check_name(path)
    return found


def check_name(path: Path) -> None:
    """Raise :class:`UserError` if the last part of ``path`` is not UTF-8, so that no text file can hold it."""
    try:
        os.fsencode(path.name).decode()  # the bytes on disk, whatever the locale makes of them
    except UnicodeDecodeError as error:
        name = ascii(os.fsencode(path.name))[1:]
        raise UserError(f"the name {name} in {str(path.parent)!a} is not UTF-8: rename it") from error


def read_frame(path: Path) -> Frame:
    """Read one image as uint8 RGB (H, W, 3), by :func:`to_rgb8`. Raises :class:`UserError` that names the file."""
    with open_image(path) as image:
        return to_rgb8(image, f"frame {path}")


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """A Pillow image whose pixels are not decoded yet.

    Raises :class:`UserError` that names the file if it is missing, no regular file, truncated, of a kind that is not
    read, or larger than Pillow allows; also for errors inside the ``with`` block.
    """
    with _readable(f"frame {path}"):
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for a writer
                raise UserError(f"frame {path} is a folder, pipe or device: give a file")
        except FileNotFoundError as error:
            raise UserError(f"frame {path} is missing: restore it, or remove the sequence") from error
        with Image.open(path) as image:
            yield image


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turns Pillow's errors about a damaged or foreign file into :class:`UserError`."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise UserError(f"{where} is refused ({error}): cut it into smaller pictures") from error
    except UnidentifiedImageError as error:
        raise UserError(
            f"{where} cannot be read: it is damaged, or of a kind that is not read here; save it as 8-bit RGB"
        ) from error
    except (OSError, SyntaxError, ValueError, KeyError, IndexError, struct.error) as error:  # by format
        raise UserError(f"{where} cannot be read ({error}): the file is damaged, replace it") from error


def to_rgb8(image: Image.Image, where: str) -> Frame:
    """A Pillow image as uint8 RGB (H, W, 3), turned as its EXIF orientation says.

    Grey images are repeated over the channels, a fully opaque alpha channel is dropped, 16-bit images become 8-bit ones
    (grey by rounding, colour as Pillow does it). Raises :class:`UserError` that begins with ``where`` for a damaged
    image, transparent pixels, several pages or an animation, and for pixels of another kind (32-bit integers and floats
    have no known white).
    """
    pictures = getattr(image, "n_frames", 1)
    if pictures > 1 and image.format != "MPO":  # a camera's JPEG with previews: the first picture is the photograph
        raise UserError(f"{where} holds {pictures} pictures ({image.format}): save each as a file")
    with _readable(where):
        return _oriented(image, _rgb8(image, where))


def _rgb8(image: Image.Image, where: str) -> Frame:
    is_grey16 = image.mode.startswith("I;16") or (image.mode == "I" and image.format in SIXTEEN_BIT)
    if not is_grey16 and image.mode in UNREAD:
        kind = f"{UNREAD[image.mode]} ({image.format or 'Pillow'}, mode {image.mode})"
        raise UserError(f"{where} holds {kind}: convert it to 8-bit RGB")
    if "transparency" in image.info and (is_grey16 or ";16" in str(getattr(image, "tile", ""))):
        raise UserError(f"{where} has a transparent 16-bit colour: flatten it onto a background first")
    if is_grey16:
        levels = np.clip(np.rint(np.asarray(image).astype(np.float64) / 257), 0, 255).astype(np.uint8)
        if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:
            levels = 255 - levels
        return np.repeat(levels[..., None], 3, axis=2)
    if image.mode == "La":  # Pillow converts it to nothing else
        image = image.convert("LA")
    if {"A", "a"} & set(image.getbands()) or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"))
        if int(rgba[..., 3].min()) < 255:
            raise UserError(f"{where} has transparent pixels: flatten it onto a background first")
        return np.ascontiguousarray(rgba[..., :3])
    return np.asarray(image.convert("RGB"))


def _oriented(image: Image.Image, frame: Frame) -> Frame:
    """``frame`` turned and mirrored as the EXIF orientation of ``image`` says."""
    orientation = orientation_of(image)
    if orientation == 1:
        return frame
    turned = Image.fromarray(frame)
    turned.getexif()[ORIENTATION] = orientation
    return np.asarray(ImageOps.exif_transpose(turned))


def lanczos_to_multiples(frame: Frame, factor: int) -> Frame:
    """The frame shrunk by Pillow's Lanczos filter to the next smaller sides that are multiples of ``factor``."""
    height, width = (side // factor * factor for side in frame.shape[:2])
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; 5 and more exchange the sides. An unreadable one counts as 1."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata of a picture whose pixels can be read; the errors depend on the format
        return 1
    return found if found in range(1, 9) else 1


def is_whole(path: Path) -> bool:
    """Whether ``path`` is a PNG file as :func:`write_frame` writes it: all chunks are there, their checksums right."""
    try:
        with open_image(path) as image:
            image.verify()
        with path.open("rb") as stream:
            stream.seek(-len(PNG_END), os.SEEK_END)
            return stream.read() == PNG_END
    except UserError:
        return False


def write_frame(path: Path, frame: Frame) -> None:
    """Write uint8 RGB (H, W, 3) as PNG, atomically. Raises OSError if the disk is full."""
    with atomic_file(path) as stream:
        Image.fromarray(frame).save(stream, format="PNG", compress_level=3)
