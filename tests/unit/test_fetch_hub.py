"""Models from a hub: the real client against a local endpoint with the few answers that it needs.

Each fetch runs in a new process, because the hub client reads its environment once, when it is imported.
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
    server.json[f"/api/models/{REPO}/tree/{COMMIT}"] = server.json[f"/api/models/{REPO}/paths-info/{COMMIT}"] = tree
    siblings = [{"rfilename": entry["path"]} for entry in tree]
    for revision in (COMMIT, "main"):
        server.json[f"/api/models/{REPO}/revision/{revision}"] = {"id": REPO, "sha": COMMIT, "siblings": siblings}


def table(tmp_path: Path, **published: object) -> Path:
    """A table whose row asks for FILES; ``published`` is what it knows of the weights."""
    files = {name: published if name == WEIGHTS else {} for name in FILES}
    rows = row("m", "model", version=COMMIT, destination={"how": "hub", "repo": REPO, "files": files})
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(rows))
    return tmp_path / "table.yaml"


def environment(tmp_path: Path, endpoint: str) -> dict[str, str]:
    return {
        "HF_ENDPOINT": endpoint,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
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


def test_a_file_that_the_hub_announces_with_another_hash_is_refused_again_and_again_and_never_transferred(
    server: Server, tmp_path: Path
) -> None:
    rows = table(tmp_path, sha256=sha256(FILES[WEIGHTS]))
    serve(server, {**FILES, WEIGHTS: noise(400_000, seed=1)})
    for _ in range(2):
        code, told = get(tmp_path, rows, server.url)
        assert code == 1
        assert f"{sha256(FILES[WEIGHTS])} is expected" in told
    assert server.sent < 10_000
    serve(server)
    assert get(tmp_path, rows, server.url)[0] == 0
    assert (snapshot(tmp_path) / WEIGHTS).read_bytes() == FILES[WEIGHTS]


#: Calls what :func:`find_model` calls, instead of ``fetch``.
MODEL_FOLDER = (
    "from stablevsr.data.downloads.hub import model_folder; "
    "fetch = lambda *_, **__: print(model_folder('someone/model'))"
)
NO_ROW = MODEL_FOLDER + "; registry.parse = lambda text: {}"


@pytest.mark.parametrize("prelude", ["", MODEL_FOLDER])
@pytest.mark.parametrize("published", [True, False])
def test_weights_that_are_not_the_announced_ones_are_refused_again_and_again(
    server: Server, tmp_path: Path, prelude: str, published: bool
) -> None:
    rows = table(tmp_path, **({"sha256": sha256(FILES[WEIGHTS])} if published else {}))
    served = server.files[f"/{REPO}/resolve/{COMMIT}/{WEIGHTS}"]
    served.body = noise(400_000, seed=1)  # under the headers of the right file
    for _ in range(2):
        code, told = get(tmp_path, rows, server.url, prelude)
        assert code == 1
        assert f"{WEIGHTS} of m is refused" in told
        assert not (snapshot(tmp_path) / WEIGHTS).exists()
    served.body = FILES[WEIGHTS]
    code, told = get(tmp_path, rows, server.url, prelude)
    assert code == 0, told
    assert (snapshot(tmp_path) / WEIGHTS).read_bytes() == FILES[WEIGHTS]


@pytest.mark.parametrize("prelude", ["", MODEL_FOLDER, NO_ROW])
def test_a_file_damaged_on_the_disk_is_found_and_downloaded_again(server: Server, tmp_path: Path, prelude: str) -> None:
    rows = table(tmp_path)
    assert get(tmp_path, rows, server.url, prelude)[0] == 0
    damaged = bytearray(FILES[WEIGHTS])
    damaged[1000] ^= 1
    (snapshot(tmp_path) / WEIGHTS).write_bytes(damaged)
    if prelude == NO_ROW:
        code, told = get(tmp_path, rows, server.url, prelude)
        assert code == 1 and "removed from the cache" in told
    code, told = get(tmp_path, rows, server.url, prelude)
    assert code == 0, told
    assert (snapshot(tmp_path) / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_a_model_outside_the_registry_is_downloaded_without_pickles_and_then_works_offline(
    server: Server, tmp_path: Path
) -> None:
    for endpoint, offline in ((server.url, "0"), (server.url, "1"), ("http://127.0.0.1:9", "0")):
        code, told = get(tmp_path, table(tmp_path), endpoint, NO_ROW, HF_HUB_OFFLINE=offline)
        assert code == 0, told
    found = {path.name for path in snapshot(tmp_path).rglob("*.*")}
    assert found == {Path(name).name for name in FILES} | {"fp16.safetensors"}


def test_a_model_at_a_commit_is_fetched_by_its_id_as_studies_do(server: Server, tmp_path: Path) -> None:
    asked, rows = [f"{REPO}@{COMMIT}"], table(tmp_path)
    rows.write_text(rows.read_text().replace(REPO, "someone/other"))
    process = run_fetch(rows, tmp_path / "data", asked, **environment(tmp_path, server.url))
    told = process.communicate(timeout=LONG)[1]
    assert process.returncode == 0 and f"{asked[0]}: in {snapshot(tmp_path)}" in told, told
    assert (snapshot(tmp_path) / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_a_token_is_sent_and_a_hub_that_wants_one_says_so(server: Server, tmp_path: Path) -> None:
    server.token = "hf_secret"
    code, told = get(tmp_path, table(tmp_path), server.url, HF_TOKEN="")
    assert code == 1
    assert "401" in told
    assert get(tmp_path, table(tmp_path), server.url, HF_TOKEN="hf_secret")[0] == 0


def test_a_verified_model_in_a_cache_without_write_access_costs_no_request(server: Server, tmp_path: Path) -> None:
    assert get(tmp_path, table(tmp_path), server.url)[0] == 0
    asked = len(server.log)
    shutil.rmtree(tmp_path / "hf/hub/.locks")
    (tmp_path / "hf/hub/.locks").touch()  # no lock can be made there, not even by root
    shutil.rmtree(tmp_path / "cache")  # and nothing was recorded by this user
    for _ in range(2):
        code, told = get(tmp_path, table(tmp_path), server.url)
        assert code == 0, told
    assert len(server.log) == asked


def test_a_file_without_published_hash_may_not_change_later(server: Server, tmp_path: Path) -> None:
    """A revision names its content, but a mirror could send anything: what was recorded first stays."""
    rows = table(tmp_path)
    assert get(tmp_path, rows, server.url)[0] == 0
    recorded = json.loads((tmp_path / "cache/stablevsr/downloads.lock.json").read_text())["m"]["files"]
    assert not (tmp_path / "data").exists()
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


def test_no_network_is_one_sentence_with_what_to_do(tmp_path: Path) -> None:
    with running() as dead:
        endpoint = dead.url
    code, told = get(tmp_path, table(tmp_path), endpoint)
    assert code == 1
    assert "Traceback" not in told
    for part in (f"m could not be fetched from {endpoint} (", "model_index.json", "`stablevsr fetch m --from DIR`"):
        assert part in told
    code, told = get(tmp_path, table(tmp_path), endpoint, HF_HUB_OFFLINE="1")
    assert code == 1
    assert "HF_HUB_OFFLINE is set" in told


def test_a_refusal_of_the_hub_in_the_middle_is_one_sentence(server: Server, tmp_path: Path) -> None:
    server.files[f"/{REPO}/resolve/{COMMIT}/{WEIGHTS}"].faults = [Fault(status=403)] * 20
    code, told = get(tmp_path, table(tmp_path), server.url)
    assert code == 1
    assert f"UserError: m could not be fetched from {server.url}" in told
    assert "Traceback" not in told


def test_a_broken_connection_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.files[f"/{REPO}/resolve/{COMMIT}/{WEIGHTS}"].faults = [Fault(cut=150_000)]
    code, told = get(tmp_path, table(tmp_path, sha256=sha256(FILES[WEIGHTS])), server.url)
    assert code == 0, told
    assert (snapshot(tmp_path) / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert len([path for path, _ in server.asked() if path.endswith(WEIGHTS)]) == 2


def pieces(tmp_path: Path) -> list[Path]:
    """What unfinished calls left among the blobs."""
    return list(tmp_path.glob("hf/hub/models--someone--model/blobs/*.incomplete"))


def test_after_a_kill_the_next_call_gets_the_rest_and_what_was_abandoned_is_removed(
    server: Server, tmp_path: Path
) -> None:
    gate = threading.Event()
    server.files[f"/{REPO}/resolve/{COMMIT}/{WEIGHTS}"].faults = [Fault(cut=250_000, gate=gate)]
    rows = table(tmp_path, sha256=sha256(FILES[WEIGHTS]))
    process = run_fetch(rows, tmp_path / "data", ["m"], **environment(tmp_path, server.url))
    wait_until(lambda: server.sent > 200_000 and pieces(tmp_path), "half of the weights")
    process.kill()
    process.communicate(timeout=LONG)
    gate.set()
    assert pieces(tmp_path)
    for piece in pieces(tmp_path):
        os.utime(piece, (0, 0))
    code, told = get(tmp_path, rows, server.url)
    assert code == 0, told
    assert (snapshot(tmp_path) / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert pieces(tmp_path) == []


def test_a_full_disk_is_one_sentence_and_the_next_call_succeeds(server: Server, tmp_path: Path) -> None:
    rows = table(tmp_path, sha256=sha256(FILES[WEIGHTS]))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"
    code, told = get(tmp_path, rows, server.url, limit)
    assert code == 1
    assert "no room is left on the disk" in told
    assert "Traceback" not in told
    code, told = get(tmp_path, rows, server.url)
    assert code == 0, told
    assert (snapshot(tmp_path) / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_only_what_is_not_there_needs_room(server: Server, tmp_path: Path) -> None:
    little = "import shutil; shutil.disk_usage = lambda _: type('Disk', (), {'free': 300_000})"
    code, told = get(tmp_path, table(tmp_path), server.url, little)
    assert code == 1
    assert "fetching m needs 400 kB more" in told
    assert get(tmp_path, table(tmp_path), server.url)[0] == 0
    (snapshot(tmp_path) / "tokenizer/merges.txt").unlink()
    code, told = get(tmp_path, table(tmp_path), server.url, little)
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
