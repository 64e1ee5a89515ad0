"""What in the stores no present study or ablation refers to."""

from __future__ import annotations

import shutil
from pathlib import Path

from stablevsr.runtime.errors import UserError
from stablevsr.study.paths import Paths, pool_file
from stablevsr.study.resolve import load_study

STORES = (
    *("models/*", "checkpoints/*", "decoders/*", "states/*", "pools/*", "datasets/*", "given/*"),
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
    """The folder of results that depend on the ground truth alone, and its bytes: no study or all could want them."""
    folder = root / "work" / "cache"
    return folder, _size(folder) if folder.is_dir() else 0


def remove(paths: list[Path]) -> None:
    """Delete store entries."""
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _wanted(paths: Paths) -> set[Path]:
    study = paths.study
    wanted: set[Path] = set()
    wanted |= {pool_file(run, paths.pools).parent for run in study.trainings().values()}
    wanted.add(paths.work / "given" / study.name)
    trained = {digest: paths.checkpoint(digest) for digest in study.trainings()}
    trained |= {digest: paths.finetuned(digest) for digest in study.finetunings()}
    trained |= {digest: paths.decoder(digest) for digest in study.decoders()}
    for digest, folder in trained.items():
        wanted.add(folder)
        if not (folder / "provenance.json").exists():  # written last: after it nothing resumes
            wanted.add(paths.state(digest))
    wanted |= {paths.training_data(spec) for spec in study.spec.training_datasets.values()}
    for dataset in study.spec.datasets:
        wanted.add(paths.dataset(dataset))
        for digest in study.by_digest(dataset):
            wanted.add(paths.frames(dataset, digest, 0).parent)
            wanted.add(paths.manifest(dataset, digest, 0, 0).parents[1])
            wanted.add(paths.scores(dataset, digest, 0, 0).parents[1])
    return wanted


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files if p.is_file() and not p.is_symlink())  # datasets are links
