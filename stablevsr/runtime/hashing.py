"""Digests of settings and files, for keys of stores and to prove that contents are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def digest(content: Any) -> str:
    """16 hex digits over a JSON value, independent of key order."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def content_hash(files: Iterable[Path]) -> str:
    """sha256 over the contents of ``files``, in order."""
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()


def file_hash(file: Path, progress: Callable[[int], object] = lambda done: None) -> str:
    """sha256 of one file of any size; ``progress`` is called with the number of bytes read so far."""
    total = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            total.update(block)
            progress(stream.tell())
    return total.hexdigest()


def folder_hash(folder: Path) -> str:
    """sha256 over the names and contents of the configuration and weights in a diffusers folder."""
    total = hashlib.sha256()
    for file in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        if file.name != "provenance.json":  # when and where the model was made
            total.update(file.name.encode() + bytes.fromhex(file_hash(file)))
    return total.hexdigest()


def tree_hash(folder: Path) -> str:
    """sha256 over the paths and contents of all files below ``folder`` but its records of when and where it was made.

    Hidden files and ``provenance.json`` do not count.
    """
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if file.name != "provenance.json" and not file.name.startswith("."):
            total.update(file.relative_to(folder).as_posix().encode("utf-8", "surrogateescape"))
            total.update(bytes.fromhex(file_hash(file)))
    return total.hexdigest()
