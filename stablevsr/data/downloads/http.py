"""HTTP transfers over unreliable networks: resumed by range requests, retried after growing pauses.

A download is written to ``NAME.part``, and ``NAME.part.json`` keeps its address and the server's validator (ETag), so
that a later call resumes only the same version of the file (``Range`` with ``If-Range``; the validator of the answer
is compared too, because some servers ignore ``If-Range``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, LocationValueError, NewConnectionError

from stablevsr import __version__
from stablevsr.data.downloads.registry import Published

T = TypeVar("T")
BLOCK = 1 << 16  #: bytes written at a time; when a connection breaks, the unfinished block is lost
PAGE_STARTS = (b"<!doctype html", b"<html", b"<head", b"<!--", b"<?xml", b"<script")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
WEB_PAGE = "the server sent a web page instead of the file"


class TransferError(Exception):
    """This address cannot deliver the file; messages show the reason in brackets after the address."""


class RetryableError(Exception):
    """A temporary fault; ``pause``: the seconds that the server asks to wait before the next try."""

    def __init__(self, message: str, pause: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(message)
        self.pause = pause
        self.unreachable = unreachable


@dataclass(frozen=True)
class RetryPolicy:
    """Seconds: the pauses before each retry, and the time limits for connecting and for the next bytes."""

    pauses: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    connect: float = 10.0
    read: float = 30.0


def with_retries(policy: RetryPolicy, attempt: Callable[[], T], received: Callable[[], int] = lambda: 0) -> T:
    """The result of ``attempt``, which is called again after each :class:`RetryableError`.

    Only failures in a row count: the count restarts when the bytes ``received()`` have grown. A host that was never
    reached is not retried, so that the caller can try the next mirror. Raises :class:`TransferError` to give up.
    """
    failures, reached = 0, False
    while True:
        before = received()
        try:
            return attempt()
        except RetryableError as error:
            if received() > before:
                failures, reached = 0, True
            failures += 1
            if failures > len(policy.pauses) or (error.unreachable and not reached):
                raise TransferError(str(error)) from error
            time.sleep(max(policy.pauses[failures - 1], error.pause))


def new_session() -> requests.Session:
    """A session that keeps connections open and asks for uncompressed answers."""
    session = requests.Session()
    session.headers.update({"User-Agent": f"stablevsr/{__version__}", "Accept-Encoding": "identity"})
    return session


@dataclass(frozen=True)
class Source:
    """One address of a file, with what is published about the file."""

    session: requests.Session
    url: str
    published: Published
    policy: RetryPolicy

    @contextmanager
    def open(self, headers: dict[str, str]) -> Iterator[requests.Response]:
        """A response with status 200, 206 or 416 whose body has not been read.

        Raises :class:`TransferError` for permanent and :class:`RetryableError` for temporary faults, also while the
        body is read inside the ``with`` block.
        """
        limits, faults = (self.policy.connect, self.policy.read), requests.exceptions
        try:
            with self.session.get(self.url, headers=headers, stream=True, timeout=limits) as response:
                _check_status(response)
                _check_identity(response, self.published)
                yield response
        except (faults.SSLError, faults.TooManyRedirects) as error:
            raise TransferError(reason(error)) from error
        except faults.ConnectTimeout as error:
            raise RetryableError(f"no connection within {self.policy.connect:g} s", unreachable=True) from error
        except faults.ProxyError as error:
            raise RetryableError(f"the proxy does not answer: {reason(error)}", unreachable=True) from error
        except (faults.InvalidSchema, faults.InvalidURL, LocationValueError, UnicodeError) as error:
            raise TransferError(
                "it redirects to an address that is neither http nor https, or to none at all"
            ) from error
        except (faults.RequestException, HTTPError) as error:
            cause = getattr(error.args[0], "reason", None) if error.args else None
            # NewConnectionError: unknown host name, refused connection or no route
            raise RetryableError(reason(error), unreachable=isinstance(cause, NewConnectionError)) from error
        except ValueError as error:  # urllib's, for an invalid address
            raise TransferError(f"it redirects to no valid address ({error})") from error


def reason(error: BaseException) -> str:
    """The innermost reason of a chain of HTTP exceptions, on one line."""
    while inner := [item for item in (getattr(error, "reason", None), *error.args) if isinstance(item, BaseException)]:
        error = inner[0]
    text = str(error).split(": ", 1)[-1] if isinstance(error, NewConnectionError) else str(error)
    return text.splitlines()[0] if text else type(error).__name__


def _check_status(response: requests.Response) -> None:
    schemes = [urlsplit(hop.url).scheme for hop in [*response.history, response]]
    if "https" in schemes and "http" in schemes[schemes.index("https") :]:
        raise TransferError("it redirects from https to plain http")
    status = response.status_code
    if status >= 500 or status in (408, 425, 429):
        wait = response.headers.get("Retry-After", "")
        pause = min(float(_number(wait) or 0), 60.0)
        raise RetryableError(f"the server answered {status} {response.reason}", pause)
    if status not in (200, 206, 416):
        raise TransferError(f"the server answered {status} {response.reason}")
    if response.headers.get("Content-Type", "").startswith("text/html") and status != 416:
        raise TransferError(WEB_PAGE)


def _check_identity(response: requests.Response, published: Published) -> None:
    """Compare what the server announces with what is published, before gigabytes are transferred."""
    total, largest = total_size(response), published.largest
    if largest and not published.size and (total or 0) > largest:
        raise TransferError(f"the server offers {total} bytes, many times more than the file has")
    if published.size and total not in (None, published.size) and response.status_code != 416:
        raise TransferError(f"the server offers {total} bytes where {published.size} are expected: not the same file")
    # The hub names the content's sha256 in the first answer, before it redirects to storage.
    tags = [hop.headers["X-Linked-ETag"].strip('"') for hop in response.history if "X-Linked-ETag" in hop.headers]
    if published.sha256 and tags and len(tags[0]) == 64 and tags[0] != published.sha256:
        raise TransferError("the server offers a file with another sha256 than the registry's")


def total_size(response: requests.Response) -> int | None:
    """The whole file's size in bytes, also if the response is a part of it; None if the server does not say."""
    if is_encoded(response):  # then the length is not the file's
        return None
    part = response.status_code in (206, 416)
    text = response.headers.get("Content-Range" if part else "Content-Length", "").rpartition("/")[2]
    return _number(text)


