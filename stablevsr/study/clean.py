"""What in the stores no present study or ablation refers to."""

from __future__ import annotations

import shutil
from pathlib import Path

from stablevsr.runtime.errors import UserError
from stablevsr.study.paths import Paths
from stablevsr.study.resolve import load_study

STORES = (
    *("trainings/*/*", "states/*", "samples/*", "datasets/*", "lr/*", "external/*"),
    *("frames/*/*", "manifests/*/*", "scores/*/*/*"),
)


def unreferenced(root: Path) -> list[tuple[Path, int]]:
    """Store entries below ``root/work`` that no study in ``root/workflow/studies`` asks for, with their bytes."""
    wanted: set[Path] = set()
    studies = sorted((root / "workflow" / "studies").glob("*.yaml"))
    if not studies:
        raise UserError(f"there is no study in {root / 'workflow' / 'studies'}: run this in the repository's folder")
    for file in studies:
        wanted |= _wanted(Paths(load_study(file.stem, root), work=root / "work"))
    found = []
    for pattern in STORES:
        for path in sorted((root / "work").glob(pattern)):
            if path not in wanted:
                found.append((path, _size(path)))
    return found


def cached(root: Path) -> tuple[Path, int]:
    """The folder of results that depend on the ground truth alone, and its bytes: it belongs to no study."""
    folder = root / "work" / "cache"
    return folder, _size(folder) if folder.is_dir() else 0


def remove(paths: list[Path]) -> None:
    """Delete store entries; of a link only the link."""
    for path in paths:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _wanted(paths: Paths) -> set[Path]:
    study, spec = paths.study, paths.study.spec
    wanted = {paths.external()}
    for digest, run in study.trainings().items():
        wanted |= {paths.training(run), *(samples.parent for samples in [paths.samples(run)] if samples)}
        if not (paths.training(run) / "provenance.json").exists():  # written last: after it nothing resumes
            wanted.add(paths.state(digest))
    wanted |= {paths.training_data(dataset) for dataset in spec.training_datasets.values()}
    wanted |= {paths.low_resolution(dataset) for dataset in (*spec.datasets.values(), *spec.training_datasets.values())}
    for dataset in spec.datasets:
        wanted.add(paths.dataset(dataset))
        for digest in study.by_digest(dataset):
            wanted.add(paths.frames(dataset, digest, 0).parent)
            wanted.add(paths.manifest(dataset, digest, 0, 0).parents[1])
            wanted.add(paths.scores(dataset, digest, 0, 0).parents[1])
    return wanted


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files if p.is_file() and not p.is_symlink())  # datasets are links
