"""One checked file, from a folder that the user names or from the first address that delivers it.

Shared by everything that ``stablevsr fetch`` gets: the job that says what is wanted, the progress bar, the question
whether the disk has room, and the loop over mirrors that accepts a file only if its size and hash are right.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from stablevsr.data.downloads.http import Expected, Patience, TransferError, download, note_path
from stablevsr.data.downloads.ledger import Ledger, mismatch, sha256_of
from stablevsr.data.downloads.registry import Row, Table, local_path
from stablevsr.runtime.errors import UserError

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Job:
    """One row to fetch, with everything that the steps need to know."""

    row: Row
    table: Table
    data_root: Path
    source: Path | None
    progress: bool
    patience: Patience
    session: requests.Session
    ledger: Ledger

    @property
    def path(self) -> Path:
        """Where the row's thing lands."""
        return local_path(self.row.name, self.data_root, self.table)

    def say(self, text: str) -> None:
        """A line for the person who waits."""
        if self.progress:
            print(text, file=sys.stderr)


@contextmanager
def progress_bar(job: Job, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left; the callable sets how many bytes are done."""
    with tqdm(total=total, desc=label, unit="B", unit_scale=True, delay=0.5, disable=not job.progress) as bar:
        yield lambda done: bar.update(done - bar.n)


def need_room(folder: Path, wanted: int, purpose: str) -> None:
    """Raise :class:`UserError` if the disk under ``folder`` has less than ``wanted`` bytes free."""
    existing = next(path for path in [folder, *folder.parents] if path.exists())
    free = shutil.disk_usage(existing).free
    if free < wanted:
        raise UserError(
            f"{purpose} needs {human(wanted)} more in {folder}, but only {human(free)} are free: make room, or use "
            "another disk (the folder may be a link to one)"
        )


def human(size: float) -> str:
    """Bytes in decimal units, as publishers give them: 34.3 GB."""
    amount, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if amount >= 100 or unit == "B" else f"{amount:.1f} {unit}"


def addresses(row: Row) -> list[str]:
    """The row's main address and mirrors; those on the hub follow ``HF_ENDPOINT`` as the hub's own client does."""
    endpoint = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    return [endpoint + url.removeprefix(HUB) if url.startswith(f"{HUB}/") else url for url in row.urls]


def by_hand(name: str, files: list[str]) -> str:
    """What to do where no address delivers; ``name`` is what the user asked for, ``files`` what it is made from."""
    return (
        f"check the network, or put {' and '.join(files)} into a folder DIR by other means and run "
        f"`stablevsr fetch {name} --from DIR`"
    )


def in_source(job: Job, row: Row) -> Path:
    """The row's file in the folder that the user named. Raises :class:`UserError` if it is not there."""
    assert job.source is not None
    path = job.source / row.filename
    if not path.is_file():
        raise UserError(f"{job.source} has no {row.filename}: put the file from {row.urls[0]} there under this name")
    return path


def check(job: Job, row: Row, path: Path) -> tuple[str, str | None]:
    """The sha256 of ``path`` and how the file differs from what is published or recorded (None if it does not)."""
    size = path.stat().st_size
    if row.size not in (None, size):
        return "", f"it has {size} bytes where {row.size} are expected"
    with progress_bar(job, f"checking {row.filename}", size) as at:
        sha256 = sha256_of(path, at)
    return sha256, mismatch(row, job.ledger, row.filename, size, sha256, (row.size, row.sha256, row.sha256_prefix))


def fetch_verified(job: Job, row: Row, part: Path) -> str:
    """Complete ``part`` from the row's addresses and return its sha256.

    A file that turns out wrong is thrown away, so that the next call starts anew. Raises :class:`UserError` with the
    reason of every address if none delivers.
    """
    reasons = []
    for url in addresses(row):
        try:
            _download(job, row, url, part)
            sha256, fault = check(job, row, part)
        except TransferError as error:
            reasons.append(f"{url} ({error})")
            continue
        if fault is None:
            return sha256
        discard(part)
        reasons.append(f"{url} (what it sent is not the file: {fault})")
    raise UserError(
        f"{row.filename} could not be fetched from {' nor from '.join(reasons)}: "
        f"{by_hand(job.row.name, [row.filename])}"
    )


def _download(job: Job, row: Row, url: str, part: Path) -> None:
    expected = Expected(row.size, row.sha256)
    host = urlsplit(url).hostname
    with progress_bar(job, f"{row.filename} from {host}", row.bytes or None) as set_done:
        download(job.session, url, part, expected, job.patience, set_done)


def discard(part: Path) -> None:
    """Remove a part file and its note."""
    part.unlink(missing_ok=True)
    note_path(part).unlink(missing_ok=True)


def install(part: Path, path: Path) -> None:
    """Rename a checked part file to its name, once its bytes are safely on the disk."""
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(path)
    note_path(part).unlink(missing_ok=True)


def room_for(job: Job, row: Row, part: Path, times: int = 1) -> None:
    """Refuse to start a download that will not fit: the rest of the file, and ``times - 1`` more for its contents."""
    have = part.stat().st_size if part.exists() else 0
    need_room(part.parent, max(0, row.bytes * times - have), f"fetching {row.filename}")
