"""Models from the hub: one commit of a repository, by the hub's own client and into its cache, verified file by file.

Only safetensors, json and txt files are taken. The client (``huggingface_hub``) knows addresses, tokens (``HF_TOKEN``),
mirrors (``HF_ENDPOINT``) and the cache (``HF_HOME``, ``HF_HUB_CACHE``). This module adds hashes: what the hub announces
is compared with what is published before anything is downloaded, each file is verified after, and a file counts as
present only if the record of downloads says that it was verified and it has not changed since.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from stablevsr.data.downloads.download import FULL, disk_errors, install, need_room, part_of
from stablevsr.data.downloads.http import reason
from stablevsr.data.downloads.record import NAME, DownloadRecord, file_stamp
from stablevsr.data.downloads.registry import Hub, Published, Row, cache_folder, hub_snapshot, load
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import file_hash
from stablevsr.runtime.locks import exclusive

PATTERNS = ("*.safetensors", "*.json", "*.txt")
TIMEOUT = 10  #: seconds for the hub's first answer
ABANDONED = 3600.0  #: seconds since the last byte, after which a piece of a killed download is removed


@dataclass(frozen=True)
class HubModel:
    """The files of one commit of a repository; ``name`` is its row in the registry, or the repository itself."""

    name: str
    repo: str
    commit: str
    files: Mapping[str, Published]

    @property
    def folder(self) -> Path:
        """The snapshot folder in the client's cache, ready for ``from_pretrained``."""
        return hub_snapshot(self.repo, self.commit)

    @property
    def record(self) -> DownloadRecord:
        """What was verified of the model."""
        return DownloadRecord(cache_folder() / NAME, self.name, self.commit)

    def is_verified(self) -> bool:
        """Whether every file was verified and is unchanged."""
        return all(self.record.is_current(name, file_stamp(self.folder / name)) for name in self.files)


def pinned(row: Row) -> HubModel:
    """The model of a row of the registry."""
    assert isinstance(row.destination, Hub)
    return HubModel(row.name, row.destination.repo, row.version, row.destination.files)


def model_folder(repo: str, revision: str | None = None) -> Path:
    """The verified local folder of a hub repository, downloaded if needed.

    ``revision``: a commit, branch or tag; None = the commit in the registry of downloads, for other repositories the
    main branch. Raises :class:`UserError` if the hub cannot be reached or a file is not the announced one.
    """
    rows = [row for row in load().values() if isinstance(row.destination, Hub) and row.destination.repo == repo]
    model = next((pinned(row) for row in rows if revision in (None, row.version)), None)
    with disk_errors(repo, hub_snapshot(repo, revision or "main")):
        if model is not None:
            fetch_model(model)
            return model.folder
        with _hub_errors(f"model {repo}", "connect to the network or give a local folder"):
            folder = _snapshot(repo, revision, PATTERNS)
        files = [path.relative_to(folder).as_posix() for pattern in PATTERNS for path in folder.rglob(pattern)]
        _require(HubModel(repo, repo, folder.name, dict.fromkeys(files, Published())), "run the same command again")
        return folder


def fetch_model(model: HubModel, source: Path | None = None, progress: bool = True) -> None:
    """Make all files of ``model`` present and verified, from the folder ``source`` if one is given.

    A file in the cache that is not the right one is removed and downloaded again. Raises :class:`UserError`.
    """
    if model.is_verified():
        return
    lock = cache_folder() / f"{model.repo.replace('/', '--')}.lock"
    with exclusive(lock, f"fetching {model.name}"):
        wrong = _verify(model)
        if wrong and source is not None:
            _copy(model, source, wrong)
        elif wrong:
            _download(model, wrong, progress)
        _require(model, _by_hand(model))


def _require(model: HubModel, fix: str) -> None:
    for name, fault in _verify(model).items():
        raise UserError(f"{name} of {model.name} is refused: {fault}; {fix}")


