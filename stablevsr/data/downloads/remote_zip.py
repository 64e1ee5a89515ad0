"""A zip on a web server, read like a local one: only the directory and the wanted entries are transferred.

:class:`RemoteFile` is a seekable file over HTTP range requests, made for ``zipfile.ZipFile``. Entries that are known to
be wanted are announced with :func:`announce`; neighbours in the archive are then fetched in one request, so four clips
of REDS cost a handful of requests and not hundreds. A broken connection is taken up again at the same byte, and an
answer from a file that has changed in between is refused.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import ExitStack
from zipfile import ZipFile

import requests
from urllib3.exceptions import HTTPError

from stablevsr.data.downloads.archives import Member
from stablevsr.data.downloads.http import (
    BrokenError,
    Expected,
    Patience,
    Retry,
    TransferError,
    opened,
    range_start,
    reason,
    total_size,
)

GAP = 1 << 16  #: bytes between two wanted entries that are cheaper to read over than to ask for separately


class RemoteFile(io.RawIOBase):
    """A read-only file at ``url``; ``size`` is its length in bytes.

    Raises :class:`TransferError` where the server has no ranges, cannot be reached, or the file changes underway.
    """

    def __init__(self, url: str, session: requests.Session, patience: Patience, expected: Expected) -> None:
        super().__init__()
        self._url, self._session, self._patience, self._expected = url, session, patience, expected
        self._spans: list[tuple[int, int]] = []
        self._etag: str | None = None
        self._open = ExitStack()
        self._body: requests.Response | None = None
        self._body_at = self._body_end = 0
        self._at = 0
        self.size = 1
        self.read(1)  # learns the size and that the server answers ranges
        self._at = 0

    def plan(self, spans: Iterable[tuple[int, int]]) -> None:
        """Announce the byte spans (start, end) that will be read in order; near neighbours share a request."""
        merged: list[tuple[int, int]] = []
        for start, end in sorted(spans):
            if merged and start - merged[-1][1] <= GAP:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        self._spans = merged

    def seekable(self) -> bool:
        """Always: a seek only moves the place of the next read."""
        return True

    def readable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the place of the next read; nothing is transferred."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """The place of the next read."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """``size`` bytes, or all up to the end; fewer only at the end of the file."""
        left = max(0, self.size - self._at)
        want = left if size is None or size < 0 else min(size, left)
        blocks: list[bytes] = []
        retry = Retry(self._patience)
        while want > 0:
            try:
                block = self._read_some(want)
            except BrokenError as error:
                self._drop()
                retry.failed(error)
                continue
            retry.progressed()
            blocks.append(block)
            self._at += len(block)
            want -= len(block)
        return b"".join(blocks)

    def _read_some(self, want: int) -> bytes:
        ahead = self._at - self._body_at
        if self._body is None or not 0 <= ahead <= GAP or self._at >= self._body_end:
            self._request(want)
        assert self._body is not None
        self._pull(self._at - self._body_at)
        return self._pull(min(want, self._body_end - self._at))

    def _pull(self, count: int) -> bytes:
        assert self._body is not None
        try:
            block: bytes = self._body.raw.read(count) if count else b""
        except (HTTPError, OSError) as error:
            raise BrokenError(reason(error)) from error
        if len(block) < count:
            raise BrokenError("the connection ended early")
        self._body_at += count
        return block

    def _request(self, want: int) -> None:
        self._drop()
        end = min(self._span_end(self._at) or self._at + want, self.size)
        headers = {"Range": f"bytes={self._at}-{end - 1}"}
        response = self._open.enter_context(opened(self._session, self._url, headers, self._expected, self._patience))
        if response.status_code != 206 or range_start(response) != self._at:
            raise TransferError("the server does not answer range requests, so clips cannot be read out of its zip")
        self._same_file(response)
        self._body, self._body_at, self._body_end = response, self._at, end

    def _same_file(self, response: requests.Response) -> None:
        total, etag = total_size(response), response.headers.get("ETag", "")
        if total is None:
            raise TransferError("the server does not say how large the file is")
        if self._etag is not None and (total, etag) != (self.size, self._etag):
            raise TransferError("the file on the server changed while it was read")
        self.size, self._etag = total, etag

    def _span_end(self, place: int) -> int | None:
        index = bisect_right(self._spans, (place, self.size)) - 1
        return self._spans[index][1] if index >= 0 and place < self._spans[index][1] else None

    def _drop(self) -> None:
        self._open.close()
        self._body = None

    def close(self) -> None:
        """End the request that is under way."""
        self._drop()
        super().close()


def announce(remote: RemoteFile, archive: ZipFile, chosen: Iterable[Member]) -> None:
    """Tell ``remote`` that these members of ``archive`` will be read, in the order in which they lie there."""
    starts = sorted({info.header_offset for info in archive.infolist()} | {archive.start_dir})
    offsets = [member.info.header_offset for member in chosen]
    remote.plan((offset, starts[bisect_right(starts, offset)]) for offset in offsets)
