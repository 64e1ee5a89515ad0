"""Archives that are damaged, hostile or incomplete, and files that are in the way."""

from __future__ import annotations

import copy
import stat
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from fetch_datasets import LOW, SHARP, files, get, low_zip, parse, reds_rows, refused, serve_reds, sharp_zip
from fetch_server import (
    Server,
    is_present,
    noise,
    png,
    reds_entries,
    running,
    sha256,
    zip_of,
)

from stablevsr.runtime.errors import UserError


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as one:
        yield one


def _sharp_with(frame: str, data: bytes | None) -> bytes:
    """A REDS zip with one frame replaced or left out."""
    entries = reds_entries("train_sharp", *SHARP) | {f"train/train_sharp/{frame}": data}
    return zip_of({name: content for name, content in entries.items() if content is not None})


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (_sharp_with("014/00000002.png", None), "014 has 2 frames where 3 are expected"),
        (_sharp_with("015/00000002.png", png(*LOW, seed=1)), "8x4 pixels where 32x16 are expected"),
        (_sharp_with("015/00000002.png", b"with a right checksum"), "015/00000002.png is not a PNG image"),
        (zip_of({}), "is missing"),
    ],
)
def test_an_incomplete_or_differently_sized_dataset_is_refused_again_and_again(
    server: Server, tmp_path: Path, body: bytes, told: str
) -> None:
    table = parse(reds_rows([server.add("/s.zip", body)], ["http://127.0.0.1:9/l.zip"]))
    for asked in (1, 2):
        message = refused(["sharp"], tmp_path, table)
        assert told in message and "it was removed, fetch again" in message
        assert len(server.asked()) == asked, "the refused archive was not kept"
        assert not is_present("sharp", tmp_path, table)
    (tmp_path / "usb").mkdir()
    (tmp_path / "usb/s.zip").write_bytes(body)
    assert "download s.zip again" in refused(["sharp"], tmp_path, table, tmp_path / "usb")
    server.add("/s.zip", sharp_zip())
    get(["sharp"], tmp_path, table)
    assert is_present("sharp", tmp_path, table)


def test_what_does_not_belong_into_the_folder_is_named_and_the_published_zip_is_not_downloaded_again(
    server: Server, tmp_path: Path
) -> None:
    body = sharp_zip()
    table = parse(reds_rows([server.add("/s.zip", body)], ["http://127.0.0.1:9/l.zip"], sha256=sha256(body)))
    extra = tmp_path / "REDS/train_sharp/000/copy.png"
    extra.parent.mkdir(parents=True)
    extra.write_bytes(png(*SHARP, seed=1))
    for _ in range(2):
        told = refused(["sharp"], tmp_path, table)
        assert "000 has 4 frames where 3 are expected" in told and "that are not part of the set" in told
    extra.unlink()
    get(["sharp"], tmp_path, table)
    assert len(server.asked()) == 1
    assert is_present("sharp", tmp_path, table)
    assert not list(tmp_path.glob("REDS/.*.zip"))


def test_a_truncated_zip_is_one_sentence_and_thrown_away(server: Server, tmp_path: Path) -> None:
    url = server.add("/s.zip", sharp_zip()[:-2000])  # as it is on the server: no transfer was broken
    table = parse(reds_rows([url], [url]))
    told = refused(["sharp"], tmp_path, table)
    assert "s.zip is truncated or damaged" in told
    assert files(tmp_path) == []
    server.add("/s.zip", sharp_zip())  # mended by the publisher: the damaged one's hash was not recorded
    get(["sharp"], tmp_path, table)
    assert is_present("sharp", tmp_path, table)


def test_a_truncated_zip_got_by_hand_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s.zip").write_bytes(sharp_zip()[:-2000])
    table = parse(reds_rows(["http://127.0.0.1:9/s.zip"], ["http://127.0.0.1:9/l.zip"]))
    told = refused(["sharp"], tmp_path / "data", table, tmp_path)
    assert f"{tmp_path}/s.zip is truncated or damaged" in told
    assert (tmp_path / "s.zip").exists()


