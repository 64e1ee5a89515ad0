"""Datasets: zips in the published layouts, whole and by single clips over ranges, truncated, hostile, interrupted."""

from __future__ import annotations

import copy
import stat
import threading
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import yaml
from fetch_server import (
    CLIPS,
    LONG,
    Fault,
    Server,
    fetch_from,
    is_present,
    noise,
    png,
    reds_entries,
    row,
    run_fetch,
    running,
    sha256,
    wait_until,
    zip_of,
)

from stablevsr.data.downloads import registry
from stablevsr.data.downloads.record import DownloadRecord
from stablevsr.data.layouts import load_sequences
from stablevsr.runtime.errors import UserError

SHARP, LOW = (32, 16), (8, 4)  # width and height, x4 apart
REDS4 = ["000", "011", "015", "020"]


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as one:
        yield one


def layout(root: str, size: tuple[int, int], sequences: list[str], frames: int = 3) -> dict[str, object]:
    return {"root": root, "sequences": sequences, "frames": frames, "width": size[0], "height": size[1]}


def reds_rows(sharp: list[str], low: list[str], **fields: object) -> dict[str, dict[str, object]]:
    """The three rows of REDS, with seven clips instead of 240."""
    places = {"into": "REDS", "outer": "train"}
    low_root = "train_sharp_bicubic/X4"
    return {
        **row("sharp", "dataset", urls=sharp, contents=[layout("train_sharp", SHARP, list(CLIPS))],
              destination={"how": "unpack", "keep": ["train_sharp"], **places}, **fields),
        **row("low", "dataset", urls=low, contents=[layout(low_root, LOW, list(CLIPS))],
              destination={"how": "unpack", "keep": ["train_sharp_bicubic"], **places}),
        **row("reds4", "dataset", destination={"how": "pick", "sources": ["sharp", "low"], **places},
              contents=[layout("train_sharp", SHARP, REDS4), layout(low_root, LOW, REDS4)]),
    }  # fmt: skip


def parse(rows: dict[str, dict[str, object]]) -> dict[str, registry.Row]:
    return registry.parse(yaml.safe_dump(rows))


def sharp_zip(outer: str = "train/") -> bytes:
    return zip_of({"train/": b"", **reds_entries("train_sharp", *SHARP, outer)})


def low_zip(outer: str = "train/") -> bytes:
    return zip_of(reds_entries("train_sharp_bicubic/X4", *LOW, outer))


def serve_reds(server: Server, *faults: Fault, outer: str = "train/", **options: object) -> dict[str, registry.Row]:
    sharp = server.add("/train_sharp.zip", sharp_zip(outer), *faults, **options)
    return parse(reds_rows([sharp], [server.add("/train_sharp_bicubic.zip", low_zip(outer))]))


def get(names: list[str], data: Path, table: dict[str, registry.Row], source: Path | None = None) -> None:
    fetch_from(table, names, data, source=source)


