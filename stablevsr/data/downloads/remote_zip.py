"""Reading single entries of a zip on a web server, by HTTP range requests for its directory and those entries.

Entries that are neighbours in the archive share a request: the four clips of REDS4 take a hundred requests instead of
thousands. A file that changes on the server between two requests is refused.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from zipfile import ZipFile

from stablevsr.data.downloads.archives import Members
from stablevsr.data.downloads.http import (
    RetryableError,
    Source,
    TransferError,
    is_encoded,
    range_start,
    total_size,
    with_retries,
)

GAP = 1 << 16  #: bytes between two wanted entries that are cheaper to transfer than a second request
BLOCK = 1 << 23  #: the most bytes of one request; a broken one is repeated


class RemoteFile:
    """A file at an address with the methods that ``zipfile.ZipFile`` needs to read it.

    Raises :class:`TransferError` if the server has no ranges or cannot be reached, or if the file changes meanwhile.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._spans: list[tuple[int, int]] = []
        self._etag: str | None = None
        self._block, self._block_at, self._at, self._size = b"", 0, 0, 1
        self._fetch(1)  # learns the size, and whether the server supports ranges

    def announce(self, archive: ZipFile, chosen: Members) -> None:
        """Plan the requests for these members of ``archive``, which are sorted by their position in it."""
        starts = sorted({info.header_offset for info in archive.infolist()} | {archive.start_dir})
        for info in chosen.values():
            start = first = info.header_offset
            if self._spans and start - self._spans[-1][1] <= GAP:
                first = self._spans.pop()[0]
            self._spans.append((first, starts[bisect_right(starts, start)]))

    def seekable(self) -> bool:
        """True: seeking only moves the position of the next read."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position of the next read; nothing is transferred."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        """The position of the next read."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """``size`` bytes, or all up to the end; fewer only at the end of the file."""
        end = self._size if size is None or size < 0 else min(self._at + size, self._size)
        blocks: list[bytes] = []
        while self._at < end:
            if not self._block_at <= self._at < self._block_at + len(self._block):
                self._fetch(end)
            blocks.append(self._block[self._at - self._block_at : end - self._block_at])
            self._at += len(blocks[-1])
        return b"".join(blocks)

    def _fetch(self, end: int) -> None:
        """Transfer a block from the current position to ``end``, or to the end of the planned request around it."""
        planned = max((stop for start, stop in self._spans if start <= self._at), default=0)
        end = min(max(end, planned), self._at + BLOCK, self._size)
        self._block = with_retries(self._source.policy, lambda: self._request(self._at, end))
        self._block_at = self._at

    def _request(self, start: int, end: int) -> bytes:
        with self._source.open({"Range": f"bytes={start}-{end - 1}"}) as response:
            if response.status_code != 206 or is_encoded(response) or range_start(response) != start:
                raise TransferError("the server does not answer range requests, so clips cannot be read out of its zip")
            total, etag = total_size(response), response.headers.get("ETag", "")
            if total is None:
                raise TransferError("the server does not say how large the file is")
            if self._etag is not None and (total, etag) != (self._size, self._etag):
                raise TransferError("the file on the server changed while it was read")
            self._size, self._etag = total, etag
            block: bytes = response.raw.read(end - start)
        if len(block) < end - start:
            raise RetryableError("the connection ended early")
        return block
