"""Faults of the input of ``evaluate``: each is one sentence, and nothing is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluate_folders import COUNTS, SIZE, clip, write
from PIL import Image

from stablevsr.data.frames import write_frame
from stablevsr.metrics.evaluate import evaluate
from stablevsr.metrics.registry import METRICS
from stablevsr.metrics.tables import read_notes
from stablevsr.runtime.errors import UserError


@pytest.fixture
def gt(tmp_path: Path) -> Path:
    return write(tmp_path / "gt", {name: clip(n, count) for n, (name, count) in enumerate(COUNTS.items())})


@pytest.fixture
def sr(tmp_path: Path) -> Path:
    return write(tmp_path / "sr", {"a": clip(0, 5, 0.05), "b": clip(1, 3, 0.05)})


def grey(folder: Path) -> None:
    Image.open(folder / "a" / "0001.png").convert("L").save(folder / "a" / "0001.png")


def deep(folder: Path) -> None:
    """A 16-bit RGB PNG, which Pillow reads (as 8 bits) but does not write."""
    import cv2

    cv2.imwrite(str(folder / "a" / "0001.png"), np.full((*SIZE, 3), 40000, np.uint16))


def cut(folder: Path) -> None:
    file = folder / "b" / "0002.png"
    file.write_bytes(file.read_bytes()[:-20])


def flip(folder: Path) -> None:
    file = folder / "b" / "0002.png"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(bytes(data))


def resize(folder: Path) -> None:
    write_frame(folder / "a" / "0004.png", np.zeros((20, 24, 3), np.uint8))


def transparent(folder: Path) -> None:
    Image.new("RGBA", (SIZE[1], SIZE[0]), (1, 2, 3, 100)).save(folder / "a" / "0000.png")


def animated(folder: Path) -> None:
    image = Image.open(folder / "a" / "0000.png")
    image.save(folder / "a" / "0000.png", save_all=True, append_images=[image.rotate(90)])


def turned(folder: Path) -> None:
    image = Image.open(folder / "a" / "0001.png")
    image.getexif()[0x0112] = 6
    image.save(folder / "a" / "0001.png", exif=image.getexif())


def bomb(folder: Path) -> None:
    image = Image.new("P", (15000, 15000))
    image.putpalette([0, 0, 0] * 256)
    image.save(folder / "a" / "0001.png")


def pipe(folder: Path) -> None:
    (folder / "a" / "0001.png").unlink()
    os.mkfifo(folder / "a" / "0001.png")


def strange_name(folder: Path) -> None:
    (folder / "b").rename(folder / os.fsdecode(b"caf\xe9"))


def lose_frames(folder: Path) -> None:
    for frame in ("0001", "0003"):
        (folder / "a" / f"{frame}.png").unlink()


def lose_sequence(folder: Path) -> None:
    (folder / "b").rename(folder / "bb")


def empty_sequence(folder: Path) -> None:
    for file in (folder / "b").iterdir():
        file.unlink()


def twice(folder: Path) -> None:
    Image.open(folder / "a" / "0001.png").save(folder / "a" / "0001.bmp")


FAULTS: list[tuple[Callable[[Path], None], str]] = [
    (grey, r"a/0001\.png is grey"),
    (deep, r"a/0001\.png has more than 8 bits"),
    (cut, r"b/0002\.png cannot be read"),
    (flip, r"b/0002\.png cannot be read"),
    (resize, r"frames have the wrong size .*a/0004\.png is 24x20 instead of 48x40"),
    (transparent, r"a/0000\.png has transparent pixels"),
    (animated, r"a/0000\.png holds 2 pictures \(PNG\)"),
    (turned, r"a/0001\.png is 40x48 instead of 48x40"),
    (bomb, r"a/0001\.png is refused \(.*225000000 pixels"),
    (pipe, r"a/0001\.png is a folder, pipe or device"),
    (strange_name, r"the name 'caf\\xe9' in .* is not UTF-8"),
    (lose_frames, r"sr lacks 2 of the 8 frames of .*gt \(a/0001, a/0003\)"),
    (lose_sequence, r"sr lacks 1 of the 2 sequences of .*gt \(b\) and .*sr holds 1 sequences that .*gt lacks \(bb\)"),
    (empty_sequence, r"sr/b holds no frames"),
    (twice, r"holds both 0001\.bmp and 0001\.png|holds both 0001\.png and 0001\.bmp"),
]


@pytest.mark.parametrize(("damage", "said"), FAULTS, ids=[damage.__name__ for damage, _ in FAULTS])
def test_faults_of_the_input_are_named(
    gt: Path, sr: Path, tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(sr)
    out = tmp_path / "out.csv"
    with pytest.raises(UserError, match=said):
        evaluate(gt, {out: sr}, ["psnr"])
    assert not out.exists()
    assert not Path(f"{out}.json").exists()


def test_ground_truth_of_several_sizes_is_not_blamed_on_the_outputs(gt: Path, sr: Path, tmp_path: Path) -> None:
    resize(gt)
    said = r"frames have the wrong size \(.*gt/a/0004\.png is 24x20 instead of 48x40\): the frames of a sequence must"
    with pytest.raises(UserError, match=said):
        evaluate(gt, {tmp_path / "out.csv": sr}, ["psnr"])


def test_folders_of_the_wrong_form_are_named(gt: Path, sr: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, said in (
        (sr / "a", r"sr/a holds loose frames but .*gt holds sequence folders"),
        (tmp_path / "empty", "is empty"),
        (tmp_path / "nowhere", "does not exist"),
    ):
        with pytest.raises(UserError, match=said):
            evaluate(gt, {tmp_path / "out.csv": folder}, ["psnr"])
    with pytest.raises(UserError, match="holds loose frames but"):
        evaluate(gt, {tmp_path / "out.csv": sr / "a"}, ["psnr"], sequences=["a"])
    with pytest.raises(UserError, match="has no sequence 'aa'"):
        evaluate(gt, {tmp_path / "out.csv": sr}, ["psnr"], sequences=["aa"])


def test_two_folders_of_loose_frames_are_one_sequence(gt: Path, sr: Path, tmp_path: Path) -> None:
    """As `upscale` writes a single clip; the scores are those of the sequence in a tree."""
    evaluate(gt / "a", {tmp_path / "loose.csv": sr / "a"}, ["psnr"])
    evaluate(gt, {tmp_path / "tree.csv": sr}, ["psnr"], sequences=["a"])
    assert (tmp_path / "loose.csv").read_bytes() == (tmp_path / "tree.csv").read_bytes()
    shutil.move(sr / "a", tmp_path / "other")
    evaluate(gt / "a", {tmp_path / "other.csv": tmp_path / "other"}, ["psnr"])
    assert (tmp_path / "other.csv").read_bytes() == (tmp_path / "tree.csv").read_bytes()


def test_many_faults_are_counted_and_few_are_named(gt: Path, sr: Path, tmp_path: Path) -> None:
    for file in (sr / "a").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a/0000\.png cannot be read.*\(5 of 16 frames are unusable\)"):
        evaluate(gt, {tmp_path / "out.csv": sr}, ["psnr"])


def test_a_metric_is_empty_on_frames_that_are_too_small_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, large = (np.random.default_rng(0).integers(0, 255, (h, 16, 3), np.uint8) for h in (8, 12))
    both = write(tmp_path / "both", {"a": [small], "b": [large]})
    evaluate(both, {tmp_path / "both.csv": both}, ["ssim", "psnr"])
    table = pd.read_csv(tmp_path / "both.csv")
    assert table["ssim"].isna().tolist() == [True, False] and table["psnr"].notna().all()
    assert "ssim is left empty on a: frames of less than 11 pixels a side" in capsys.readouterr().err
    tiny = write(tmp_path / "tiny", {"a": [small]})
    evaluate(tiny, {tmp_path / "tiny.csv": tiny}, ["ssim", "psnr"])
    assert read_notes(tmp_path / "tiny.csv")["skipped"] == {"ssim": "frames of less than 11 pixels a side"}


def test_the_size_that_counts_is_that_of_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With LR frames as the reference they may be smaller than a metric's smallest side."""
    demanding = replace(METRICS["lr_consistency"], smallest=32)
    monkeypatch.setattr("stablevsr.metrics.evaluate.resolve", lambda _: [demanding])
    random = np.random.default_rng(0)
    lr = write(tmp_path / "lr", {"a": [random.integers(0, 255, (12, 16, 3), np.uint8)]})
    sr = write(tmp_path / "sr", {"a": [random.integers(0, 255, (48, 64, 3), np.uint8)]})
    evaluate(lr, {tmp_path / "o.csv": sr}, ["lr_consistency"], against="lr")
    assert pd.read_csv(tmp_path / "o.csv")["lr_consistency"].notna().all()


