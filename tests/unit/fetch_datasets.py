"""Small data sets as registry rows, and the server that offers them, for the tests of downloads."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from fetch_server import (
    CLIPS,
    Fault,
    Server,
    fetch_from,
    reds_entries,
    row,
    zip_of,
)

from stablevsr.data.downloads import registry
from stablevsr.runtime.errors import UserError

SHARP, LOW = (32, 16), (8, 4)  # width and height, x4 apart
REDS4 = ["000", "011", "015", "020"]


def layout(root: str, size: tuple[int, int], sequences: list[str], frames: int = 3) -> dict[str, object]:
    return {"root": root, "sequences": sequences, "frames": frames, "width": size[0], "height": size[1]}


def reds_rows(sharp: list[str], low: list[str], **fields: object) -> dict[str, dict[str, object]]:
    """The three rows of REDS, with seven clips instead of 240."""
    places = {"into": "REDS", "outer": "train"}
    low_root = "train_sharp_bicubic/X4"
    return {
        **row("sharp", "dataset", urls=sharp, contents=[layout("train_sharp", SHARP, list(CLIPS))],
              destination={"how": "unpack", "keep": ["train_sharp"], **places}, **fields),
        **row("low", "dataset", urls=low, contents=[layout(low_root, LOW, list(CLIPS))],
              destination={"how": "unpack", "keep": ["train_sharp_bicubic"], **places}),
        **row("reds4", "dataset", destination={"how": "pick", "sources": ["sharp", "low"], **places},
              contents=[layout("train_sharp", SHARP, REDS4), layout(low_root, LOW, REDS4)]),
    }  # fmt: skip


def parse(rows: dict[str, dict[str, object]]) -> dict[str, registry.Row]:
    return registry.parse(yaml.safe_dump(rows))


def sharp_zip(outer: str = "train/") -> bytes:
    return zip_of({"train/": b"", **reds_entries("train_sharp", *SHARP, outer)})


def low_zip(outer: str = "train/") -> bytes:
    return zip_of(reds_entries("train_sharp_bicubic/X4", *LOW, outer))


def serve_reds(server: Server, *faults: Fault, outer: str = "train/", **options: object) -> dict[str, registry.Row]:
    sharp = server.add("/train_sharp.zip", sharp_zip(outer), *faults, **options)
    return parse(reds_rows([sharp], [server.add("/train_sharp_bicubic.zip", low_zip(outer))]))


def get(names: list[str], data: Path, table: dict[str, registry.Row], source: Path | None = None) -> None:
    fetch_from(table, names, data, source=source)


def refused(names: list[str], data: Path, table: dict[str, registry.Row], source: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        get(names, data, table, source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files(folder: Path) -> list[str]:
    """Every file but the flocks and the record of hashes."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.endswith((".lock", ".lock.json")))
