"""Downloading one verified file: from the user's folder, or from the first address that delivers the right one.

This module also has what all downloads share: progress bars, the check for free disk space, and renaming a verified
file to its final name.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from stablevsr.data.downloads import http
from stablevsr.data.downloads.record import DownloadRecord
from stablevsr.data.downloads.registry import Row, local_path
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import file_hash

HUB = "https://huggingface.co"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Download:
    """One row to download; :func:`.fetch.fetch` explains the fields."""

    row: Row
    data_root: Path
    source: Path | None
    policy: http.RetryPolicy
    session: requests.Session

    @property
    def path(self) -> Path:
        """Where the row is stored."""
        return local_path(self.row.name, self.data_root)

    @property
    def record(self) -> DownloadRecord:
        """What was verified of the row."""
        return DownloadRecord.of(self.row, self.data_root)


@contextmanager
def progress_bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar; the callable sets how many bytes are done."""
    with tqdm(total=total, desc=label, unit="B", unit_scale=True, delay=0.5) as bar:
        yield lambda done: bar.update(done - bar.n)


@contextmanager
def disk_errors(name: str, path: Path) -> Iterator[None]:
    """Turn the operating system's errors while downloading ``name`` to ``path`` into :class:`UserError`."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in DISK_FULL:
            raise UserError(
                f"no room is left on the disk of {where} (or a file size limit is set) while fetching {name}: make "
                "room and run the same command again"
            ) from error
        raise UserError(f"{name} cannot be written at {where}: {error.strerror or error}") from error


def need_room(folder: Path, wanted: int, purpose: str) -> None:
    """Raise :class:`UserError` if the disk of ``folder`` has less than ``wanted`` bytes free."""
    existing = next(path for path in [folder, *folder.parents] if path.exists())
    free = shutil.disk_usage(existing).free
    if free < wanted:
        raise UserError(
            f"{purpose} needs {human(wanted)} more in {folder}, but only {human(free)} are free: make room, or use "
            "another disk (the folder may be a link to one)"
        )


def human(size: float) -> str:
    """Bytes in decimal units, as publishers give them: 34.3 GB."""
    power = sum(size >= 1000**power for power in (1, 2, 3))
    amount = size / 1000**power
    return f"{amount:.{0 if amount >= 100 or not power else 1}f} {('B', 'kB', 'MB', 'GB')[power]}"


def addresses(row: Row) -> list[str]:
    """The row's main address and mirrors; those on the hub follow ``HF_ENDPOINT`` as the hub's own client does."""
    endpoint = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    return [endpoint + url.removeprefix(HUB) if url.startswith(f"{HUB}/") else url for url in row.urls]


def by_hand(name: str, files: list[str]) -> str:
    """What to do if no address delivers the ``files`` from which the row ``name`` is made."""
    return (
        f"check the network, or put {' and '.join(files)} into a folder DIR by other means and run "
        f"`stablevsr fetch {name} --from DIR`"
    )


def in_source(download: Download, row: Row) -> Path:
    """The row's file in the folder that the user named. Raises :class:`UserError` if it is missing."""
    assert download.source is not None
    path = download.source / row.filename
    if not path.is_file():
        address = [*row.urls, row.page][0]
        raise UserError(f"{download.source} has no {row.filename}: put the file from {address} there under this name")
    return path


def check(download: Download, path: Path) -> tuple[str, str | None]:
    """The sha256 of ``path``, and how the file differs from the published or recorded one (None if it does not)."""
    row, size = download.row, path.stat().st_size
    if row.size not in (None, size):
        return "", row.mismatch(size, "")
    with progress_bar(f"checking {row.filename}", size) as progress:
        sha256 = file_hash(path, progress)
    return sha256, download.record.mismatch(row.filename, row, size, sha256)


def accepted(download: Download, path: Path, fix: str) -> str:
    """The sha256 of the user's file ``path``. Raises :class:`UserError` if it is not the published or recorded one."""
    sha256, fault = check(download, path)
    if fault:
        raise UserError(f"{path} is not the published file ({fault}): {fix}")
    return sha256


def fetch_verified(download: Download, path: Path, times: int = 1) -> str:
    """Download the row's file to ``path`` from the first address that delivers it; returns its sha256.

    A wrong file is removed, so that the next call downloads it again. Raises :class:`UserError` with the reason of
    every address if none delivers, and at once if the disk has no room for ``times`` the file's size.
    """
    if path.is_file():  # an earlier call was stopped while it unpacked this archive
        sha256, fault = check(download, path)
        if fault is None:
            return sha256
        path.unlink()
    row, part, reasons = download.row, part_of(path), []
    need_room(path.parent, max(0, row.bytes * times - http.length(part)), f"fetching {row.filename}")
    for url in addresses(row):
        try:
            with progress_bar(f"{row.filename} from {urlsplit(url).hostname}", row.bytes or None) as progress:
                http.download(http.Source(download.session, url, row, download.policy), part, progress)
            sha256, fault = check(download, part)
        except http.TransferError as error:
            reasons.append(f"{url} ({error})")
            continue
        if fault is None:
            install(part, path)
            return sha256
        part.unlink()
        http.note_path(part).unlink(missing_ok=True)
        reasons.append(f"{url} (it sent another file: {fault})")
    raise UserError(
        f"{row.filename} could not be fetched from {' nor from '.join(reasons)}: {by_hand(row.name, [row.filename])}"
    )


def part_of(path: Path) -> Path:
    """The file that holds the bytes of ``path`` until they are verified."""
    return path.with_name(f"{path.name}.part")


def install(part: Path, path: Path) -> None:
    """Rename a verified part file to its final name, once its bytes are on the disk."""
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(path)
    http.note_path(part).unlink(missing_ok=True)


def copy_verified(file: Path, path: Path) -> None:
    """Copy the user's verified file to ``path``, which never holds half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, part_of(path))
    install(part_of(path), path)
