"""``stablevsr clean --damaged``: results that are not as they were written, as after a power cut or on a failing disk.

Every file is compared with what its record says. Scores that were made from damaged files are listed too, because
Snakemake makes a missing file again only where a target needs it. Weights are made again when frames need them. Resume
states and caches are checked when they are read, and not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stablevsr.data.frames import is_whole, list_frames
from stablevsr.metrics.tables import read_notes
from stablevsr.runtime.errors import DamagedError
from stablevsr.runtime.hashing import content_hash, tree_hash
from stablevsr.runtime.records import read_record
from stablevsr.study.inference import store


def damaged(root: Path) -> list[Path]:
    """Files and folders below ``root/work`` and ``root/results`` to remove; every file is read once."""
    work, results = root / "work", root / "results"
    found = [
        *_frames(work), *_manifests(work), *_datasets(work), *_trainings(work),
        *_scores(work.glob("scores/*/*/*/*/*.csv")), *_scores(results.glob("*/metrics/*/*.csv")), *_emptied(results),
    ]  # fmt: skip
    return sorted(set(found))


def _frames(work: Path) -> Iterator[Path]:
    """Sequences whose frames are not those of their mark, and the manifests that promise them."""
    for mark in work.glob(f"frames/*/*/seed*/*/{store.MARK}"):
        folder = mark.parent
        if not store.is_whole(folder):
            run = folder.parent.relative_to(work / "frames")
            yield folder
            yield from (work / "manifests" / run).glob("*.json")
            yield from work.glob(f"scores/*/{run}/*")


def _manifests(work: Path) -> Iterator[Path]:
    """Damaged manifests of inference, and records of training sets."""
    for file in work.glob("manifests/*/*/*/*.json"):
        if _content(file) is None:
            yield file
            yield from work.glob(f"scores/*/{file.relative_to(work / 'manifests').with_suffix('')}.*")
    yield from (file for file in work.glob("datasets/train-*.json") if _content(file) is None)


def _datasets(work: Path) -> Iterator[Path]:
    """Made LR frames that are not whole, and manifests of datasets whose files are not those they were written for."""
    yield from (file for file in work.glob("lr/*/**/*.png") if not is_whole(file))
    for manifest in work.glob("datasets/*/manifest.json"):
        sequences, folder = (_content(manifest) or {}).get("sequences"), manifest.parent
        if not isinstance(sequences, dict) or not all(_is_as_listed(folder, *item) for item in sequences.items()):
            yield manifest
            yield from work.glob(f"scores/*/{folder.name}/*/*/*")


def _is_as_listed(folder: Path, name: str, entry: Any) -> bool:
    if not all((folder / side / name).is_dir() for side in ("gt", "lr")):
        return False
    files = [file for side in ("gt", "lr") for file in list_frames(folder / side / name)]
    return isinstance(entry, dict) and all(map(Path.is_file, files)) and entry.get("sha256") == content_hash(files)


def _trainings(work: Path) -> Iterator[Path]:
    """Trainings whose weights or records are not those that they wrote; samples are checked by the trainings."""
    for record in work.glob("trainings/*/*/provenance.json"):
        if (_content(record) or {}).get("sha256") != tree_hash(record.parent):
            yield record.parent


def _scores(tables: Iterator[Path]) -> Iterator[Path]:
    for table in tables:
        try:
            read_notes(table)
        except DamagedError:
            yield from (file for file in (table, Path(f"{table}.json")) if file.exists())


def _emptied(results: Path) -> Iterator[Path]:
    """Tables, figures and pages without content; they are made in seconds."""
    files = (file for file in results.glob("*/**/*") if file.is_file())
    # Snakemake marks its output folders by an empty hidden file
    return (file for file in files if not file.name.startswith(".") and not file.read_bytes().strip(b"\0"))


def _content(file: Path) -> dict[str, Any] | None:
    """A record; None if it is damaged."""
    try:
        return read_record(file)
    except DamagedError:
        return None
