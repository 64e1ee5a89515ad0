"""``stablevsr fetch``: everything in the registry, by name, resumable, checked, and never half there.

A row is first looked for; what is complete costs no request. Otherwise its file comes from a folder that the user
names, or from the main address and then the mirrors; it is checked (size, published or recorded sha256), renamed into
place, and for a dataset unpacked and counted. All of it happens under an flock, so that two processes asking for the
same thing download it once. Whatever goes wrong ends in one sentence that says what, where and what to do.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from stablevsr.data.downloads import hub as hub_models
from stablevsr.data.downloads.archives import (
    DAMAGE,
    Member,
    layout_fault,
    members,
    missing_bytes,
    unpack,
    write_missing_lists,
)
from stablevsr.data.downloads.download import (
    Job,
    addresses,
    by_hand,
    check,
    fetch_verified,
    human,
    in_source,
    install,
    need_room,
    progress_bar,
    room_for,
)
from stablevsr.data.downloads.http import Expected, Patience, TransferError, new_session
from stablevsr.data.downloads.ledger import Ledger, exclusive, sha256_of
from stablevsr.data.downloads.registry import Hub, Pick, Row, Table, TorchHub, Unpack, get, is_present, load
from stablevsr.data.downloads.remote_zip import RemoteFile, announce
from stablevsr.runtime.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def fetch(
    names: Sequence[str],
    data_root: Path,
    *,
    source: Path | None = None,
    progress: bool = True,
    table: Table | None = None,
    patience: Patience | None = None,
) -> None:
    """Make every named row present, in order.

    Args:
        names: rows of the registry.
        data_root: where datasets land; weights and models go to the caches in which their libraries look.
        source: a folder with files got by hand (under their published names); no network is used then.
        progress: bars and messages on stderr.
        table: another table than the packaged one.
        patience: pauses between tries and time limits, in seconds.

    Raises:
        UserError: unknown name, no network, wrong hash or size, damaged or hostile archive, full disk.
    """
    rows = load() if table is None else table
    chosen = [get(name, rows) for name in names]
    if source is not None and not source.is_dir():
        raise UserError(f"{source} is no folder: --from wants the folder that holds the files got by hand")
    with new_session() as session:
        for row in chosen:
            job = Job(row, rows, data_root, source, progress, patience or Patience(), session, Ledger(data_root))
            if _is_dataset_there(job):  # before the lock: a shared, read-only data folder is fine
                continue
            with _plain_sentences(job), exclusive(_lock_file(job), partial(_waiting, job)):
                _fetch_row(job)


def listing(data_root: Path, table: Table | None = None) -> str:
    """The table that ``stablevsr fetch --list`` prints: name, size, present or not, licence and purpose of each row."""
    rows = load() if table is None else table
    cells = [("name", "size", "present", "licence", "purpose")]
    for row in rows.values():
        size = human(row.bytes) if row.bytes else "?"
        present = "yes" if is_present(row.name, data_root, rows) else "no"
        cells.append((row.name, size if row.size else f"~{size}", present, row.licence, row.purpose))
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[4]]) for line in cells)


def _is_dataset_there(job: Job) -> bool:
    there = isinstance(job.row.lands, Unpack | Pick) and is_present(job.row.name, job.data_root, job.table)
    if there and not _own_archive(job).exists():  # else a call was killed after the last frame: check, record, tidy up
        job.say(f"{job.row.name}: already in {job.path}")
        return True
    return False


def _own_archive(job: Job) -> Path:
    """Where a downloaded zip waits to be unpacked and removed; no name that the user's own copy of it would have."""
    assert isinstance(job.row.lands, Unpack | Pick)
    return job.data_root / job.row.lands.into / f".{job.row.filename}"


def _waiting(job: Job) -> None:
    job.say(f"{job.row.name}: another stablevsr fetch is busy with it, waiting")


def _lock_file(job: Job) -> Path:
    match job.row.lands:
        case TorchHub():
            return job.path.with_name(f".{job.path.name}.lock")
        case Hub(repo=repo):
            return hub_models.lock_file(repo)
        case Unpack(into=into) | Pick(into=into):
            # One lock a folder: REDS4 and the whole of REDS write the same frames.
            return job.data_root / into / ".fetch.lock"


@contextmanager
def _plain_sentences(job: Job) -> Iterator[None]:
    """Turn what the operating system says into one sentence."""
    try:
        yield
    except OSError as error:
        where = error.filename or job.path
        if error.errno in FULL:
            raise UserError(
                f"no room is left on the disk of {where} (or a file size limit is set) while fetching {job.row.name}: "
                "make room and run the same command again, it goes on where it stopped"
            ) from error
        raise UserError(f"{job.row.name} cannot be written at {where}: {error.strerror or error}") from error


def _fetch_row(job: Job) -> None:
    match job.row.lands:
        case TorchHub():
            _fetch_weights(job)
        case Hub():
            hub_models.fetch_model(job)
        case _ if _is_dataset_there(job):  # another process fetched it while this one waited
            return
        case Unpack():
            _fetch_archive(job)
        case Pick():
            _fetch_clips(job)


def _fetch_weights(job: Job) -> None:
    row, path = job.row, job.path
    if job.ledger.unchanged(row, row.filename, path):
        job.say(f"{row.name}: already at {path}")
        return
    if path.is_file():  # put there by torchvision or by hand: checked once, then remembered
        sha256, fault = check(job, row, path)
        if fault:
            raise UserError(f"{path} is not the file that the registry means ({fault}): remove it and fetch again")
    else:
        sha256 = _new_weights(job, path)
    job.ledger.record(row, row.filename, path, sha256)
    job.say(f"{row.name}: at {path}")


