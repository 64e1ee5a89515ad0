"""Models from the hub: one commit of a repository, downloaded by ``huggingface_hub`` and verified file by file.

The client handles addresses, tokens, mirrors and the cache. This module compares the hashes that the hub announces with
the published ones before the download, verifies each file after it, and takes only safetensors, json and txt files.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stablevsr.data.downloads import registry
from stablevsr.data.downloads.download import DISK_FULL, by_hand, copy_verified, disk_errors, need_room
from stablevsr.data.downloads.http import reason
from stablevsr.data.downloads.record import NAME, DownloadRecord, file_stamp
from stablevsr.data.downloads.registry import Hub, Published, Row, cache_folder, hub_snapshot
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import file_hash
from stablevsr.runtime.locks import exclusive

PATTERNS = ("*.safetensors", "*.json", "*.txt")
TIMEOUT = 10  #: seconds for the hub's first answer
ABANDONED = 3600.0  #: seconds since the last byte, after which the part of a killed download is removed


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


def pinned(row: Row) -> HubModel:
    """The model of a row of the registry."""
    assert isinstance(row.destination, Hub)
    return HubModel(row.name, row.destination.repo, row.version, row.destination.files)


def model_folder(repo: str, revision: str | None = None) -> Path:
    """The verified local folder of a hub repository, downloaded if needed.

    ``revision``: a commit, branch or tag; None = the commit in the registry, or else the main branch. Raises
    :class:`UserError` if the hub cannot be reached or a file is not the announced one.
    """
    models = [pinned(row) for row in registry.load().values() if isinstance(row.destination, Hub)]
    model = next((one for one in models if one.repo == repo and revision in (None, one.commit)), None)
    with disk_errors(repo, hub_snapshot(repo, revision or "main")):
        if model is not None:
            fetch_model(model)
            return model.folder
        with _hub_errors(f"model {repo}", "connect to the network or give a local folder"):
            folder = _snapshot(repo, revision, PATTERNS)
        files = [path.relative_to(folder).as_posix() for pattern in PATTERNS for path in folder.rglob(pattern)]
        _require(HubModel(repo, repo, folder.name, dict.fromkeys(files, Published())), "run the same command again")
        return folder


def fetch_model(model: HubModel, source: Path | None = None) -> None:
    """Download or, from the folder ``source``, copy those files of ``model`` that are not in the cache, and verify all.

    A wrong file in the cache is removed and downloaded again. Raises :class:`UserError`.
    """
    if all(model.record.is_current(name, file_stamp(model.folder / name)) for name in model.files):
        return
    lock = cache_folder() / f"{model.repo.replace('/', '--')}.lock"
    with exclusive(lock, f"fetching {model.name}"):
        wrong = _verify(model)
        if wrong and source is not None:
            _copy(model, source, wrong)
        elif wrong:
            _download(model, wrong)
        _require(model, _by_hand(model))


def _require(model: HubModel, fix: str) -> None:
    for name, fault in _verify(model).items():
        raise UserError(f"{name} of {model.name} is refused: {fault}; {fix}")


def _verify(model: HubModel) -> dict[str, str]:
    """Record the right files and remove the wrong ones; returns the missing and wrong files with their faults."""
    wrong = {}
    for name, published in model.files.items():
        path = model.folder / name
        if not path.is_file():
            wrong[name] = "it is missing"
        elif not model.record.is_current(name, stamp := file_stamp(path)):
            sha256, announced = file_hash(path), path.resolve().name
            if not published.sha256 and re.fullmatch("[0-9a-f]{64}", announced):  # large files are named by their hash
                published = published.model_copy(update={"sha256": announced})
            fault = model.record.mismatch(name, published, path.stat().st_size, sha256)
            if fault:
                path.resolve().unlink()  # snapshots hold links; the client downloads a file again if its target is gone
                path.unlink(missing_ok=True)
                wrong[name] = f"{fault} (removed from the cache)"
            else:
                model.record.add(name, sha256, stamp)
    return wrong


def _by_hand(model: HubModel) -> str:
    others = f"the other files of {model.repo} at revision {model.commit}, in the same folders,"
    return by_hand(model.name, [next(iter(model.files)), others])


def _download(model: HubModel, names: Mapping[str, str]) -> None:
    """Compare what the hub announces of the named files with what is published, then let the client download them."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    for piece in (model.folder.parents[1] / "blobs").glob("*.incomplete"):
        # The client never resumes the part of a killed download: the next one gets a new name.
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
        _snapshot(model.repo, model.commit, list(model.files))


def _snapshot(repo: str, revision: str | None, patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns), etag_timeout=TIMEOUT))


@contextmanager
def _hub_errors(name: str, fix: str) -> Iterator[None]:
    """Turn the client's errors into :class:`UserError`, except those of a full disk."""
    from huggingface_hub import constants

    try:
        yield
    except Exception as error:  # versions of the client use different HTTP libraries with different errors
        if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno in DISK_FULL):
            raise
        cause = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else reason(error)
        raise UserError(f"{name} could not be fetched from {constants.ENDPOINT} ({cause}): {fix}") from error


def _copy(model: HubModel, source: Path, names: Mapping[str, str]) -> None:
    for name in names:
        file = source / name
        if not file.is_file():
            raise UserError(f"{source} has no {name}: put the file of {model.repo} at revision {model.commit} there")
        fault = model.record.mismatch(name, model.files[name], file.stat().st_size, file_hash(file))
        if fault:
            raise UserError(f"{file} is not the published file ({fault}): download it again")
        copy_verified(file, model.folder / name)
