"""``stablevsr clean``: the entries of the stores that no study and no ablation refers to any more."""

from __future__ import annotations

import shutil
from pathlib import Path

from stablevsr.study.paths import Paths
from stablevsr.study.resolve import load_study, study_files

STORES = (
    *("trainings/*/*", "states/*", "samples/*", "datasets/*", "lr/*", "external/*"),
    *("frames/*/*", "manifests/*/*", "scores/*/*/*"),
)


def unreferenced(root: Path) -> list[tuple[Path, int]]:
    """Store entries below ``root/work`` that no study in ``root/workflow/studies`` refers to, with their bytes.

    What lies behind a link below ``root/work`` is no entry: the folder may belong to something else.
    """
    work = root / "work"
    wanted = {path for file in study_files(root) for path in _wanted(Paths(load_study(file.stem, root), work))}
    entries = (path for pattern in STORES for path in sorted(work.glob(pattern)))
    return [(path, size(path)) for path in entries if path not in wanted and not _is_behind_a_link(path, work)]


def _is_behind_a_link(path: Path, work: Path) -> bool:
    between = path.relative_to(work).parents
    return any((work / folder).is_symlink() for folder in between if folder != Path())


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
    wanted |= {paths.low_resolution(dataset) for dataset in spec.all_datasets()}
    for dataset in spec.datasets:
        wanted.add(paths.dataset(dataset))
        for digest in study.by_digest(dataset):
            wanted.add(paths.frames(dataset, digest, 0).parent)
            wanted.add(paths.manifest(dataset, digest, 0, 0).parents[1])
            wanted.add(paths.scores(dataset, digest, 0, 0).parents[1])
    return wanted


def size(path: Path) -> int:
    """Bytes of a file or folder without links, of which prepared datasets consist; 0 if there is none."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files if p.is_file() and not p.is_symlink())