def test_a_failure_leaves_no_file_behind(gt: Path, sr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that vanishes after the check stops the run; a table of an earlier run stays as it was."""
    out = tmp_path / "out.csv"
    out.write_text("earlier\n")
    from stablevsr.metrics import evaluate as module

    def remove_then_read(*arguments: object) -> object:
        (sr / "b" / "0001.png").unlink()
        return read_chunks(*arguments)  # type: ignore[arg-type]

    read_chunks = module.read_chunks
    monkeypatch.setattr(module, "read_chunks", remove_then_read)
    with pytest.raises(UserError, match=r"b/0001\.png is missing"):
        evaluate(gt, {out: sr}, ["psnr"])
    assert out.read_text() == "earlier\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gt", "out.csv", "sr"]


@pytest.mark.parametrize(("out", "said"), [
    (lambda root: root / "gt" / "out.csv", "lies inside the frames in .*gt"),
    (lambda root: root / "sr" / "a" / "out.csv", "lies inside the frames in .*sr"),
    (lambda root: root / "pipe", "is a folder, pipe or device"),
    (lambda root: root, "is a folder, pipe or device"),
    (lambda root: root / "noted.csv", r"noted\.csv\.json is a folder, pipe or device"),
])  # fmt: skip
def test_an_output_that_would_harm_is_refused(
    gt: Path, sr: Path, tmp_path: Path, out: Callable[[Path], Path], said: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "noted.csv.json").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=said):
        evaluate(gt, {out(tmp_path): sr}, ["psnr"])
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("cache", ["gt", "gt/cache", "sr/a"])
def test_a_cache_among_the_frames_is_refused(gt: Path, sr: Path, tmp_path: Path, cache: str) -> None:
    with pytest.raises(UserError, match=f"--cache .*{cache} lies inside the frames in"):
        evaluate(gt, {tmp_path / "out.csv": sr}, ["psnr"], cache=tmp_path / cache)
