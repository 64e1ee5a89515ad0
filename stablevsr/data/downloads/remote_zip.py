"""Reading entries of a zip on a web server: only its directory and the wanted entries are transferred.

:class:`RemoteFile` is a seekable file over HTTP range requests, for ``zipfile.ZipFile``. :func:`announce` tells it
which entries will be read; neighbours in the archive then share a request, so that four clips of REDS take a hundred
requests instead of thousands. A file that has changed on the server meanwhile is refused.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterable
from zipfile import ZipFile

import requests
from urllib3.exceptions import HTTPError

from stablevsr.data.downloads.archives import Member
from stablevsr.data.downloads.http import (
    Retry,
    RetryableError,
    RetryPolicy,
    TransferError,
    opened,
    range_start,
    reason,
    total_size,
)
from stablevsr.data.downloads.registry import Published

GAP = 1 << 16  #: bytes between two wanted entries that are cheaper to read and drop than to save by a second request
BLOCK = 1 << 23  #: bytes of one request at most; a broken one is repeated


class RemoteFile(io.RawIOBase):
    """A read-only file at ``url``; ``size`` is its length in bytes.

    Raises :class:`TransferError` if the server has no ranges or cannot be reached, or if the file changes meanwhile.
    """

    def __init__(self, url: str, session: requests.Session, policy: RetryPolicy, published: Published) -> None:
        super().__init__()
        self._url, self._session, self._policy, self._published = url, session, policy, published
        self._spans: list[tuple[int, int]] = []
        self._etag: str | None = None
        self._block, self._block_at, self._at = b"", 0, 0
        self.size = 1
        self._fetch(1)  # learns the size and that the server answers ranges

    def plan(self, spans: Iterable[tuple[int, int]]) -> None:
        """Announce the byte spans (start, end) that will be read; near neighbours share a request."""
        merged: list[tuple[int, int]] = []
        for start, end in sorted(spans):
            if merged and start - merged[-1][1] <= GAP:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        self._spans = merged

    def seekable(self) -> bool:
        """True: seeking only moves the position of the next read."""
        return True

    def readable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position of the next read; nothing is transferred."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """The position of the next read."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """``size`` bytes, or all up to the end; fewer only at the end of the file."""
        left = max(0, self.size - self._at)
        want = left if size is None or size < 0 else min(size, left)
        blocks: list[bytes] = []
        while want > 0:
            start = self._at - self._block_at
            if not 0 <= start < len(self._block):
                self._fetch(want)
                start = 0
            blocks.append(self._block[start : start + want])
            self._at += len(blocks[-1])
            want -= len(blocks[-1])
        return b"".join(blocks)

    def _fetch(self, want: int) -> None:
        """Read one block from the current position on: the announced span around it, or ``want`` bytes."""
        index = bisect_right(self._spans, (self._at, self.size)) - 1
        span_end = self._spans[index][1] if index >= 0 else 0
        end = min(span_end if span_end > self._at else self._at + want, self._at + BLOCK, self.size)
        retry = Retry(self._policy)
        while True:
            try:
                self._block, self._block_at = self._request(self._at, end), self._at
                return
            except RetryableError as error:
                retry.failed(error)

    def _request(self, start: int, end: int) -> bytes:
        headers = {"Range": f"bytes={start}-{end - 1}"}
        with opened(self._session, self._url, headers, self._published, self._policy) as response:
            if response.status_code != 206 or range_start(response) != start:
                raise TransferError("the server does not answer range requests, so clips cannot be read out of its zip")
            self._same_file(response)
            try:
                block: bytes = response.raw.read(end - start)
            except (HTTPError, OSError) as error:
                raise RetryableError(reason(error)) from error
        if len(block) < end - start:
            raise RetryableError("the connection ended early")
        return block

    def _same_file(self, response: requests.Response) -> None:
        total, etag = total_size(response), response.headers.get("ETag", "")
        if total is None:
            raise TransferError("the server does not say how large the file is")
        if self._etag is not None and (total, etag) != (self.size, self._etag):
            raise TransferError("the file on the server changed while it was read")
        self.size, self._etag = total, etag


def announce(remote: RemoteFile, archive: ZipFile, chosen: Iterable[Member]) -> None:
    """Tell ``remote`` that these members of ``archive`` will be read, in the order of their data in it."""
    starts = sorted({info.header_offset for info in archive.infolist()} | {archive.start_dir})
    offsets = [member.info.header_offset for member in chosen]
    remote.plan((offset, starts[bisect_right(starts, offset)]) for offset in offsets)
