"""Downloads of data sets after a kill or on a full disk."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fetch_datasets import SHARP, files, get, parse, reds_rows, serve_reds
from fetch_server import (
    LONG,
    Fault,
    Server,
    is_present,
    reds_entries,
    run_fetch,
    running,
    sha256,
    wait_until,
    zip_of,
)

from stablevsr.data.downloads import registry
from stablevsr.data.downloads.record import DownloadRecord


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as one:
        yield one


def _written(tmp_path: Path, table: dict[str, registry.Row]) -> Path:
    rows = {name: one.model_dump(mode="json", exclude={"name"}) for name, one in table.items()}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(rows))
    return tmp_path / "table.yaml"


def test_clips_killed_in_the_middle_are_completed(server: Server, tmp_path: Path) -> None:
    gate = threading.Event()
    table = serve_reds(server, *[Fault()] * 4, Fault(cut=3500, gate=gate))
    process = run_fetch(_written(tmp_path, table), tmp_path, ["reds4"])
    wait_until(lambda: len(server.log) >= 5, "the request of a clip")
    process.kill()
    process.communicate(timeout=LONG)
    gate.set()
    assert not is_present("reds4", tmp_path, table)
    get(["reds4"], tmp_path, table)
    assert is_present("reds4", tmp_path, table)
    assert [name for name in files(tmp_path) if name.endswith(".part")] == []


def test_an_unpacking_killed_in_the_middle_goes_on_without_the_network(server: Server, tmp_path: Path) -> None:
    table = serve_reds(server)
    stop_at_the_tenth = """
import os, signal
from stablevsr.data.downloads import archives
count, write = [0], archives._write
def counted(archive, info, path):
    count[0] += 1
    if count[0] == 10:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.part").write_bytes(b"half a frame")
        os.kill(os.getpid(), signal.SIGKILL)
    write(archive, info, path)
archives._write = counted
"""
    prelude = stop_at_the_tenth.replace("\n", "\n        ")  # the indentation of the program around it
    process = run_fetch(_written(tmp_path, table), tmp_path, ["sharp"], prelude)
    told = process.communicate(timeout=LONG)[1]
    assert process.returncode == -9, told
    assert len(list(tmp_path.glob("REDS/train_sharp/*/0*.png"))) == 9
    asked = len(server.log)
    get(["sharp"], tmp_path, table)
    assert len(server.log) == asked, "the zip was there already"
    assert is_present("sharp", tmp_path, table)
    assert [name for name in files(tmp_path) if name.endswith((".part", ".zip"))] == []


def test_a_kill_after_the_last_frame_leaves_neither_the_zip_nor_an_unrecorded_hash(
    server: Server, tmp_path: Path
) -> None:
    table = serve_reds(server)
    kill = "import os; from stablevsr.data.downloads.record import DownloadRecord; "
    kill += "DownloadRecord.add = lambda *_: os.kill(os.getpid(), 9)"
    process = run_fetch(_written(tmp_path, table), tmp_path, ["sharp"], kill)
    process.communicate(timeout=LONG)
    assert process.returncode == -9
    assert not is_present("sharp", tmp_path, table)
    asked = len(server.log)
    get(["sharp"], tmp_path, table)
    assert len(server.log) == asked
    assert DownloadRecord.of(table["sharp"], tmp_path).sha256("train_sharp.zip") == sha256(
        server.files["/train_sharp.zip"].body
    )
    assert [name for name in files(tmp_path) if not name.endswith((".png", ".yaml"))] == []


def test_a_disk_that_fills_up_while_unpacking(server: Server, tmp_path: Path) -> None:
    """The zip itself fits, one frame does not; a file size limit stands in for the full disk."""
    entries = reds_entries("train_sharp", *SHARP)
    for name in entries:
        entries[name] = entries[name][: -150_000 if len(entries[name]) > 150_000 else None]
    entries["train/train_sharp/011/00000001.png"] += bytes(800_000)
    squeezed = zip_of(entries, zipfile.ZIP_DEFLATED)
    table = parse(reds_rows([server.add("/s.zip", squeezed)], ["http://127.0.0.1:9/l.zip"], sha256=sha256(squeezed)))
    assert len(squeezed) < 200_000
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))"
    process = run_fetch(_written(tmp_path, table), tmp_path, ["sharp"], limit)
    told = process.communicate(timeout=LONG)[1]
    assert process.returncode == 1
    assert "no room is left on the disk" in told
    assert [name for name in files(tmp_path) if name.endswith(".part")] == []
    asked = len(server.log)
    get(["sharp"], tmp_path, table)
    assert is_present("sharp", tmp_path, table)
    assert len(server.log) == asked, "the zip was there already"
