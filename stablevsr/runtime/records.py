"""Records: JSON objects with a checksum of their own, which promise that other files are complete."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stablevsr.runtime.errors import DamagedError
from stablevsr.runtime.hashing import digest
from stablevsr.runtime.io import write_text

CHECKSUM = "checksum"  #: the key of the record's own digest


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content``, whose values JSON knows, atomically and with its checksum."""
    stored = {**content, CHECKSUM: digest(dict(content))}
    write_text(path, json.dumps(stored, indent=1, sort_keys=True) + "\n")


def read_record(path: Path) -> dict[str, Any]:
    """What :func:`write_record` wrote. Raises :class:`DamagedError` if it is missing or not that."""
    try:
        content = dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DamagedError(path) from error
    if content.pop(CHECKSUM, None) != digest(content):
        raise DamagedError(path)
    return content