def _hostile(name: str, mode: int = stat.S_IFREG | 0o644, flags: int = 0) -> bytes:
    """A good REDS zip with one more entry."""
    info = zipfile.ZipInfo("placeholder")
    info.filename, info.external_attr = name, mode << 16
    stream = BytesIO(sharp_zip())
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(info, b"/etc/passwd")
        info.flag_bits |= flags
    return stream.getvalue()


def _beyond() -> bytes:
    """A REDS zip whose directory places its first entry behind the directory itself."""
    body = bytearray(sharp_zip())
    first = body.index(b"PK\x01\x02", body.index(b"PK\x01\x02") + 1)  # the first one is a folder
    body[first + 42 : first + 46] = (len(body) - 30).to_bytes(4, "little")
    return bytes(body)


def _bomb() -> bytes:
    """A good REDS zip with an entry of 200 MB that compresses to 200 kB."""
    stream = BytesIO(sharp_zip())
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/train_sharp/000/zeros.png", bytes(200_000_000))
    return stream.getvalue()


def _overlapping() -> bytes:
    """A good REDS zip with an entry that begins inside the one before it."""
    stream = BytesIO(sharp_zip())
    with zipfile.ZipFile(stream, "a") as archive:
        first = next(info for info in archive.infolist() if info.file_size)
        twin = copy.copy(first)
        twin.filename, twin.header_offset = "train/train_sharp/000/twin.png", first.header_offset + 1
        archive.filelist.append(twin)
        archive.NameToInfo[twin.filename] = twin
        archive._didModify = True
    return stream.getvalue()


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        (_hostile("../outside.png"), "climbs out"),
        (_hostile("train/train_sharp/000/../../../../outside.png"), "climbs out"),
        (_hostile("/train_sharp/outside.png"), "absolute"),
        (_hostile("train\\train_sharp\\..\\outside.png"), "absolute or foreign"),
        (_hostile("C:/train_sharp/outside.png"), "absolute or foreign"),
        (_hostile("train/train_sharp/000/link.png", stat.S_IFLNK | 0o777), "link"),
        (_hostile("readme_link", stat.S_IFLNK | 0o777), "link"),  # unwanted, and still a reason not to trust the rest
        (_hostile("train/train_sharp/000/pipe.png", stat.S_IFIFO | 0o644), "device"),
        (_hostile("train/train_sharp/000/secret.png", flags=0x1), "encrypted"),
        (_hostile("other/train_sharp/000/00000000.png"), "both be written to"),
        (_hostile("train/train_sharp/000"), "is a file and the folder of another"),
        (_hostile("train/train_sharp/000/00000000.png/x.png"), "is a file and the folder of another"),
        (_hostile(f"train/train_sharp/000/{'x' * 300}.png"), "a name of more than 200 bytes"),
        (_beyond(), "lies beyond its entries"),
        (_bomb(), "bytes unpacked"),
        (_overlapping(), "share bytes"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["sharp", "reds4"])
def test_a_hostile_archive_is_refused_before_anything_is_written(
    server: Server, tmp_path: Path, archive: bytes, told: str, name: str
) -> None:
    table = parse(reds_rows([server.add("/s.zip", archive)], [server.add("/l.zip", low_zip())]))
    for _ in range(2):
        assert told in refused([name], tmp_path / "data", table)
        assert files(tmp_path) == [], "neither frames nor the refused archive"
    server.add("/s.zip", sharp_zip())
    get([name], tmp_path / "data", table)
    assert is_present(name, tmp_path / "data", table)


@pytest.mark.parametrize("name", ["sharp", "reds4"])
def test_a_surplus_frame_of_a_refused_archive_is_not_in_the_way_of_the_right_one(
    server: Server, tmp_path: Path, name: str
) -> None:
    surplus = _sharp_with("000/A.png", png(*SHARP, seed=1))
    table = parse(reds_rows([server.add("/s.zip", surplus)], [server.add("/l.zip", low_zip())]))
    for _ in range(2):
        assert refused([name], tmp_path, table).endswith("000 has 4 frames where 3 are expected: " + (
            "it was removed, fetch again" if name == "sharp" else "fetch again"))  # fmt: skip
    server.add("/s.zip", sharp_zip())
    get([name], tmp_path, table)
    assert is_present(name, tmp_path, table)


