"""Models from a hub: the real client against a local endpoint with the few answers that it needs.

Each fetch runs in a process of its own, because the hub client reads its environment once, when it is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fetch_server import LONG, Fault, Server, noise, row, run_fetch, running, sha256, wait_until

REPO, COMMIT = "someone/model", "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "model_index.json": b'{"_class_name": "Model"}',
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": noise(400_000),
    "tokenizer/merges.txt": b"a b\n",
}
UNWANTED = {"unet/diffusion_pytorch_model.bin": b"pickle", "README.md": b"# hello", "fp16.safetensors": noise(1000)}
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as one:
        serve(one)
        yield one


def serve(server: Server, files: dict[str, bytes] | None = None) -> None:
    """The hub's answers for one repository: its tree at the commit, and every file with the headers of the hub."""
    tree = []
    for path, body in {**UNWANTED, **(files or FILES)}.items():
        large = path.endswith((".safetensors", ".bin"))
        oid = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        entry = {"type": "file", "path": path, "size": len(body), "oid": oid}
        tree.append({**entry, "lfs": {"oid": sha256(body), "size": len(body), "pointerSize": 1}} if large else entry)
        etag = sha256(body) if large else oid
        headers = {"X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(body)), "X-Linked-ETag": f'"{etag}"'}
        server.add(f"/{REPO}/resolve/{COMMIT}/{path}", body, etag=f'"{etag}"', headers=headers)
    server.json[f"/api/models/{REPO}/tree/{COMMIT}"] = tree
    siblings = [{"rfilename": entry["path"]} for entry in tree]
    server.json[f"/api/models/{REPO}/revision/{COMMIT}"] = {"id": REPO, "sha": COMMIT, "siblings": siblings}


def table(tmp_path: Path, **published: object) -> Path:
    """A table whose row asks for FILES; ``published`` is what it knows of the weights."""
    files = {name: published if name == WEIGHTS else {} for name in FILES}
    rows = row("m", "model", version=COMMIT, lands={"how": "hub", "repo": REPO, "files": files})
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(rows))
    return tmp_path / "table.yaml"