def refused(names: list[str], data: Path, table: dict[str, registry.Row], source: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        get(names, data, table, source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files(folder: Path) -> list[str]:
    """Every file but the flocks and the record of hashes."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.endswith((".lock", ".lock.json")))


@pytest.mark.parametrize("outer", ["train/", ""])
def test_a_whole_dataset_lands_in_its_layout_and_a_second_call_asks_nothing(
    server: Server, tmp_path: Path, outer: str
) -> None:
    table = serve_reds(server, outer=outer)
    get(["sharp", "low"], tmp_path, table)
    wanted = [f"REDS/train_sharp/{clip}/{frame:08d}.png" for clip in CLIPS for frame in range(3)]
    wanted += [f"REDS/train_sharp_bicubic/X4/{clip}/{frame:08d}.png" for clip in CLIPS for frame in range(3)]
    assert files(tmp_path) == sorted(wanted)  # and neither zips nor parts
    frame = reds_entries("train_sharp", *SHARP)["train/train_sharp/011/00000001.png"]
    assert (tmp_path / "REDS/train_sharp/011/00000001.png").read_bytes() == frame
    asked = len(server.log)
    get(["sharp", "low", "reds4"], tmp_path, table)  # REDS4 is a part of what is there
    assert len(server.log) == asked


@pytest.mark.parametrize("outer", ["train/", ""])
def test_reds4_alone_is_read_out_of_the_remote_zips(server: Server, tmp_path: Path, outer: str) -> None:
    table = serve_reds(server, outer=outer)
    get(["reds4"], tmp_path, table)
    wanted = [
        f"REDS/{root}/{clip}/{frame:08d}.png"
        for root in ("train_sharp", "train_sharp_bicubic/X4")
        for clip in REDS4
        for frame in range(3)
    ]
    assert files(tmp_path) == sorted(wanted)
    for root, size in (("train_sharp", SHARP), ("train_sharp_bicubic/X4", LOW)):
        for name, data in reds_entries(root, *size, outer="").items():
            if name.split("/")[-2] in REDS4:
                assert (tmp_path / "REDS" / name).read_bytes() == data
    bulk = 2 * 3 * 3 * 150_000  # the frames of 001, 014 and 021 in both zips
    assert server.sent < bulk / 10
    assert len(server.log) < 20, "neighbouring entries share a request"
    asked = len(server.log)
    get(["reds4"], tmp_path, table)
    assert len(server.log) == asked


def test_entries_with_data_descriptors_compression_and_comment_are_read_over_ranges(
    server: Server, tmp_path: Path
) -> None:
    """Zips written as a stream put sizes after the data; the published ones may be of any kind."""

    class Pipe(BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"a comment at the end"
        for name, data in reds_entries("train_sharp", *SHARP).items():
            archive.writestr(name, data)
    table = parse(reds_rows([server.add("/s.zip", pipe.getvalue())], [server.add("/l.zip", low_zip())]))
    get(["reds4"], tmp_path, table)
    assert is_present("reds4", tmp_path, table)


def test_a_broken_range_is_taken_up_at_the_same_byte(server: Server, tmp_path: Path) -> None:
    faults = [Fault()] * 3 + [Fault(cut=3000), Fault(status=500), Fault(cut=2000)]
    table = serve_reds(server, *faults)
    get(["reds4"], tmp_path, table)
    assert is_present("reds4", tmp_path, table)
    assert not server.files["/train_sharp.zip"].faults


def test_clips_that_are_there_are_not_read_again(server: Server, tmp_path: Path) -> None:
    table = serve_reds(server)
    get(["reds4"], tmp_path, table)
    (tmp_path / "REDS/train_sharp/015/00000001.png").unlink()
    sent = server.sent
    get(["reds4"], tmp_path, table)
    assert is_present("reds4", tmp_path, table)
    directory = len(sharp_zip()) + len(low_zip()) - sum(
        len(data) for root, size in (("train_sharp", SHARP), ("train_sharp_bicubic/X4", LOW))
        for data in reds_entries(root, *size).values()
    )  # fmt: skip
    assert server.sent - sent < directory + 10_000


def test_a_zip_that_changes_while_clips_are_read_is_refused(server: Server, tmp_path: Path) -> None:
    table = serve_reds(server, *[Fault()] * 3, Fault(cut=3000), Fault(headers={"ETag": '"new"'}))
    told = refused(["reds4"], tmp_path, table)
    assert "changed while it was read" in told


def test_a_mirror_without_ranges_is_passed_over_for_clips(server: Server, tmp_path: Path) -> None:
    whole = server.add("/whole.zip", sharp_zip(), ranges=False)
    rows = reds_rows([whole, server.add("/s.zip", sharp_zip())], [server.add("/l.zip", low_zip())])
    get(["reds4"], tmp_path, parse(rows))
    assert is_present("reds4", tmp_path, parse(rows))
    told = refused(["reds4"], tmp_path / "other", parse(reds_rows([whole], [whole])))
    assert "range requests" in told
    assert "--from DIR" in told


def test_a_remote_zip_of_another_size_is_refused(server: Server, tmp_path: Path) -> None:
    rows = reds_rows([server.add("/s.zip", sharp_zip())], [server.add("/l.zip", low_zip())], size=12345)
    assert "12345 are expected" in refused(["reds4"], tmp_path, parse(rows))


def test_a_wrong_crc_in_a_remote_zip_is_refused_and_leaves_no_wrong_frame(server: Server, tmp_path: Path) -> None:
    body = bytearray(sharp_zip())
    frame = reds_entries("train_sharp", *SHARP)["train/train_sharp/011/00000001.png"]
    body[bytes(body).index(frame) + len(frame) // 2] ^= 1
    rows = reds_rows([server.add("/s.zip", bytes(body))], [server.add("/l.zip", low_zip())])
    told = refused(["reds4"], tmp_path, parse(rows))
    assert "CRC" in told
    assert "00000001.png" in told
    assert files(tmp_path / "REDS/train_sharp/011") == ["00000000.png"]


def test_other_frames_than_first_recorded_are_refused(server: Server, tmp_path: Path) -> None:
    get(["reds4"], tmp_path, serve_reds(server))
    (tmp_path / "REDS/train_sharp/000/00000000.png").unlink()
    changed = reds_entries("train_sharp", *SHARP)
    changed["train/train_sharp/000/00000000.png"] = png(*SHARP, seed=9999)
    rows = reds_rows([server.add("/s.zip", zip_of(changed))], [server.add("/l.zip", low_zip())])
    for _ in range(2):
        assert "differ from those first fetched" in refused(["reds4"], tmp_path, parse(rows))
        assert not is_present("reds4", tmp_path, parse(rows))
    get(["reds4"], tmp_path, serve_reds(server))  # the first ones again
    assert is_present("reds4", tmp_path, parse(rows))


def test_clips_out_of_zips_got_by_hand(server: Server, tmp_path: Path) -> None:
    (tmp_path / "usb").mkdir()
    (tmp_path / "usb/train_sharp.zip").write_bytes(sharp_zip())
    table = serve_reds(server)
    told = refused(["reds4"], tmp_path / "data", table, tmp_path / "usb")
    assert "has no train_sharp_bicubic.zip" in told
    (tmp_path / "usb/train_sharp_bicubic.zip").write_bytes(low_zip())
    get(["reds4"], tmp_path / "data", table, tmp_path / "usb")
    assert is_present("reds4", tmp_path / "data", table)
    assert server.log == []


def vimeo_rows(url: str, test_url: str) -> dict[str, dict[str, object]]:
    both = {"sep_trainlist.txt": 3, "sep_testlist.txt": 2}
    shape = {"root": "sequences", "frames": 7, "width": 16, "height": 8}
    whole, part = ["sequences", *both], ["sequences", "sep_testlist.txt"]
    return {
        **row("vimeo90k", "dataset", urls=[url], destination={"how": "unpack", "into": "vimeo90k", "keep": whole},
              contents=[{**shape, "lists": both}]),
        **row("vimeo90k_test", "dataset", urls=[test_url],
              destination={"how": "unpack", "into": "vimeo90k", "keep": part},
              contents=[{**shape, "lists": {"sep_testlist.txt": 2}}]),
    }  # fmt: skip


REGROUPED = ("reds_train_sharp", "reds_train_sharp_bicubic", "reds_val_sharp", "reds_val_sharp_bicubic")


def small_reds(server: Server) -> dict[str, registry.Row]:
    """The packaged rows of the 266-clip regrouping with seven tiny clips each, served from here."""
    rows = {}
    for name in REGROUPED:
        one = registry.get(name)
        root = one.contents[0].root
        size = LOW if "bicubic" in name else SHARP
        url = server.add(f"/{name}.zip", zip_of(reds_entries(root, *size, outer=f"{root.partition('_')[0]}/")))
        rows |= row(
            name,
            "dataset",
            urls=[url],
            destination=one.destination.model_dump(),
            contents=[layout(root, size, [*CLIPS])],
        )
    return parse(rows)


def test_the_regrouping_loads_what_its_rows_fetch(server: Server, tmp_path: Path) -> None:
    get(list(REGROUPED), tmp_path, small_reds(server))
    clips = load_sequences("reds", tmp_path / "REDS", "train_regrouped")
    assert [clip.name for clip in clips] == ["001", "014", "021", "240", "241", "251", "254", "255", "260", "261"]
    assert clips[4].gt[0] == tmp_path / "REDS/val_sharp/001/00000000.png"
    assert clips[4].lr[2] == tmp_path / "REDS/val_sharp_bicubic/X4/001/00000002.png"


TRAIN, TEST = ["00001/0001", "00001/0002", "00002/0001"], ["00001/0266", "00002/0005"]


def vimeo_zip(folder: str, names: list[str], lists: dict[str, list[str]]) -> bytes:
    entries = {f"{folder}/readme.txt": b"hello", f"__MACOSX/{folder}/sequences/00001/._0266": b"shadow"}
    entries |= {f"{folder}/{file}": "".join(f"{n}\n" for n in listed).encode() for file, listed in lists.items()}
    for seed, name in enumerate(names):
        entries |= {f"{folder}/sequences/{name}/im{i}.png": png(16, 8, 10 * seed + i) for i in range(1, 8)}
        entries[f"{folder}/sequences/{name}/.DS_Store"] = b"junk"
    return zip_of(entries)


def test_vimeo_lands_as_distributed(server: Server, tmp_path: Path) -> None:
    lists = {"sep_trainlist.txt": TRAIN, "sep_testlist.txt": TEST}
    # The archive holds more sequences than its lists name, as the published one does.
    url = server.add("/vimeo_septuplet.zip", vimeo_zip("vimeo_septuplet", [*TRAIN, *TEST, "00002/0999"], lists))
    table = parse(vimeo_rows(url, url))
    get(["vimeo90k"], tmp_path, table)
    names = files(tmp_path / "vimeo90k")
    assert "sequences/00001/0266/im1.png" in names
    assert {n for n in names if not n.startswith("sequences/")} == set(lists)
    assert len(names) == 6 * 7 + 2
    asked = len(server.log)
    get(["vimeo90k_test"], tmp_path, table)
    assert len(server.log) == asked, "the test set is a part of it"


@pytest.mark.parametrize("lists", [{}, {"sep_testlist.txt": TEST}])
def test_the_vimeo_test_set_alone_has_its_list_even_if_the_zip_lacks_it(
    server: Server, tmp_path: Path, lists: dict[str, list[str]]
) -> None:
    url = server.add("/vimeo_test_clean.zip", vimeo_zip("vimeo_test_clean", TEST, lists))
    table = parse(vimeo_rows(url, url))
    get(["vimeo90k_test"], tmp_path, table)
    assert (tmp_path / "vimeo90k/sep_testlist.txt").read_text().split() == TEST
    assert is_present("vimeo90k_test", tmp_path, table)
    assert not is_present("vimeo90k", tmp_path, table)


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


def test_a_zip_of_the_users_in_the_data_folder_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "REDS").mkdir()
    (tmp_path / "REDS/train_sharp.zip").write_bytes(b"some other use of the name")
    get(["sharp"], tmp_path, serve_reds(server))
    assert (tmp_path / "REDS/train_sharp.zip").read_bytes() == b"some other use of the name"


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


def test_a_zip_that_lies_about_a_size_leaves_no_frame_behind(server: Server, tmp_path: Path) -> None:
    body = bytearray(zip_of({**reds_entries("train_sharp", *SHARP), "train_sharp/021/x.png": noise(100)}))
    claimed = bytes(body).rindex(b"PK\x01\x02") + 24  # "uncompressed size" in the directory's last entry
    body[claimed : claimed + 4] = (0xFFFFFFFE).to_bytes(4, "little")
    url = server.add("/s.zip", bytes(body))
    told = refused(["sharp"], tmp_path, parse(reds_rows([url], [url])))
    assert "bytes unpacked" in told
    assert not list(tmp_path.glob("REDS/train_sharp/021/*x.png*"))
