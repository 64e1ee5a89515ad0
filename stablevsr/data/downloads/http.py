"""HTTP transfers that survive bad networks: ranges, retries with growing pauses, and reasons a person understands.

A download goes to ``NAME.part`` beside its target; a note (``NAME.part.json``) remembers the address and the server's
validator, so that a later run continues only the very same file (``Range`` with ``If-Range``) and never glues two
versions together. A host that cannot be reached is given up at once, for the caller to try the next mirror; a broken
connection, a server error or a stall is retried, and the count starts anew whenever bytes have arrived.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, NewConnectionError

from stablevsr import __version__

BLOCK = 1 << 16  #: bytes written at a time; what a broken connection delivered of a block is lost


class TransferError(Exception):
    """This address will not do; the message is a reason that fits into brackets."""


class BrokenError(Exception):
    """May work when tried again; ``pause`` is what the server asks for, in seconds."""

    def __init__(self, message: str, pause: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(message)
        self.pause = pause
        self.unreachable = unreachable


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds: the pauses between tries, for a connection, and for the next bytes."""

    pauses: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    connect: float = 10.0
    read: float = 30.0


@dataclass(frozen=True)
class Expected:
    """What the table knows about a file before it is fetched."""

    size: int | None = None
    sha256: str | None = None


class Retry:
    """Counts failures in a row: pauses after each, and raises :class:`TransferError` when the pauses are used up."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failures = 0
        self._reached = False

    def progressed(self) -> None:
        """Bytes have arrived: earlier failures no longer count."""
        self._failures = 0
        self._reached = True

    def failed(self, error: BrokenError) -> None:
        """Pause before the next try, or give up."""
        self._failures += 1
        if self._failures > len(self._patience.pauses) or (error.unreachable and not self._reached):
            raise TransferError(str(error)) from error
        time.sleep(max(self._patience.pauses[self._failures - 1], error.pause))


def new_session() -> requests.Session:
    """A session that keeps connections open and asks for plain bytes."""
    session = requests.Session()
    session.headers.update({"User-Agent": f"stablevsr/{__version__}", "Accept-Encoding": "identity"})
    return session


@contextmanager
def opened(
    session: requests.Session, url: str, headers: dict[str, str], expected: Expected, patience: Patience
) -> Iterator[requests.Response]:
    """An answer with status 200, 206 or 416 whose body has not been read.

    Raises :class:`TransferError` for what will not change and :class:`BrokenError` for what may, also while the body is
    read inside the ``with`` block.
    """
    try:
        with session.get(url, headers=headers, stream=True, timeout=(patience.connect, patience.read)) as response:
            _check_hops(response)
            _check_status(response)
            _check_identity(response, expected)
            yield response
    except (requests.exceptions.SSLError, requests.exceptions.TooManyRedirects) as error:
        raise TransferError(reason(error)) from error
    except requests.exceptions.ConnectTimeout as error:
        raise BrokenError(f"no connection within {patience.connect:g} s", unreachable=True) from error
    except requests.exceptions.ProxyError as error:
        raise BrokenError(f"the proxy does not answer: {reason(error)}", unreachable=True) from error
    except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
        raise TransferError("it redirects to an address that is neither http nor https") from error
    except (requests.exceptions.RequestException, HTTPError) as error:
        raise BrokenError(reason(error), unreachable=_is_unreachable(error)) from error


def _is_unreachable(error: BaseException) -> bool:
    cause = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(cause, NewConnectionError)  # covers unknown names, refused connections and no route


def reason(error: BaseException) -> str:
    """The innermost reason of a chain of HTTP exceptions, on one line."""
    inner: object = error
    while isinstance(inner, BaseException):
        nested = [getattr(inner, "reason", None), *inner.args]
        deeper = next((item for item in nested if isinstance(item, BaseException)), None)
        if deeper is None:
            break
        inner = deeper
    text = str(inner).split(": ", 1)[-1] if isinstance(inner, NewConnectionError) else str(inner)
    return text.splitlines()[0] if text else type(inner).__name__


def _check_hops(response: requests.Response) -> None:
    schemes = [urlsplit(hop.url).scheme for hop in [*response.history, response]]
    if "http" in schemes[schemes.index("https") :] if "https" in schemes else False:
        raise TransferError("it redirects from https to plain http")


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status >= 500 or status in (408, 425, 429):
        wait = response.headers.get("Retry-After", "")
        pause = min(float(wait), 60.0) if wait.isdigit() else 0.0
        raise BrokenError(f"the server answered {status} {response.reason}", pause)
    if status not in (200, 206, 416):
        raise TransferError(f"the server answered {status} {response.reason}")
    if response.headers.get("Content-Type", "").startswith("text/html") and status != 416:
        raise TransferError("the server sent a web page instead of the file")


def _check_identity(response: requests.Response, expected: Expected) -> None:
    """Compare what the server says of the file with the table, before gigabytes are moved."""
    total = total_size(response)
    if None not in (total, expected.size) and total != expected.size and response.status_code != 416:
        raise TransferError(f"the server offers {total} bytes where {expected.size} are expected: not the same file")
    # The hub names the content's sha256 in the first answer, before it redirects to storage.
    linked = next((hop.headers["X-Linked-ETag"] for hop in response.history if "X-Linked-ETag" in hop.headers), "")
    if expected.sha256 and len(linked.strip('"')) == 64 and linked.strip('"') != expected.sha256:
        raise TransferError("the server offers a file with another sha256 than the registry's")


def total_size(response: requests.Response) -> int | None:
    """The whole file's bytes: from Content-Range if the answer is a part, from Content-Length if it is the whole."""
    if response.status_code in (206, 416):
        text = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def range_start(response: requests.Response) -> int:
    """Where the body starts in the file: 0 for a whole file."""
    if response.status_code == 200:
        return 0
    text = response.headers.get("Content-Range", "").removeprefix("bytes").strip().partition("-")[0]
    if not text.isdigit():
        raise TransferError("the server answered a range request without saying which range")
    return int(text)


