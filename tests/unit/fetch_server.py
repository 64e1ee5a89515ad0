"""A web server on 127.0.0.1 for the fetch tests: ranges, validators, redirects, faults on order, and a tiny hub.

Every request is logged with its Range header, and the body bytes that went out are counted, so that tests can say what
was asked for and what was not. Also here: small archives and registry tables in exactly the published layouts.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs

import numpy as np
import pytest
from PIL import Image

from stablevsr.data.downloads import record, registry
from stablevsr.data.downloads.fetch import fetch
from stablevsr.data.downloads.http import RetryPolicy

FAST = RetryPolicy(pauses=(0.01, 0.02, 0.03), connect=60.0, read=60.0)  # long limits: the machine may be busy
LONG = 120.0  #: seconds after which a test that waits for another process has failed


@dataclass
class Fault:
    """What one answer does instead of its duty: a status, a cut after some bytes, a web page, or waiting."""

    status: int | None = None
    cut: int | None = None
    page: bool = False
    gate: threading.Event | None = None  #: with ``cut``: hold the connection there until set, then close it
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Served:
    """One file of the server; ``faults`` are used up by the first GETs."""

    body: bytes
    etag: str | None = None
    ranges: bool = True
    checks: bool = True  #: False: ``If-Range`` is ignored
    redirect: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


class Server:
    """Files by path; ``log`` holds (method, path, Range header) of every request."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.json: dict[str, object] = {}
        self.log: list[tuple[str, str, str]] = []
        self.sent = 0
        self.token = ""  #: what every request must carry, if anything
        self._http = _Quiet(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def add(self, path: str, body: bytes, *faults: Fault, **options: object) -> str:
        """Serve ``body`` under ``path``; returns the address."""
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        self.files[path] = Served(body, **{"etag": etag, "faults": list(faults), **options})  # type: ignore[arg-type]
        return self.url + path

    def asked(self, method: str = "GET") -> list[tuple[str, str]]:
        """(path, Range) of the requests with this method."""
        return [(path, span) for verb, path, span in self.log if verb == method]

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Killed clients reset their connections: no news."""


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body are two writes: 40 ms a request otherwise

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def do_POST(self) -> None:
            """The hub's paths-info: of the listed files, those that were asked for."""
            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["paths"]
            listed = server.json.get(self.path, [])
            assert isinstance(listed, list)
            server.log.append((self.command, self.path, ""))
            if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
                return self.reply(401, b"who are you?", {"Content-Type": "text/plain"})
            found = [entry for entry in listed if entry["path"] in asked]
            return self.reply(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

        def answer(self, body: bool) -> None:
            path = self.path.partition("?")[0]
            server.log.append((self.command, path, self.headers.get("Range", "")))
            if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
                return self.reply(401, b"who are you?", {"Content-Type": "text/plain"})
            if path in server.json:
                return self.reply(200, json.dumps(server.json[path]).encode(), {"Content-Type": "application/json"})
            served = server.files.get(path)
            if served is None:
                return self.reply(404, b"no such file", {"Content-Type": "text/plain"})
            if served.redirect:
                return self.reply(302, b"", {"Location": served.redirect, **served.headers})
            self.serve(served, served.faults.pop(0) if body and served.faults else Fault(), body)

        def serve(self, served: Served, fault: Fault, body: bool) -> None:
            if fault.status:
                return self.reply(fault.status, b"trouble", fault.headers)
            if fault.page:
                return self.reply(200, b"<!DOCTYPE html><p>please log in", fault.headers)
            start, stop, status = self.span(served)
            headers = {**({"ETag": served.etag} if served.etag else {}), **served.headers}
            if status == 416:
                return self.reply(416, b"", {"Content-Range": f"bytes */{len(served.body)}"})
            if status == 206:
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(served.body)}"
            self.reply(status, served.body[start:stop], {**headers, **fault.headers}, body, fault)

        def span(self, served: Served) -> tuple[int, int, int]:
            size = len(served.body)
            match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            fits = not served.checks or self.headers.get("If-Range") in (None, served.etag)
            if not match or not served.ranges or not fits:
                return 0, size, 200
            start, stop = int(match[1]), min(int(match[2]) + 1 if match[2] else size, size)
            return (start, stop, 206) if start < size else (0, 0, 416)

        def reply(
            self, status: int, data: bytes, headers: dict[str, str], body: bool = True, fault: Fault | None = None
        ) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if body and self.command != "HEAD":
                self.send_body(data, fault or Fault())

        def send_body(self, data: bytes, fault: Fault) -> None:
            try:
                whole = data if fault.cut is None else data[: fault.cut]
                for at in range(0, len(whole), 1 << 14):
                    self.wfile.write(whole[at : at + (1 << 14)])
                    server.sent += len(whole[at : at + (1 << 14)])
                self.wfile.flush()
            except OSError:  # the client hung up, as readers of ranges may
                self.close_connection = True
            if fault.gate:
                fault.gate.wait(LONG)
            if fault.cut is not None:
                self.close_connection = True

    return Handler


@contextmanager
def running() -> Iterator[Server]:
    """A server for one test."""
    server = Server()
    try:
        yield server
    finally:
        server.stop()


def wait_until(happened: Callable[[], object], what: str) -> None:
    """Wait for a condition that another process or thread brings about; fails the test if it never happens."""
    end = time.monotonic() + LONG
    while not happened():
        if time.monotonic() > end:
            pytest.fail(f"waited in vain for {what}")
        time.sleep(0.01)


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no compression shortens."""
    return np.random.default_rng(seed).bytes(size)


def png(width: int, height: int, seed: int) -> bytes:
    """A small PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def zip_of(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip with these entries, in this order."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return stream.getvalue()


CLIPS = ("000", "001", "011", "014", "015", "020", "021")


def reds_entries(inner: str, width: int, height: int, outer: str = "train/", frames: int = 3) -> dict[str, bytes]:
    """Entries of a REDS zip with seven clips; frames of 001, 014 and 021 are large, to be seen when transferred."""
    entries = {}
    for number, clip in enumerate(CLIPS):
        for frame in range(frames):
            data = png(width, height, 100 * number + frame)
            bulk = noise(150_000, frame) if clip in ("001", "014", "021") else b""
            entries[f"{outer}{inner}/{clip}/{frame:08d}.png"] = data + bulk
    return entries


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def row(name: str, kind: str, **fields: object) -> dict[str, dict[str, object]]:
    """A row of a table, with the fields that no test looks at filled in."""
    filler = {"kind": kind, "purpose": "test", "version": "1", "licence": "none", "page": "http://127.0.0.1/page"}
    return {name: {**filler, **fields}}


def run_fetch(
    table: Path, data_root: Path, names: list[str], prelude: str = "", **environment: str
) -> subprocess.Popen[str]:
    """`fetch` in a new process, with ``table`` as the registry; exits 1 after printing a UserError."""
    program = f"""
        import sys
        from pathlib import Path
        from stablevsr.data.downloads import registry
        from stablevsr.data.downloads.fetch import fetch
        from stablevsr.data.downloads.http import RetryPolicy
        from stablevsr.runtime.errors import UserError
        {prelude}
        table = registry.parse(Path({str(table)!r}).read_text())
        registry.load = lambda: table
        policy = RetryPolicy(pauses=(0.01, 0.02), connect=60.0, read=60.0)
        try:
            fetch({names!r}, Path({str(data_root)!r}), policy=policy)
        except UserError as error:
            sys.exit(f"UserError: {{error}}")
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    environment = {**os.environ, **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def fetch_from(table: dict[str, registry.Row], names: list[str], data_root: Path, **options: Any) -> None:
    """`fetch` with ``table`` as the registry."""
    with patch.object(registry, "load", lambda: table):
        fetch(names, data_root, **{"policy": FAST, **options})


def is_present(name: str, data_root: Path, table: dict[str, registry.Row]) -> bool:
    """`is_present` with ``table`` as the registry."""
    with patch.object(registry, "load", lambda: table):
        return record.is_present(name, data_root)


def local_path(name: str, data_root: Path, table: dict[str, registry.Row]) -> Path:
    """`local_path` with ``table`` as the registry."""
    with patch.object(registry, "load", lambda: table):
        return registry.local_path(name, data_root)