def _new_weights(job: Job, path: Path) -> str:
    part = path.with_name(f"{path.name}.part")
    room_for(job, job.row, part)
    if job.source is None:
        sha256 = fetch_verified(job, job.row, part)
    else:
        given = in_source(job, job.row)
        sha256 = _accepted(job, given)
        shutil.copyfile(given, part)
    install(part, path)
    return sha256


def _accepted(job: Job, given: Path) -> str:
    sha256, fault = check(job, job.row, given)
    if fault:
        raise UserError(f"{given} is not the file that the registry means ({fault}): get it again")
    return sha256


def _fetch_archive(job: Job) -> None:
    """Download (or take) the zip, unpack it, count, record its hash, and remove the zip if it was downloaded."""
    row, ours = job.row, job.source is None
    assert isinstance(row.lands, Unpack)
    given = _own_archive(job) if ours else in_source(job, row)
    sha256 = _downloaded_archive(job, given) if ours else _accepted(job, given)
    try:
        with zipfile.ZipFile(given) as archive:
            _unpack(job, archive, members(archive, row.lands.keep, str(given)))
    except DAMAGE as error:
        if ours:
            given.unlink()
        again = "it was removed, fetch again" if ours else f"get {row.filename} again"
        raise UserError(f"{given} is truncated or damaged ({error}): {again}") from error
    _require_layout(job, f"{given} does not hold what {row.name} should")
    job.ledger.record(row, row.filename, given, sha256)
    if ours:
        given.unlink()
    job.say(f"{row.name}: in {job.path}")


def _downloaded_archive(job: Job, archive: Path) -> str:
    if archive.is_file():  # an earlier call was stopped while it unpacked
        sha256, fault = check(job, job.row, archive)
        if fault is None:
            return sha256
        archive.unlink()
    part = archive.with_name(f"{archive.name}.part")
    room_for(job, job.row, part, times=2)  # the zip and, about as large, its frames
    sha256 = fetch_verified(job, job.row, part)
    install(part, archive)
    return sha256


def _unpack(job: Job, archive: zipfile.ZipFile, chosen: list[Member]) -> None:
    need_room(job.path, missing_bytes(chosen, job.path), f"unpacking {job.row.name}")
    with progress_bar(job, f"unpacking {job.row.name}", sum(member.info.file_size for member in chosen)) as at:
        unpack(archive, chosen, job.path, at)


def _require_layout(job: Job, otherwise: str) -> None:
    for layout in job.row.layout:
        write_missing_lists(layout, job.path)
        fault = layout_fault(layout, job.path)
        if fault:
            raise UserError(f"{otherwise}: {fault}")


def _fetch_clips(job: Job) -> None:
    """Read the row's sequences out of other rows' zips, each local or remote, and record a digest of all frames."""
    assert isinstance(job.row.lands, Pick)
    for name in job.row.lands.sources:
        row = job.table[name]
        if job.source is not None:
            _pick_local(job, in_source(job, row), row)
        else:
            _pick_remote(job, row)
    _require_layout(job, f"{job.row.name} is not complete although all its archives were read")
    _record_clips(job)
    job.say(f"{job.row.name}: in {job.path}")


def _pick_local(job: Job, given: Path, row: Row) -> None:
    try:
        with zipfile.ZipFile(given) as archive:
            _unpack(job, archive, _wanted(job, row, archive))
    except DAMAGE as error:
        raise UserError(f"{given} is truncated or damaged ({error}): get {row.filename} again") from error


def _pick_remote(job: Job, row: Row) -> None:
    assert isinstance(job.row.lands, Pick)
    reasons = []
    for url in addresses(row):
        try:
            with ExitStack() as stack:
                remote = stack.enter_context(RemoteFile(url, job.session, job.patience, Expected(row.size, row.sha256)))
                archive = stack.enter_context(zipfile.ZipFile(remote))
                chosen = _wanted(job, row, archive)
                announce(remote, archive, chosen)
                _unpack(job, archive, chosen)
            return
        except TransferError as error:
            reasons.append(f"{url} ({error})")
        except DAMAGE as error:
            reasons.append(f"{url} (its zip is damaged: {error})")
    raise UserError(
        f"the clips of {job.row.name} could not be read out of {' nor '.join(reasons)}: "
        f"{by_hand(job.row.name, [job.table[name].filename for name in job.row.lands.sources])}"
    )


def _wanted(job: Job, row: Row, archive: zipfile.ZipFile) -> list[Member]:
    assert isinstance(row.lands, Unpack)
    folders = [f"{layout.root}/{name}" for layout in job.row.layout for name in layout.named()]
    found = members(archive, row.lands.keep, row.filename)
    return [member for member in found if member.target.parent.as_posix() in folders]


def _record_clips(job: Job) -> None:
    """The zips' own hashes cannot be checked when only a part is read: a digest of the frames stands in for them."""
    digest = hashlib.sha256()
    for layout in job.row.layout:
        for name in layout.named():
            for frame in sorted((job.path / layout.root / name).glob("[!.]*.png")):
                digest.update(f"{frame.relative_to(job.path)} {sha256_of(frame)}\n".encode())
    manifest = digest.hexdigest()
    before = job.ledger.recorded(job.row, "frames")
    if before not in (None, manifest):
        raise UserError(
            f"the frames of {job.row.name} in {job.path} differ from those first fetched (recorded in "
            f"{job.ledger.path}); if you trust the new ones, remove '{job.row.name}' from that file"
        )
    job.ledger.record(job.row, "frames", job.path, manifest)