def _verify(model: HubModel) -> dict[str, str]:
    """Record the files that are the right ones, remove those that are not; what is wrong, by file."""
    wrong = {}
    for name, published in model.files.items():
        path = model.folder / name
        if not path.is_file():
            wrong[name] = "it is missing"
        elif not model.record.is_current(name, stamp := file_stamp(path)):
            sha256 = file_hash(path)
            fault = model.record.mismatch(name, _or_announced(published, path), path.stat().st_size, sha256)
            if fault:
                path.resolve().unlink()  # the snapshot has links: without its target the client downloads a file again
                path.unlink(missing_ok=True)
                wrong[name] = f"{fault} (removed from the cache)"
            else:
                model.record.add(name, sha256, stamp)
    return wrong


def _or_announced(published: Published, path: Path) -> Published:
    """What is published of a file, else the sha256 that the hub announced: the client names large files by it."""
    announced = path.resolve().name
    known = published.sha256 or not re.fullmatch("[0-9a-f]{64}", announced)
    return published if known else published.model_copy(update={"sha256": announced})


def _by_hand(model: HubModel) -> str:
    return (
        f"check the network, or get {', '.join(list(model.files)[:2])} and the other files of {model.repo} at revision "
        f"{model.commit} by other means and run `stablevsr fetch {model.name} --from DIR`, where DIR holds them in the "
        "same folders"
    )


class _Silent(tqdm):  # type: ignore[misc]  # tqdm has no types
    """A progress bar that is never shown, for quiet downloads."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.pop("name", None)  # an argument of the client's own bars
        super().__init__(*args, **{**kwargs, "disable": True})


def _download(model: HubModel, names: Mapping[str, str], progress: bool) -> None:
    """Compare what the hub announces of the named files with what is published, then let the client download them."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    for piece in (model.folder.parents[1] / "blobs").glob("*.incomplete"):
        # of a killed download: the client gives each piece a new name and never continues it
        if time.time() - piece.stat().st_mtime > ABANDONED:
            piece.unlink(missing_ok=True)
    with _hub_errors(model.name, _by_hand(model)):
        found = HfApi().get_paths_info(model.repo, list(names), revision=model.commit)
        announced = {file.path: file for file in found if isinstance(file, RepoFile)}
        for name in names:
            if name not in announced:
                raise UserError(f"the hub has no {name} for {model.name} at revision {model.commit}: {_by_hand(model)}")
            size, large = announced[name].size, announced[name].lfs
            fault = model.record.mismatch(name, model.files[name], size, large.sha256) if large else None
            if fault:
                raise UserError(f"{name} of {model.name} on the hub is not the published file: {fault}")
        need_room(model.folder, sum(file.size for file in announced.values()), f"fetching {model.name}")
        _snapshot(model.repo, model.commit, list(model.files), progress)


def _snapshot(repo: str, revision: str | None, patterns: Sequence[str], progress: bool = True) -> Path:
    from huggingface_hub import snapshot_download

    bars = None if progress else _Silent
    return Path(
        snapshot_download(repo, revision=revision, allow_patterns=list(patterns), etag_timeout=TIMEOUT, tqdm_class=bars)
    )


@contextmanager
def _hub_errors(name: str, fix: str) -> Iterator[None]:
    """Turn the client's errors into one sentence."""
    from huggingface_hub import constants

    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the client's HTTP library, and with it the errors, differ between its versions
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        said = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else reason(error)
        raise UserError(f"{name} could not be fetched from {constants.ENDPOINT} ({said}): {fix}") from error


def _copy(model: HubModel, source: Path, names: Mapping[str, str]) -> None:
    for name in names:
        file, path = source / name, model.folder / name
        if not file.is_file():
            raise UserError(f"{source} has no {name}: put the file of {model.repo} at revision {model.commit} there")
        fault = model.record.mismatch(name, model.files[name], file.stat().st_size, file_hash(file))
        if fault:
            raise UserError(f"{file} is not the published file ({fault}): download it again")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, part_of(path))
        install(part_of(path), path)