def strong_validator(response: requests.Response) -> str | None:
    """What If-Range accepts: a strong ETag, else the date of the last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def download(
    session: requests.Session,
    url: str,
    part: Path,
    expected: Expected,
    patience: Patience,
    at: Callable[[int], object] = lambda done: None,
) -> None:
    """Complete ``part`` from ``url``, continuing what an earlier call left there.

    ``at`` is called with the bytes done. Raises :class:`TransferError` with a reason;
    OSError (disk full) passes through and leaves the part for the next call.
    """
    retry = Retry(patience)
    while True:
        before = _length(part)
        try:
            _attempt(session, url, part, expected, patience, at)
            return
        except BrokenError as error:
            if _length(part) > before:
                retry.progressed()
            retry.failed(error)


def note_path(part: Path) -> Path:
    """The note beside a part file: which address it came from, and the server's validator."""
    return part.with_name(f"{part.name}.json")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _attempt(
    session: requests.Session,
    url: str,
    part: Path,
    expected: Expected,
    patience: Patience,
    at: Callable[[int], object],
) -> None:
    have, validator = _resume_point(part, url, expected)
    if have and have == expected.size:
        return
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and validator:
        headers["If-Range"] = validator
    with opened(session, url, headers, expected, patience) as response:
        if response.status_code == 416:
            if have and total_size(response) == have:
                return
            part.unlink(missing_ok=True)
            raise BrokenError("the part file did not fit the file on the server")
        _receive(response, url, part, have, at)


def _resume_point(part: Path, url: str, expected: Expected) -> tuple[int, str | None]:
    """From which byte to continue, and the validator to send; (0, None) if the part cannot be trusted to fit."""
    try:
        note = json.loads(note_path(part).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return 0, None
    if note.get("url") == url and note.get("validator"):
        return _length(part), note["validator"]
    # Another mirror, or a server without validators: only a published hash can tell afterwards whether the pieces fit.
    return (_length(part), None) if expected.sha256 else (0, None)


def _receive(response: requests.Response, url: str, part: Path, have: int, at: Callable[[int], object]) -> None:
    start = range_start(response)
    if start not in (0, have):
        raise TransferError("the server answered with another range than the one asked for")
    total, done = total_size(response), start
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab" if start else "wb") as out:
        note = {"url": url, "validator": strong_validator(response)}
        note_path(part).write_text(json.dumps(note), encoding="utf-8")
        at(done)
        for block in response.iter_content(BLOCK):
            _refuse_page(block, done)
            out.write(block)
            done += len(block)
            at(done)
    if total is not None and done < total:
        raise BrokenError(f"the connection ended after {done} of {total} bytes")


def _refuse_page(block: bytes, offset: int) -> None:
    if offset == 0 and block.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise TransferError("the server sent a web page instead of the file")
