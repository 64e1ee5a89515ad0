"""HTTP transfers over unreliable networks: resumed by range requests, retried with growing pauses.

A download is written to ``NAME.part`` beside its target; ``NAME.part.json`` keeps the address and the server's
validator (ETag), so that a later call resumes only the same version of the file (``Range`` with ``If-Range``). A host
that cannot be reached is not retried, for the caller to try the next mirror; a broken connection, a server error or a
stall is, and the retries are counted anew whenever bytes have arrived.
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
from stablevsr.data.downloads.registry import Published

BLOCK = 1 << 16  #: bytes written at a time; what a broken connection delivered of a block is lost


class TransferError(Exception):
    """This address cannot deliver the file; the message is a reason that fits into brackets."""


class RetryableError(Exception):
    """The transfer may work when it is tried again, after ``pause`` seconds if the server asks for that."""

    def __init__(self, message: str, pause: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(message)
        self.pause = pause
        self.unreachable = unreachable


@dataclass(frozen=True)
class RetryPolicy:
    """Seconds: the pauses between tries, and the time limits for a connection and for the next bytes."""

    pauses: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    connect: float = 10.0
    read: float = 30.0


class Retry:
    """Pauses after each failure; raises :class:`TransferError` once there were more in a row than the policy allows."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._reached = False

    def progressed(self) -> None:
        """Bytes have arrived: earlier failures no longer count."""
        self._failures = 0
        self._reached = True

    def failed(self, error: RetryableError) -> None:
        """Pause before the next try, or give up."""
        self._failures += 1
        if self._failures > len(self._policy.pauses) or (error.unreachable and not self._reached):
            raise TransferError(str(error)) from error
        time.sleep(max(self._policy.pauses[self._failures - 1], error.pause))


def new_session() -> requests.Session:
    """A session that keeps connections open and asks for uncompressed answers."""
    session = requests.Session()
    session.headers.update({"User-Agent": f"stablevsr/{__version__}", "Accept-Encoding": "identity"})
    return session


@contextmanager
def opened(
    session: requests.Session, url: str, headers: dict[str, str], published: Published, policy: RetryPolicy
) -> Iterator[requests.Response]:
    """A response with status 200, 206 or 416 whose body has not been read.

    Raises :class:`TransferError` for permanent and :class:`RetryableError` for temporary faults, also while the body is
    read inside the ``with`` block.
    """
    try:
        with session.get(url, headers=headers, stream=True, timeout=(policy.connect, policy.read)) as response:
            _check_hops(response)
            _check_status(response)
            _check_identity(response, published)
            yield response
    except (requests.exceptions.SSLError, requests.exceptions.TooManyRedirects) as error:
        raise TransferError(reason(error)) from error
    except requests.exceptions.ConnectTimeout as error:
        raise RetryableError(f"no connection within {policy.connect:g} s", unreachable=True) from error
    except requests.exceptions.ProxyError as error:
        raise RetryableError(f"the proxy does not answer: {reason(error)}", unreachable=True) from error
    except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
        raise TransferError("it redirects to an address that is neither http nor https") from error
    except (requests.exceptions.RequestException, HTTPError) as error:
        raise RetryableError(reason(error), unreachable=_is_unreachable(error)) from error


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
        raise RetryableError(f"the server answered {status} {response.reason}", pause)
    if status not in (200, 206, 416):
        raise TransferError(f"the server answered {status} {response.reason}")
    if response.headers.get("Content-Type", "").startswith("text/html") and status != 416:
        raise TransferError("the server sent a web page instead of the file")


def _check_identity(response: requests.Response, published: Published) -> None:
    """Compare what the server announces with what is published, before gigabytes are transferred."""
    total = total_size(response)
    if None not in (total, published.size) and total != published.size and response.status_code != 416:
        raise TransferError(f"the server offers {total} bytes where {published.size} are expected: not the same file")
    # The hub names the content's sha256 in the first answer, before it redirects to storage.
    linked = next((hop.headers["X-Linked-ETag"] for hop in response.history if "X-Linked-ETag" in hop.headers), "")
    if published.sha256 and len(linked.strip('"')) == 64 and linked.strip('"') != published.sha256:
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
    published: Published,
    policy: RetryPolicy,
    progress: Callable[[int], object] = lambda done: None,
) -> None:
    """Complete ``part`` from ``url``, continuing what an earlier call left there.

    ``progress`` is called with the number of bytes done. Raises :class:`TransferError` with a reason;
    OSError (disk full) passes through and leaves the part for the next call.
    """
    retry = Retry(policy)
    while True:
        before = _length(part)
        try:
            _attempt(session, url, part, published, policy, progress)
            return
        except RetryableError as error:
            if _length(part) > before:
                retry.progressed()
            retry.failed(error)


def note_path(part: Path) -> Path:
    """The file beside a part file that keeps its address and the server's validator."""
    return part.with_name(f"{part.name}.json")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _attempt(
    session: requests.Session,
    url: str,
    part: Path,
    published: Published,
    policy: RetryPolicy,
    progress: Callable[[int], object],
) -> None:
    have, validator = _resume_point(part, url, published)
    if have and have == published.size:
        return
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and validator:
        headers["If-Range"] = validator
    with opened(session, url, headers, published, policy) as response:
        if response.status_code == 416:
            if have and total_size(response) == have:
                return
            part.unlink(missing_ok=True)
            raise RetryableError("the part file did not fit the file on the server")
        _receive(response, url, part, have, progress)


def _resume_point(part: Path, url: str, published: Published) -> tuple[int, str | None]:
    """The byte at which to resume and the validator to send; (0, None) if the part may be of another version."""
    try:
        note = json.loads(note_path(part).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return 0, None
    if note.get("url") == url and note.get("validator"):
        return _length(part), note["validator"]
    # From another mirror, or a server without validators: only a published hash can show afterwards whether both fit.
    return (_length(part), None) if published.sha256 else (0, None)


def _receive(response: requests.Response, url: str, part: Path, have: int, progress: Callable[[int], object]) -> None:
    start = range_start(response)
    if start not in (0, have):
        raise TransferError("the server answered with another range than the one asked for")
    total, done = total_size(response), start
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab" if start else "wb") as out:
        note = {"url": url, "validator": strong_validator(response)}
        note_path(part).write_text(json.dumps(note), encoding="utf-8")
        progress(done)
        for block in response.iter_content(BLOCK):
            _refuse_page(block, done)
            out.write(block)
            done += len(block)
            progress(done)
    if total is not None and done < total:
        raise RetryableError(f"the connection ended after {done} of {total} bytes")


def _refuse_page(block: bytes, offset: int) -> None:
    if offset == 0 and block.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise TransferError("the server sent a web page instead of the file")