@pytest.mark.parametrize("name", ["sharp", "reds4"])
def test_a_frame_of_somebody_else_is_named(server: Server, tmp_path: Path, name: str) -> None:
    mine = tmp_path / "REDS/train_sharp/000/mine.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(png(*SHARP, seed=1))
    for _ in range(2):
        assert f"fetch again after removing {mine}, which is not of it" in refused([name], tmp_path, serve_reds(server))
    mine.unlink()
    get([name], tmp_path, serve_reds(server))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_in_compressed_entries_is_refused_again_and_again_and_nothing_is_kept(
    server: Server, tmp_path: Path, method: int
) -> None:
    body = bytearray(zip_of(reds_entries("train_sharp", *SHARP), method))
    for place in range(600, 1000):
        body[place] ^= 0x5A
    table = parse(reds_rows([server.add("/s.zip", bytes(body))], ["http://127.0.0.1:9/l.zip"]))
    for _ in range(2):
        told = refused(["sharp"], tmp_path, table)
        assert "damaged" in told and "it was removed, fetch again" in told
        assert [name for name in files(tmp_path) if not name.endswith(".png")] == []
    server.add("/s.zip", zip_of(reds_entries("train_sharp", *SHARP), method))
    get(["sharp"], tmp_path, table)


def test_a_zip_put_into_the_data_folder_and_named_with_from_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "REDS").mkdir()
    (tmp_path / "REDS/s.zip").write_bytes(sharp_zip())
    table = parse(reds_rows(["http://127.0.0.1:9/s.zip"], ["http://127.0.0.1:9/l.zip"]))
    get(["sharp"], tmp_path, table, tmp_path / "REDS")
    assert is_present("sharp", tmp_path, table)
    assert (tmp_path / "REDS/s.zip").exists()


def test_a_complete_dataset_that_may_not_be_written_to_is_fine(server: Server, tmp_path: Path) -> None:
    table = serve_reds(server)
    get(["reds4"], tmp_path, table)
    (tmp_path / "REDS/.fetch.lock").unlink()
    (tmp_path / "REDS/.fetch.lock").mkdir()  # opening the lock for writing fails, for root too
    get(["reds4"], tmp_path, table)
    with pytest.raises(UserError, match="cannot be written"):
        get(["sharp"], tmp_path, table)


def test_no_network_names_both_zips_of_reds4(tmp_path: Path) -> None:
    with running() as dead:
        table = parse(reds_rows([dead.url + "/train_sharp.zip"], [dead.url + "/train_sharp_bicubic.zip"]))
    told = refused(["reds4"], tmp_path, table)
    for part in (f"{dead.url}/train_sharp.zip", "train_sharp_bicubic.zip", "`stablevsr fetch reds4 --from DIR`"):
        assert part in told


def test_a_zip_of_the_users_in_the_data_folder_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "REDS").mkdir()
    (tmp_path / "REDS/train_sharp.zip").write_bytes(b"some other use of the name")
    get(["sharp"], tmp_path, serve_reds(server))
    assert (tmp_path / "REDS/train_sharp.zip").read_bytes() == b"some other use of the name"


def test_a_zip_that_lies_about_a_size_leaves_no_frame_behind(server: Server, tmp_path: Path) -> None:
    body = bytearray(zip_of({**reds_entries("train_sharp", *SHARP), "train_sharp/021/x.png": noise(100)}))
    claimed = bytes(body).rindex(b"PK\x01\x02") + 24  # "uncompressed size" in the directory's last entry
    body[claimed : claimed + 4] = (0xFFFFFFFE).to_bytes(4, "little")
    url = server.add("/s.zip", bytes(body))
    told = refused(["sharp"], tmp_path, parse(reds_rows([url], [url])))
    assert "bytes unpacked" in told
    assert not list(tmp_path.glob("REDS/train_sharp/021/*x.png*"))
