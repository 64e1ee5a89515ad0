"""Models from the hub: named files of one pinned revision, through the hub's own client and into its cache.

Only safetensors, json and txt files are taken. The client knows addresses, tokens, mirrors (``HF_ENDPOINT``) and the
cache (``HF_HOME``, ``HF_HUB_CACHE``); this module adds what it does not do: a quick and plain answer when there is no
network, a check against published or recorded hashes, files got by hand, and weights that go on where a killed call
stopped. For the last it fetches them itself into the place where the client looks before it downloads; from version
1.18 on the client starts a file anew and leaves the old piece behind (huggingface/huggingface_hub#4196).
"""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

from tqdm import tqdm

from stablevsr.data.downloads.download import Job, discard, install, need_room, progress_bar
from stablevsr.data.downloads.http import (
    BrokenError,
    Expected,
    Retry,
    TransferError,
    download,
    new_session,
    opened,
    reason,
)
from stablevsr.data.downloads.ledger import mismatch, sha256_of
from stablevsr.data.downloads.registry import Hub, is_present
from stablevsr.runtime.errors import UserError

PART = ".stablevsr.part"  #: no name that the client gives, so that neither takes the other's piece for its own


def lock_file(repo: str) -> Path:
    """The flock of one repository, in the folder where the hub client keeps its own locks."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / ".locks" / f"models--{repo.replace('/', '--')}" / "stablevsr.lock"


def fetch_model(job: Job) -> None:
    """Make the row's files present in the hub cache and check each. Raises :class:`UserError`."""
    if not is_present(job.row.name, job.data_root, job.table):
        need_room(job.path, job.row.bytes - _bytes_there(job), f"fetching {job.row.name}")
        if job.source is not None:
            _copy(job, job.source)
        else:
            _require_hub(job)
            _download(job)
    fresh = _check_files(job)
    job.say(f"{job.row.name}: {'in' if fresh else 'already in'} {job.path}")


def _hub(job: Job) -> Hub:
    assert isinstance(job.row.lands, Hub)
    return job.row.lands


def _bytes_there(job: Job) -> int:
    """Bytes of the wanted files that are complete, and of the weights that an earlier call began."""
    whole = (path for path in (job.path / name for name in _hub(job).files) if path.is_file())
    return sum(path.stat().st_size for path in (*whole, *_blobs(job).glob(f"*{PART}")))


def _blobs(job: Job) -> Path:
    return job.path.parents[1] / "blobs"  # the client keeps contents here, under their ETag, and links to them


def _by_hand(job: Job) -> str:
    return (
        f"check the network, or get {', '.join(list(_hub(job).files)[:2])} and the other files of "
        f"{job.row.page}/tree/{job.row.version} by other means and run `stablevsr fetch {job.row.name} --from DIR`, "
        "where DIR holds them in the same folders"
    )


def _require_hub(job: Job) -> None:
    """Ask for one small file first: the client itself tries a hub that cannot be reached for half a minute."""
    from huggingface_hub import constants, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise UserError(
            f"{job.row.name} is not in the hub cache and HF_HUB_OFFLINE is set: unset it, or {_by_hand(job)}"
        )
    url = hf_hub_url(_hub(job).repo, next(iter(_hub(job).files)), revision=job.row.version)
    retry = Retry(job.patience)
    try:
        while True:
            try:
                with opened(job.session, url, {}, Expected(), job.patience):
                    return
            except BrokenError as error:
                retry.failed(error)
    except TransferError as error:
        raise UserError(f"{job.row.name} could not be fetched from {url} ({error}): {_by_hand(job)}") from error


class _Silent(tqdm):  # type: ignore[misc]  # tqdm has no types
    """A bar that never shows, for callers that asked for none."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.pop("name", None)  # an argument of the hub's own bars
        super().__init__(*args, **{**kwargs, "disable": True})


def _download(job: Job) -> None:
    from huggingface_hub import snapshot_download

    hub = _hub(job)
    bars = None if job.progress else _Silent
    try:
        for name in hub.files:
            if name.endswith(".safetensors") and not (job.path / name).is_file():
                _download_weights(job, name)
        snapshot_download(hub.repo, revision=job.row.version, allow_patterns=list(hub.files), tqdm_class=bars)
    except Exception as error:
        # The client's HTTP library has changed twice (requests, httpx, httpx2), and with it the classes of errors.
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(
            f"{job.row.name} could not be fetched from the hub ({reason(error)}): {_by_hand(job)}"
        ) from error


def _download_weights(job: Job, name: str) -> None:
    """Put one large file among the client's blobs, continuing what an earlier call left there."""
    from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url

    url = hf_hub_url(_hub(job).repo, name, revision=job.row.version)
    offered = get_hf_file_metadata(url)
    if offered.etag is None or not re.fullmatch("[0-9a-f]{64}", offered.etag):
        return  # the ETag is no sha256, so only the client knows what to do with this file
    blob = _blobs(job) / offered.etag
    if not blob.is_file():
        part = blob.with_name(f"{blob.name}{PART}")
        with new_session() as session, progress_bar(job, name, offered.size) as at:
            if token := get_token():
                session.headers["Authorization"] = f"Bearer {token}"  # dropped where the hub redirects to another host
            download(session, url, part, Expected(offered.size, offered.etag), job.patience, at)
        if _sha256(job, name, part) != offered.etag:
            discard(part)
            raise TransferError(f"what it sent for {name} has another sha256 than it announced")
        install(part, blob)


def _copy(job: Job, source: Path) -> None:
    for name in _hub(job).files:
        given, path = source / name, job.path / name
        if not given.is_file():
            raise UserError(f"{source} has no {name}: put the file from {job.row.page}/tree/{job.row.version} there")
        _refuse_other(job, name, given, _sha256(job, name, given))
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        shutil.copyfile(given, part)
        install(part, path)


def _check_files(job: Job) -> bool:
    """Check every file that was not checked before; returns whether there was one."""
    fresh = False
    for name in _hub(job).files:
        path = job.path / name
        if not path.is_file():
            raise UserError(f"the hub sent no {name} for {job.row.name} at revision {job.row.version}: {_by_hand(job)}")
        if job.ledger.unchanged(job.row, name, path):
            continue
        sha256 = _sha256(job, name, path)
        _refuse_other(job, name, path, sha256)
        job.ledger.record(job.row, name, path, sha256)
        fresh = True
    return fresh


def _sha256(job: Job, name: str, path: Path) -> str:
    with progress_bar(job, f"checking {name}", path.stat().st_size) as at:
        return sha256_of(path, at)


def _refuse_other(job: Job, name: str, path: Path, sha256: str) -> None:
    published = _hub(job).files[name]
    path = path.resolve()  # the client's snapshot holds links: removing a link alone would bring the same file back
    size = path.stat().st_size
    fault = mismatch(job.row, job.ledger, name, size, sha256, (published.size, published.sha256, None))
    if fault:
        raise UserError(f"{path} is not the {name} that was published ({fault}): remove it and fetch again")