def environment(tmp_path: Path, endpoint: str) -> dict[str, str]:
    return {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_CACHE": str(tmp_path / "hf/hub"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }


def snapshot(tmp_path: Path) -> Path:
    return tmp_path / "hf/hub/models--someone--model/snapshots" / COMMIT


def get(tmp_path: Path, rows: Path, endpoint: str, prelude: str = "", **more: str) -> tuple[int, str]:
    names = {**environment(tmp_path, endpoint), **more}
    process = run_fetch(rows, tmp_path / "data", ["m"], prelude, **names)
    told = process.communicate(timeout=LONG)[1]
    return process.returncode, told


def test_a_pinned_revision_lands_in_the_hub_cache_without_pickles_and_once(server: Server, tmp_path: Path) -> None:
    rows = table(tmp_path, sha256=sha256(FILES[WEIGHTS]), size=len(FILES[WEIGHTS]))
    code, told = get(tmp_path, rows, server.url)
    assert code == 0, told
    found = {path.relative_to(snapshot(tmp_path)).as_posix(): path for path in snapshot(tmp_path).rglob("*.*")}
    assert {name: path.read_bytes() for name, path in found.items()} == FILES
    asked = len(server.log)
    code, told = get(tmp_path, rows, server.url)
    assert (code, len(server.log)) == (0, asked), told
    assert "already in" in told


def test_a_wrong_file_is_named_and_removing_it_as_told_mends_the_cache(server: Server, tmp_path: Path) -> None:
    rows = table(tmp_path, sha256=sha256(FILES[WEIGHTS]))
    serve(server, {**FILES, WEIGHTS: noise(400_000, seed=1)})
    code, told = get(tmp_path, rows, server.url)
    assert code == 1
    assert sha256(FILES[WEIGHTS]) in told
    named = next(word for word in told.split() if word.startswith(str(tmp_path / "hf/hub")))
    Path(named).unlink()
    serve(server)
    shutil.rmtree(tmp_path / "hf/hub/models--someone--model/trees", ignore_errors=True)
    code, told = get(tmp_path, rows, server.url)
    assert code == 0, told
    assert (snapshot(tmp_path) / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_a_quiet_call_prints_nothing(server: Server, tmp_path: Path) -> None:
    quiet = "from functools import partial; fetch = partial(fetch, progress=False)"
    assert get(tmp_path, table(tmp_path), server.url, quiet) == (0, "")


def test_a_file_without_published_hash_may_not_change_later(server: Server, tmp_path: Path) -> None:
    """A revision names its content, but a mirror could send anything: what was recorded first stays."""
    rows = table(tmp_path)
    assert get(tmp_path, rows, server.url)[0] == 0
    recorded = json.loads((tmp_path / "data/downloads.lock.json").read_text())["m"]["files"]
    assert recorded[WEIGHTS]["sha256"] == sha256(FILES[WEIGHTS])
    shutil.rmtree(tmp_path / "hf")
    serve(server, {**FILES, WEIGHTS: noise(400_000, seed=1)})
    code, told = get(tmp_path, rows, server.url)
    assert code == 1
    assert "was recorded at the first download" in told


def test_a_file_that_the_revision_lacks_is_named(server: Server, tmp_path: Path) -> None:
    serve_less = {name: body for name, body in FILES.items() if name != WEIGHTS}
    server.files.clear()
    serve(server, serve_less)
    code, told = get(tmp_path, table(tmp_path), server.url)
    assert code == 1
    assert WEIGHTS in told
    assert "Traceback" not in told


def test_no_network_is_said_before_the_client_tries_for_half_a_minute(tmp_path: Path) -> None:
    with running() as dead:
        endpoint = dead.url
    code, told = get(tmp_path, table(tmp_path), endpoint)
    assert code == 1
    assert "Traceback" not in told
    for part in (f"m could not be fetched from {endpoint}/", "model_index.json", "`stablevsr fetch m --from DIR`"):
        assert part in told
    code, told = get(tmp_path, table(tmp_path), endpoint, HF_HUB_OFFLINE="1")
    assert code == 1
    assert "HF_HUB_OFFLINE is set" in told


def test_a_refusal_of_the_hub_in_the_middle_is_one_sentence(server: Server, tmp_path: Path) -> None:
    server.files[f"/{REPO}/resolve/{COMMIT}/{WEIGHTS}"].faults = [Fault(status=403)] * 20
    code, told = get(tmp_path, table(tmp_path), server.url)
    assert code == 1
    assert "UserError: m could not be fetched from the hub" in told
    assert "Traceback" not in told


def spans_asked(server: Server) -> list[str]:
    """The Range headers of the requests for the weights."""
    return [span for path, span in server.asked() if path.endswith(WEIGHTS)]


def test_a_broken_connection_is_taken_up_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.files[f"/{REPO}/resolve/{COMMIT}/{WEIGHTS}"].faults = [Fault(cut=150_000)]
    code, told = get(tmp_path, table(tmp_path, sha256=sha256(FILES[WEIGHTS])), server.url)
    assert code == 0, told
    assert (snapshot(tmp_path) / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    first, second = spans_asked(server)
    assert (first, second[:6]) == ("", "bytes=")


def pieces(tmp_path: Path) -> list[Path]:
    """What unfinished calls left among the blobs."""
    return list(tmp_path.glob("hf/hub/models--someone--model/blobs/*.part"))


def test_a_killed_download_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    gate = threading.Event()
    server.files[f"/{REPO}/resolve/{COMMIT}/{WEIGHTS}"].faults = [Fault(cut=250_000, gate=gate)]
    rows = table(tmp_path, sha256=sha256(FILES[WEIGHTS]))
    process = run_fetch(rows, tmp_path / "data", ["m"], **environment(tmp_path, server.url))
    wait_until(lambda: any(part.stat().st_size > 150_000 for part in pieces(tmp_path)), "half of the weights")
    process.kill()
    process.communicate(timeout=LONG)
    gate.set()
    had = pieces(tmp_path)[0].stat().st_size
    code, told = get(tmp_path, rows, server.url)
    assert code == 0, told
    assert (snapshot(tmp_path) / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert spans_asked(server) == ["", f"bytes={had}-"]
    assert not list(tmp_path.glob("hf/hub/*/blobs/*.*")), "neither pieces nor notes are left"


def test_a_full_disk_is_one_sentence_and_the_next_call_goes_on(server: Server, tmp_path: Path) -> None:
    rows = table(tmp_path, sha256=sha256(FILES[WEIGHTS]))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"
    code, told = get(tmp_path, rows, server.url, limit)
    assert code == 1
    assert "no room is left on the disk" in told
    assert "Traceback" not in told
    code, told = get(tmp_path, rows, server.url)
    assert code == 0, told
    assert (snapshot(tmp_path) / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert spans_asked(server)[-1].startswith("bytes=")


def test_weights_that_are_not_what_was_announced_are_thrown_away(server: Server, tmp_path: Path) -> None:
    served = server.files[f"/{REPO}/resolve/{COMMIT}/{WEIGHTS}"]
    served.body = noise(400_000, seed=1)  # under the headers of the right file
    code, told = get(tmp_path, table(tmp_path), server.url)
    assert code == 1
    assert "another sha256 than it announced" in told
    served.body = FILES[WEIGHTS]
    code, told = get(tmp_path, table(tmp_path), server.url)
    assert code == 0, told
    assert (snapshot(tmp_path) / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_only_what_is_not_there_needs_room(server: Server, tmp_path: Path) -> None:
    """A disk with 450 kB free is too small for the model of about 500 kB, but not for the rest of it."""
    rows = yaml.safe_load(table(tmp_path).read_text())
    rows["m"]["about"] = 500_000
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(rows))
    little = "import shutil; shutil.disk_usage = lambda _: type('Disk', (), {'free': 450_000})"
    code, told = get(tmp_path, tmp_path / "table.yaml", server.url, little)
    assert code == 1
    assert "m needs 500 kB more" in told
    server.files[f"/{REPO}/resolve/{COMMIT}/{WEIGHTS}"].faults = [Fault(cut=150_000), Fault(status=403)]
    assert get(tmp_path, tmp_path / "table.yaml", server.url)[0] == 1
    code, told = get(tmp_path, tmp_path / "table.yaml", server.url, little)
    assert code == 0, told


def test_files_got_by_hand_serve_the_hub_client_offline(tmp_path: Path) -> None:
    source = tmp_path / "usb"
    for name, body in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(body)
    rows = table(tmp_path, sha256=sha256(FILES[WEIGHTS]))
    prelude = f"from functools import partial; fetch = partial(fetch, source=Path({str(source)!r}))"
    (source / WEIGHTS).write_bytes(FILES[WEIGHTS][:-1])
    code, told = get(tmp_path, rows, "http://127.0.0.1:9", prelude)
    assert code == 1
    assert str(source / WEIGHTS) in told
    (source / WEIGHTS).write_bytes(FILES[WEIGHTS])
    code, told = get(tmp_path, rows, "http://127.0.0.1:9", prelude)
    assert code == 0, told
    program = (
        "from huggingface_hub import hf_hub_download;"
        f"print(hf_hub_download({REPO!r}, {WEIGHTS!r}, revision={COMMIT!r}, local_files_only=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment(tmp_path, "http://127.0.0.1:9")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).read_bytes() == FILES[WEIGHTS]