def _number(text: str) -> int | None:
    """A header's number; None for anything else, and for more digits than a size or time can have."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def is_encoded(response: requests.Response) -> bool:
    """Whether the body is compressed for the transfer, which was not asked for."""
    return response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity")


def range_start(response: requests.Response) -> int:
    """The byte of the file at which the body starts: 0 for a whole file."""
    if response.status_code == 200:
        return 0
    text = response.headers.get("Content-Range", "").removeprefix("bytes").strip().partition("-")[0]
    start = _number(text)
    if start is None:
        raise TransferError("the server answered a range request without saying which range")
    return start


def download(source: Source, part: Path, progress: Callable[[int], object]) -> None:
    """Complete the file ``part``, from where an earlier call stopped.

    ``progress`` is called with the number of bytes done. Raises :class:`TransferError` with a reason, and OSError if
    the disk is full; the part is then kept for the next call.
    """
    with_retries(source.policy, lambda: _attempt(source, part, progress), lambda: length(part))


def note_path(part: Path) -> Path:
    """The JSON file of a part file, with its address and the server's validator."""
    return part.with_name(f"{part.name}.json")


def length(path: Path) -> int:
    """The size of a file in bytes, 0 if it does not exist."""
    return path.stat().st_size if path.exists() else 0


def _attempt(source: Source, part: Path, progress: Callable[[int], object]) -> None:
    have, validator = _resume_point(source, part)
    if have and have == source.published.size:
        return
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and validator:
        headers["If-Range"] = validator
    with source.open(headers) as response:
        if response.status_code == 416:
            if have and total_size(response) == have:
                return
            part.unlink(missing_ok=True)
            raise RetryableError("the part file did not fit the file on the server")
        start = range_start(response)
        if start not in (0, have):
            raise TransferError("the server answered with another range than the one asked for")
        if start and (is_encoded(response) or not _continues(response, validator, source.published)):
            part.unlink()
            raise RetryableError("the file on the server changed since its first part was downloaded")
        part.parent.mkdir(parents=True, exist_ok=True)
        note = {"url": source.url, "validator": None if is_encoded(response) else _validator(response)}
        with part.open("ab" if start else "wb") as out:
            note_path(part).write_text(json.dumps(note), encoding="utf-8")
            _receive(response, out, start, source.published.largest, progress)


def _receive(
    response: requests.Response, out: IO[bytes], start: int, largest: int | None, progress: Callable[[int], object]
) -> None:
    """Append the body to ``out``, which has ``start`` bytes."""
    done, total = start, total_size(response)
    progress(done)
    for block in response.iter_content(BLOCK):
        if done == 0 and block.removeprefix(BYTE_ORDER_MARK).lstrip()[:15].lower().startswith(PAGE_STARTS):
            raise TransferError(WEB_PAGE)
        if largest and done + len(block) > largest:
            raise TransferError(f"the server sends more than the {largest} bytes that the file can have")
        out.write(block)
        done += len(block)
        progress(done)
    if total is not None and done < total:
        raise RetryableError(f"the connection ended after {done} of {total} bytes")


def _validator(response: requests.Response) -> str | None:
    """What identifies the version of the file: a strong ETag or a date, the two that If-Range accepts."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _continues(response: requests.Response, validator: str | None, published: Published) -> bool:
    """Whether a partial answer belongs to the version that ``validator`` names, or a published hash will tell."""
    found = _validator(response)
    return found == validator if found and validator else published.sha256 is not None


def _resume_point(source: Source, part: Path) -> tuple[int, str | None]:
    """The byte at which to resume and the validator to send; (0, None) if the part may be of another version."""
    try:
        note = json.loads(note_path(part).read_text(encoding="utf-8"))
        url, validator = note["url"], note["validator"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0, None
    if url == source.url and validator:
        return length(part), validator
    # From another mirror, or a server without validators: only a published hash can later prove that both parts fit.
    return (length(part), None) if source.published.sha256 else (0, None)
