"""One file over HTTP: broken transfers, wrong files, mirrors, full disks, kills, and two processes at once."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

import pytest
import requests
import yaml
from fetch_server import (
    FAST,
    LONG,
    Fault,
    Server,
    fetch_from,
    is_present,
    local_path,
    noise,
    row,
    run_fetch,
    running,
    sha256,
    wait_until,
)
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from stablevsr.data.downloads import registry
from stablevsr.data.downloads.fetch import fetched_weights, listing
from stablevsr.data.downloads.http import RetryPolicy, Source, TransferError, download, new_session
from stablevsr.data.downloads.record import NAME
from stablevsr.runtime.errors import UserError

BODY = noise(1_000_000)
TORCH_HUB = {"how": "torch_hub", "folder": "checkpoints"}


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as one:
        yield one


@pytest.fixture(autouse=True)
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "torch"


def table_of(*urls: str, **fields: object) -> dict[str, registry.Row]:
    return registry.parse(yaml.safe_dump(row("w", "weights", urls=list(urls), destination=TORCH_HUB, **fields)))


def get(tmp_path: Path, table: dict[str, registry.Row], **options: object) -> Path:
    fetch_from(table, ["w"], tmp_path / "data", **options)
    return local_path("w", tmp_path / "data", table)


def refused(tmp_path: Path, table: dict[str, registry.Row], **options: object) -> str:
    with pytest.raises(UserError) as caught:
        get(tmp_path, table, **options)
    assert "\n" not in str(caught.value)
    assert not local_path("w", tmp_path / "data", table).exists()
    return str(caught.value)


def leftovers(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir() if not p.name.endswith(".lock"))


def test_a_second_call_asks_nothing_and_the_file_is_whole(server: Server, tmp_path: Path) -> None:
    table = table_of(server.add("/w.pth", BODY), sha256=sha256(BODY), size=len(BODY))
    path = get(tmp_path, table)
    assert path == tmp_path / "torch/hub/checkpoints/w.pth"
    assert path.read_bytes() == BODY
    assert leftovers(path) == ["w.pth"]
    asked = len(server.log)
    get(tmp_path, table)
    assert len(server.log) == asked


def test_a_broken_transfer_goes_on_where_it_broke(server: Server, tmp_path: Path) -> None:
    url = server.add("/w.pth", BODY, Fault(cut=600_000), Fault(cut=100_000))
    path = get(tmp_path, table_of(url, sha256=sha256(BODY)))
    assert path.read_bytes() == BODY
    spans = [span for _, span in server.asked()]
    assert spans[0] == ""
    starts = [int(span.removeprefix("bytes=").rstrip("-")) for span in spans[1:]]
    assert len(starts) == 2
    assert 0 < starts[0] < starts[1] < len(BODY)
    assert server.sent < 1.4 * len(BODY)


def test_errors_of_the_server_are_tried_again_and_then_given_up(server: Server, tmp_path: Path) -> None:
    url = server.add("/w.pth", BODY, Fault(status=500), Fault(status=503))
    assert get(tmp_path, table_of(url)).read_bytes() == BODY
    assert len(server.asked()) == 3
    url = server.add("/v.pth", BODY, *[Fault(status=500)] * 9)
    with pytest.raises(UserError, match=r"v\.pth could not be fetched from .*answered 500"):
        get(tmp_path, table_of(url))
    assert [path for path, _ in server.asked()].count("/v.pth") == 1 + len(FAST.pauses)


def test_the_server_may_ask_for_a_pause_and_the_bar_tells_rate_and_time(server: Server, tmp_path: Path) -> None:
    table = table_of(server.add("/w.pth", BODY, Fault(status=429, headers={"Retry-After": "1"})), size=len(BODY))
    begin = time.monotonic()
    told = run_fetch(_written(tmp_path, table), tmp_path / "data", ["w"]).communicate(timeout=LONG)[1]
    assert time.monotonic() - begin >= 1
    assert re.search(r"w\.pth from 127\.0\.0\.1: 100%.*/1\.00M \[[0-9:]+<00:00, .*B/s\]", told), told


def test_progress_renews_the_retries(server: Server, tmp_path: Path) -> None:
    """A long download breaks more often than there are pauses; only failures in a row count."""
    url = server.add("/w.pth", noise(3_000_000), *[Fault(cut=300_000)] * (3 * len(FAST.pauses)))
    assert get(tmp_path, table_of(url)).stat().st_size == 3_000_000


@pytest.mark.parametrize("published", [True, False])
def test_a_file_that_changed_between_two_calls_is_not_glued(server: Server, tmp_path: Path, published: bool) -> None:
    new = noise(len(BODY), seed=1)
    url = server.add("/w.pth", BODY, *[Fault(cut=300_000), Fault(status=404)])
    table = table_of(url, **({"sha256": sha256(new)} if published else {}))
    assert "404" in refused(tmp_path, table)
    assert (tmp_path / "torch/hub/checkpoints/w.pth.part").stat().st_size > 0
    server.add("/w.pth", new)
    assert get(tmp_path, table).read_bytes() == new


def test_without_validator_or_hash_a_broken_transfer_starts_anew(server: Server, tmp_path: Path) -> None:
    url = server.add("/w.pth", BODY, Fault(cut=300_000), etag=None)
    assert get(tmp_path, table_of(url)).read_bytes() == BODY
    assert [span for _, span in server.asked()] == ["", ""]


def test_a_server_without_ranges_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    url = server.add("/w.pth", BODY, Fault(cut=300_000), ranges=False)
    assert get(tmp_path, table_of(url, sha256=sha256(BODY))).read_bytes() == BODY


def test_a_wrong_hash_is_refused_and_thrown_away(server: Server, tmp_path: Path) -> None:
    url = server.add("/w.pth", BODY)
    told = refused(tmp_path, table_of(url, sha256="0" * 64))
    assert "w.pth" in told
    assert sha256(BODY) in told
    assert leftovers(tmp_path / "torch/hub/checkpoints/w.pth") == []
    assert "is expected" in refused(tmp_path, table_of(url, sha256_prefix="00000000"))


def test_the_hash_in_the_file_name_is_enough(server: Server, tmp_path: Path) -> None:
    assert get(tmp_path, table_of(server.add("/w.pth", BODY), sha256_prefix=sha256(BODY)[:8])).exists()


def test_another_size_is_refused_before_it_is_downloaded(server: Server, tmp_path: Path) -> None:
    told = refused(tmp_path, table_of(server.add("/w.pth", BODY), size=len(BODY) + 1))
    assert f"{len(BODY)} bytes where {len(BODY) + 1} are expected" in told
    assert len(server.asked()) == 1
    assert leftovers(tmp_path / "torch/hub/checkpoints/w.pth") == []


def test_the_next_mirror_stands_in_for_a_dead_a_wrong_and_a_missing_one(server: Server, tmp_path: Path) -> None:
    with running() as dead:
        gone = dead.url + "/w.pth"
    wrong = server.add("/wrong/w.pth", noise(len(BODY), seed=1))
    right = server.add("/right/w.pth", BODY)
    table = table_of(gone, server.url + "/nothing/w.pth", wrong, right, sha256=sha256(BODY))
    assert get(tmp_path, table).read_bytes() == BODY


def test_a_part_from_one_mirror_is_continued_from_another_only_under_a_published_hash(
    server: Server, tmp_path: Path
) -> None:
    first = server.add("/a/w.pth", BODY, Fault(cut=600_000), Fault(status=404))
    second = server.add("/b/w.pth", BODY)
    get(tmp_path, table_of(first, second, sha256=sha256(BODY)))
    assert server.asked()[-1][1].startswith("bytes=")
    server.add("/a/w.pth", BODY, Fault(cut=600_000), Fault(status=404))
    local_path("w", tmp_path, table_of(first)).unlink()
    get(tmp_path, table_of(first, second))
    assert server.asked()[-1] == ("/b/w.pth", "")


@pytest.mark.parametrize("published", [True, False])
def test_a_server_that_ignores_if_range_glues_no_two_versions(server: Server, tmp_path: Path, published: bool) -> None:
    new = noise(1_000_000, 7)
    known = {"sha256": sha256(new)} if published else {}
    refused(tmp_path, table_of(server.add("/w.pth", BODY, *[Fault(cut=300_000)] * 4, ranges=False), **known))
    server.log.clear()
    assert get(tmp_path, table_of(server.add("/w.pth", new, checks=False), **known)).read_bytes() == new
    assert server.asked() == [("/w.pth", "bytes=262144-"), ("/w.pth", "")]


PAGES = [
    b"<!DOCTYPE html><p>please log in",
    b"\xef\xbb\xbf\n <html>",
    b"<!-- login --><html>",
    b"<?xml version='1.0'?><Error/>",
]


#: What a server answers to every request: headers and body, and words of the sentence that refuses it.
HOSTILE: dict[str, tuple[dict[str, str], bytes, dict[str, object], str]] = {
    "page by type": ({"Content-Type": "text/html; charset=utf-8"}, b"log in", {}, "web page"),
    **{f"page {number}": ({}, page, {}, "web page") for number, page in enumerate(PAGES)},
    "absurd length": ({"Content-Length": "9" * 18}, BODY, {"about": 1_000_000}, "many times more"),
    "unreadable length": ({"Content-Length": "9" * 5000}, BODY, {"sha256": "0" * 64}, "sha256|ended|header"),
    "negative length": ({"Content-Length": "-5"}, BODY, {"sha256": "0" * 64}, "sha256"),
    "another length": ({}, BODY, {"size": 5}, "offers 1000000 bytes where 5 are expected"),
    "endless": ({"Content-Length": "x", "Connection": "close"}, BODY * 5, {"about": 1_000_000}, "sends more than"),
    "compressed, and another file": ({"Content-Encoding": "gzip"}, gzip.compress(BODY), {"sha256": "0" * 64}, "sha256"),
    "compressed in name": ({"Content-Encoding": "gzip"}, BODY, {}, "decode|gzip|header"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_answer_is_one_sentence_and_nothing_is_kept(server: Server, tmp_path: Path, case: str) -> None:
    headers, body, known, said = HOSTILE[case]
    ends = [Fault(cut=len(body))] * 4  # no answer keeps its connection open: a wrong length would wait for more
    url = server.add("/w.pth", body, *ends, headers=headers, etag=None)
    assert re.search(said, refused(tmp_path, table_of(url, **known)))
    good = server.add("/w.pth", BODY)
    assert get(tmp_path, table_of(good, sha256=sha256(BODY))).read_bytes() == BODY


def test_a_compressed_answer_is_unpacked(server: Server, tmp_path: Path) -> None:
    """Nobody asked for it, and the hash is that of the file; its length says nothing, and its parts do not fit."""
    packed = gzip.compress(BODY)
    url = server.add("/w.pth", packed, Fault(cut=300_000), headers={"Content-Encoding": "gzip"})
    assert get(tmp_path, table_of(url, sha256=sha256(BODY))).read_bytes() == BODY


def test_redirects_are_followed_but_not_out_of_the_web(server: Server, tmp_path: Path) -> None:
    server.add("/real/w.pth", BODY)
    url = server.add("/w.pth", b"", redirect="/real/w.pth")
    assert get(tmp_path, table_of(url)).read_bytes() == BODY
    nonsense = (
        "http://",
        "http://:80:90/",
        "http://[::1",
        "http://" + "a" * 70 + ".de/",
        "http://127.0.0.1:99999/w.pth",
    )
    for target in ("file:///etc/hostname", "ftp://127.0.0.1/w.pth", "/w2.pth", *nonsense):
        url = server.add("/w2.pth", b"", redirect=target)
        assert "redirect" in refused(tmp_path / "other", table_of(url)).lower()


def test_without_network_one_sentence_names_file_address_and_what_to_do(tmp_path: Path) -> None:
    with running() as dead:
        url = dead.url + "/w.pth"
    at_once = RetryPolicy(pauses=(-1.0,))  # no pause can be that short: taking one is an error
    with pytest.raises(UserError) as caught:
        fetch_from(table_of(url), ["w"], tmp_path / "data", policy=at_once)
    for part in ("w.pth", url, "refused", "`stablevsr fetch w --from DIR`"):
        assert part in str(caught.value)


def test_a_server_that_says_nothing_is_given_up(server: Server, tmp_path: Path) -> None:
    gate = threading.Event()
    url = server.add("/w.pth", BODY, *[Fault(cut=0, gate=gate)] * 2)
    with pytest.raises(UserError, match="timed out"):
        policy = RetryPolicy(pauses=(0.01,), connect=1.0, read=0.3)
        fetch_from(table_of(url), ["w"], tmp_path, policy=policy)
    gate.set()


def test_files_got_by_hand_are_checked_and_used_without_network(tmp_path: Path) -> None:
    source = tmp_path / "usb"
    source.mkdir()
    table = table_of("http://127.0.0.1:9/w.pth", sha256=sha256(BODY))
    assert "has no w.pth" in refused(tmp_path, table, source=source)
    (source / "w.pth").write_bytes(BODY[:-1])
    assert str(source / "w.pth") in refused(tmp_path, table, source=source)
    (source / "w.pth").write_bytes(BODY)
    assert get(tmp_path, table, source=source).read_bytes() == BODY
    assert (source / "w.pth").read_bytes() == BODY
    with pytest.raises(UserError, match="is no folder"):
        fetch_from(table, ["w"], tmp_path, source=tmp_path / "nowhere")


def test_an_unpublished_hash_is_recorded_and_a_later_difference_refused(server: Server, tmp_path: Path) -> None:
    table = table_of(server.add("/w.pth", BODY))
    path = get(tmp_path, table)
    lock = tmp_path / "cache/stablevsr" / NAME
    assert json.loads(lock.read_text())["w"]["files"]["w.pth"]["sha256"] == sha256(BODY)
    path.unlink()
    server.add("/w.pth", noise(len(BODY), seed=1))
    told = refused(tmp_path, table)
    assert str(lock) in told
    assert sha256(BODY) in told
    kept = json.loads(lock.read_text())
    lock.write_text(json.dumps({**kept, "w": {**kept["w"], "version": "0"}}))  # another version is another file
    assert get(tmp_path, table).exists()


def test_a_file_that_another_program_put_there_is_checked_once(server: Server, tmp_path: Path) -> None:
    table = table_of(server.add("/w.pth", BODY), sha256=sha256(BODY))
    path = local_path("w", tmp_path, table)
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY[:-1] + b"\0")
    with pytest.raises(UserError, match="remove it and fetch again"):
        get(tmp_path, table)
    path.write_bytes(BODY)
    get(tmp_path, table)
    assert is_present("w", tmp_path / "data", table)
    assert server.log == []


def test_a_damaged_record_is_named(server: Server, tmp_path: Path) -> None:
    record = tmp_path / "cache/stablevsr" / NAME
    record.parent.mkdir(parents=True)
    for damaged in ("{", "[]", '{"w": {}}', "\0\0"):
        record.write_text(damaged)
        assert f"{record} is damaged" in refused(tmp_path, table_of(server.add("/w.pth", BODY)))


def test_an_unwritable_place_is_named(server: Server, tmp_path: Path, torch_home: Path) -> None:
    torch_home.write_text("a file where a folder should be")
    with pytest.raises(UserError, match="cannot be written at"):
        get(tmp_path, table_of(server.add("/w.pth", BODY)))


def test_a_disk_without_room_is_noticed_before_the_download(server: Server, tmp_path: Path) -> None:
    told = refused(tmp_path, table_of(server.add("/w.pth", BODY), about=10**18))
    assert "free" in told
    assert server.log == []


def test_hub_addresses_follow_the_endpoint_of_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add("/some/repo/resolve/main/w.pth", BODY)
    monkeypatch.setenv("HF_ENDPOINT", server.url + "/")
    assert get(tmp_path, table_of("https://huggingface.co/some/repo/resolve/main/w.pth")).read_bytes() == BODY


def test_a_hash_that_the_hub_announces_is_compared_before_the_download(server: Server, tmp_path: Path) -> None:
    server.add("/cdn/w.pth", BODY)
    url = server.add("/w.pth", b"", redirect="/cdn/w.pth", headers={"X-Linked-ETag": f'"{sha256(BODY)}"'})
    assert "another sha256" in refused(tmp_path, table_of(url, sha256="0" * 64))
    assert leftovers(tmp_path / "torch/hub/checkpoints/w.pth") == []
    assert get(tmp_path, table_of(url, sha256=sha256(BODY))).read_bytes() == BODY


def test_the_listing_says_what_is_there(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(server.add("/w.pth", BODY), size=len(BODY), licence="BSD", purpose="to be listed")
    monkeypatch.setattr(registry, "load", lambda: table)
    assert [*listing(tmp_path).splitlines()[1].split()] == ["w", "1.0", "MB", "no", "BSD", "to", "be", "listed"]
    get(tmp_path, table)
    assert "yes" in listing(tmp_path).splitlines()[1].split()


def _written(tmp_path: Path, table: dict[str, registry.Row]) -> Path:
    file = tmp_path / "table.yaml"
    rows = {name: one.model_dump(mode="json", exclude={"name"}) for name, one in table.items()}
    file.write_text(yaml.safe_dump(rows))
    return file


def test_a_full_disk_is_one_sentence_and_the_next_call_goes_on(server: Server, tmp_path: Path) -> None:
    table = table_of(server.add("/w.pth", BODY), sha256=sha256(BODY))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))"
    process = run_fetch(_written(tmp_path, table), tmp_path / "data", ["w"], limit)
    told = process.communicate(timeout=LONG)[1]
    assert process.returncode == 1
    assert "UserError: no room is left on the disk" in told
    assert "Traceback" not in told
    part = tmp_path / "torch/hub/checkpoints/w.pth.part"
    assert 0 < part.stat().st_size <= 400_000
    assert get(tmp_path, table).read_bytes() == BODY
    assert server.asked()[-1][1].startswith("bytes=")


def test_a_device_without_room_is_one_sentence(server: Server, tmp_path: Path) -> None:
    table = table_of(server.add("/w.pth", BODY))
    part = tmp_path / "torch/hub/checkpoints/w.pth.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")  # every write to it says that no space is left
    assert "no room is left on the disk of" in refused(tmp_path, table)
    part.unlink()
    assert get(tmp_path, table).read_bytes() == BODY


def test_a_killed_download_goes_on_and_is_right(server: Server, tmp_path: Path) -> None:
    gate = threading.Event()
    table = table_of(server.add("/w.pth", BODY, Fault(cut=600_000, gate=gate)), sha256=sha256(BODY))
    process = run_fetch(_written(tmp_path, table), tmp_path / "data", ["w"])
    part = tmp_path / "torch/hub/checkpoints/w.pth.part"
    wait_until(lambda: part.exists() and part.stat().st_size > 200_000, "half of the file")
    process.kill()
    process.communicate(timeout=LONG)
    gate.set()
    assert not part.with_name("w.pth").exists()
    had = part.stat().st_size
    assert get(tmp_path, table).read_bytes() == BODY
    assert server.asked()[-1] == ("/w.pth", f"bytes={had}-")
    assert leftovers(part) == ["w.pth"]


def test_two_processes_download_once(server: Server, tmp_path: Path) -> None:
    gate = threading.Event()
    table = table_of(server.add("/w.pth", BODY, Fault(cut=600_000, gate=gate)), sha256=sha256(BODY))
    file = _written(tmp_path, table)
    first = run_fetch(file, tmp_path / "data", ["w"])
    wait_until(lambda: server.log, "the first process")
    second = run_fetch(file, tmp_path / "data", ["w"])
    assert second.stderr is not None
    line = second.stderr.readline()
    gate.set()
    assert line == f"waiting for process {first.pid}, which is still fetching w\n"
    told = [process.communicate(timeout=LONG)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], told
    assert "already in" in told[1]
    assert len(server.asked()) == 2  # the broken transfer and its rest, both by the first process
    assert (tmp_path / "torch/hub/checkpoints/w.pth").read_bytes() == BODY


class _DowngradingHost(HTTPAdapter):
    """Answers for https without TLS: a redirect to plain http."""

    target = ""

    def send(self, request: requests.PreparedRequest, *args: object, **options: object) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer.url, answer.request = 302, str(request.url), request
        answer.headers["Location"] = str(request.url).replace("https://secure.test", self.target)
        answer.raw = HTTPResponse(BytesIO(b""), preload_content=False)
        return answer


def test_a_redirect_from_https_to_plain_http_is_refused(server: Server, tmp_path: Path) -> None:
    server.add("/w.pth", BODY)
    host = _DowngradingHost()
    host.target = server.url
    with new_session() as session:
        session.mount("https://secure.test", host)
        with pytest.raises(TransferError, match="from https to plain http"):
            source = Source(session, "https://secure.test/w.pth", registry.Published(), FAST)
            download(source, tmp_path / "w.part", lambda done: None)
    assert not (tmp_path / "w.part").exists()


def test_weights_that_are_missing_are_downloaded_where_they_are_needed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for RAFT in `stablevsr upscale`, whose model comes from the hub without a command of its own."""
    monkeypatch.chdir(tmp_path)
    table = table_of(server.add("/w.pth", BODY), sha256=sha256(BODY))
    with patch.object(registry, "load", lambda: table):
        assert fetched_weights("w").read_bytes() == BODY
        assert fetched_weights("w").read_bytes() == BODY
    assert len(server.asked()) == 1
