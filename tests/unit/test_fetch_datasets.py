"""Datasets: zips in the published layouts, whole and by single clips over ranges, truncated, hostile, interrupted."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from fetch_datasets import (
    LOW,
    REDS4,
    SHARP,
    files,
    get,
    layout,
    low_zip,
    parse,
    reds_rows,
    refused,
    serve_reds,
    sharp_zip,
)
from fetch_server import (
    CLIPS,
    Fault,
    Server,
    is_present,
    png,
    reds_entries,
    row,
    running,
    zip_of,
)

from stablevsr.data.downloads import registry
from stablevsr.data.layouts import load_sequences


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as one:
        yield one


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
