"""``evaluate`` from folders to CSV with the metrics that need no weights, and every fault of the input."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stablevsr.cli import main
from stablevsr.data.degradation import degrade
from stablevsr.data.frames import write_frame
from stablevsr.metrics.builtin.psnr import psnr
from stablevsr.metrics.evaluate import evaluate
from stablevsr.metrics.fidelity import FramePair
from stablevsr.metrics.registry import METRICS
from stablevsr.metrics.tables import read_scores, summarise
from stablevsr.metrics.tools import Tools
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import read_sealed, write_sealed

OFFLINE = ["psnr", "ssim_y", "tof_dis", "warp_error", "sharpness"]
SIZE = (40, 48)
COUNTS = {"a": 5, "b": 3}  #: frames by sequence


def clip(seed: int, frames: int, noise: float = 0.0) -> list[np.ndarray]:
    """A smooth texture that pans by (1, 2) pixels a frame, with noise: uint8 (H, W, 3)."""
    coarse = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    wide = torch.nn.functional.interpolate(coarse, size=(96, 96), mode="bicubic")[0].permute(1, 2, 0).numpy()
    random = np.random.default_rng(seed)
    views = [wide[f : f + SIZE[0], 2 * f : 2 * f + SIZE[1]] for f in range(frames)]
    return [
        np.clip(255 * (view + noise * random.standard_normal(view.shape)), 0, 255).round().astype(np.uint8)
        for view in views
    ]


def write(folder: Path, clips: dict[str, list[np.ndarray]]) -> Path:
    for name, frames in clips.items():
        for index, frame in enumerate(frames):
            write_frame(folder / name / f"{index:04d}.png", frame)
    return folder


@pytest.fixture
def gt(tmp_path: Path) -> Path:
    return write(tmp_path / "gt", {name: clip(n, count) for n, (name, count) in enumerate(COUNTS.items())})


@pytest.fixture
def sr(tmp_path: Path) -> Path:
    return write(tmp_path / "sr", {"a": clip(0, 5, 0.05), "b": clip(1, 3, 0.05)})


@pytest.mark.parametrize("metrics,unused", [
    ("psnr,ssim,sharpness", ("torch",)), ("tof_dis,warp_error", ("torchvision", "diffusers")),
])  # fmt: skip
def test_what_a_metric_does_not_need_is_not_imported(
    gt: Path, sr: Path, tmp_path: Path, metrics: str, unused: tuple[str, ...]
) -> None:
    command = ["evaluate", "--gt", str(gt), "--sr", str(sr), "--metrics", metrics, "--out", str(tmp_path / "o.csv")]
    code = f"import sys; from stablevsr.cli import main; print(main({command}), *set({unused}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_without_ground_truth_results_are_compared_with_their_lr_frames(gt: Path, sr: Path, tmp_path: Path) -> None:
    lr = write(tmp_path / "lr", {name: [degrade(f) for f in clip(n, c)] for n, (name, c) in enumerate(COUNTS.items())})
    with_truth, without = tmp_path / "gt.csv", tmp_path / "lr.csv"
    evaluate(gt, {with_truth: sr}, ["lr_consistency"])
    command = ["evaluate", "--lr", str(lr), "--sr", str(sr), "--metrics", "lr_consistency", "--out", str(without)]
    assert main(command) == 0
    assert with_truth.read_text() == without.read_text()
    assert read_scores(without)["lr_consistency"].between(25, 60).all()


def test_what_needs_ground_truth_and_outputs_of_another_size_are_refused_with_lr_frames(
    gt: Path, sr: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"psnr, lpips cannot be computed without .* give lr_consistency, musiq"):
        evaluate(gt, {tmp_path / "o.csv": sr}, ["psnr", "lr_consistency", "lpips"], against="lr")
    said = r"frames have the wrong size .* instead of 192x160.*: outputs must be 4 times as large as their LR frames"
    with pytest.raises(UserError, match=said):
        evaluate(gt, {tmp_path / "o.csv": sr}, ["lr_consistency"], against="lr")


def test_one_row_a_frame_and_undefined_cells_are_empty(gt: Path, sr: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores" / "sr.csv"
    evaluate(gt, {out: sr}, OFFLINE)
    lines = out.read_text().splitlines()
    assert lines[0] == "sequence,frame," + ",".join(OFFLINE)
    assert [line.split(",")[:2] for line in lines[1:]] == [
        [name, f"{frame:04d}"] for name, frames in (("a", 5), ("b", 3)) for frame in range(frames)
    ]
    first, second = lines[1].split(","), lines[2].split(",")
    assert first[4:6] == ["", ""]
    assert float(second[4]) > 0
    frames = [np.asarray(Image.open(side / "a" / "0000.png")) for side in (gt, sr)]
    assert float(first[2]) == psnr.score_frame(FramePair(*frames))  # to the last digit


def test_identical_frames_score_perfectly(gt: Path, tmp_path: Path) -> None:
    out = tmp_path / "same.csv"
    evaluate(gt, {out: gt}, OFFLINE)
    assert out.read_text().splitlines()[2].split(",")[2] == "inf"
    table = read_scores(out)
    assert (table["psnr"] == math.inf).all()
    assert table["ssim_y"].to_numpy() == pytest.approx(1)
    assert (table["sharpness"] == 1).all()
    assert (table["tof_dis"].dropna() == 0).all()
    assert table["tof_dis"].isna().sum() == 2
    notes = json.loads(Path(f"{out}.json").read_text())
    assert notes["mean"]["psnr"] == "inf"
    assert notes["mean"]["tof_dis"] == 0


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_the_batch_size_changes_nothing(gt: Path, sr: Path, tmp_path: Path, batch: int) -> None:
    evaluate(gt, {tmp_path / "whole.csv": sr}, OFFLINE)
    evaluate(gt, {tmp_path / "parts.csv": sr}, OFFLINE, batch=batch)
    whole, parts = (read_scores(tmp_path / f"{name}.csv")[OFFLINE] for name in ("whole", "parts"))
    np.testing.assert_allclose(whole, parts, rtol=1e-6)


def test_several_methods_in_one_pass_are_the_methods_one_by_one(gt: Path, sr: Path, tmp_path: Path) -> None:
    worse = write(tmp_path / "worse", {"a": clip(0, 5, 0.1), "b": clip(1, 3, 0.1)})
    evaluate(gt, {tmp_path / "1.csv": sr, tmp_path / "2.csv": worse}, OFFLINE)
    for index, folder in enumerate((sr, worse), start=1):
        evaluate(gt, {tmp_path / "alone.csv": folder}, OFFLINE)
        assert (tmp_path / f"{index}.csv").read_text() == (tmp_path / "alone.csv").read_text()


def test_sequences_restrict_both_sides(gt: Path, sr: Path, tmp_path: Path) -> None:
    (sr / "a" / "0003.png").unlink()  # a fault in a sequence that is not asked for
    evaluate(gt, {tmp_path / "b.csv": sr}, ["psnr"], sequences=["b"])
    assert list(read_scores(tmp_path / "b.csv")["sequence"]) == ["b"] * 3


def test_shards_cover_every_sequence_once_and_may_be_empty(gt: Path, sr: Path, tmp_path: Path) -> None:
    from stablevsr.cli import main

    rows = []
    for shard in range(3):  # of two sequences
        out = tmp_path / f"{shard}.csv"
        options = ["--metrics", "psnr,tof_dis", "--shard", f"{shard}/3", "--device", "cpu", "--out", str(out)]
        assert main(["evaluate", "--gt", str(gt), "--sr", str(sr), *options]) == 0
        rows += out.read_text().splitlines()[1:]
    evaluate(gt, {tmp_path / "whole.csv": sr}, ["psnr", "tof_dis"])
    assert rows == (tmp_path / "whole.csv").read_text().splitlines()[1:]


def test_centre_frame_only(gt: Path, tmp_path: Path) -> None:
    sr = tmp_path / "centres"
    for name, frame in (("a", clip(0, 5, 0.05)[2]), ("b", clip(1, 3, 0.05)[1])):
        write_frame(sr / name / f"{2 if name == 'a' else 1:04d}.png", frame)
    out = tmp_path / "centre.csv"
    evaluate(gt, {out: sr}, ["psnr_y", "tof_dis"], centre_only=True)
    table = read_scores(out)
    assert table[["sequence", "frame"]].to_numpy().tolist() == [["a", "0002"], ["b", "0001"]]
    assert table["psnr_y"].notna().all()
    assert table["tof_dis"].isna().all()
    assert "centre" in json.loads(Path(f"{out}.json").read_text())["skipped"]["tof_dis"]


def test_a_centre_metric_is_defined_on_the_fourth_of_seven_frames_only(tmp_path: Path) -> None:
    gt, sr = tmp_path / "gt", tmp_path / "sr"
    for name, frames in (("a", 7), ("b", 7), ("c", 5)):
        for index in range(frames):
            write_frame(gt / name / f"im{index + 1}.png", clip(0, frames, 0.0)[index])
            write_frame(sr / name / f"im{index + 1}.png", clip(0, frames, 0.05)[index])
    out = tmp_path / "all.csv"
    evaluate(gt, {out: sr}, ["psnr_y", "psnr_y_centre", "ssim_y_centre"], batch=2)  # not aligned with the centre
    table = read_scores(out)
    scored = table[table["psnr_y_centre"].notna()]
    assert scored[["sequence", "frame"]].to_numpy().tolist() == [["a", "im4"], ["b", "im4"]]
    assert scored["psnr_y_centre"].tolist() == scored["psnr_y"].tolist()
    assert table["ssim_y_centre"].notna().sum() == 2

    centres = tmp_path / "centres.csv"
    evaluate(gt, {centres: sr}, ["psnr_y_centre"], sequences=["a", "b"], centre_only=True)
    assert read_scores(centres)["psnr_y_centre"].tolist() == scored["psnr_y_centre"].tolist()


def test_a_centre_metric_of_other_sequences_is_empty_with_the_reason(gt: Path, sr: Path, tmp_path: Path) -> None:
    out = tmp_path / "none.csv"
    evaluate(gt, {out: sr}, ["psnr", "psnr_y_centre"])
    assert read_scores(out)["psnr_y_centre"].isna().all()
    assert json.loads(Path(f"{out}.json").read_text())["skipped"] == {"psnr_y_centre": "no sequence has seven frames"}


def test_missing_weights_skip_a_column_or_stop(
    gt: Path, sr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nothing"))
    out = tmp_path / "some.csv"
    evaluate(gt, {out: sr}, ["lpips", "psnr"])
    table = read_scores(out)
    assert table["lpips"].isna().all()
    assert table["psnr"].notna().all()
    reason = json.loads(Path(f"{out}.json").read_text())["skipped"]["lpips"]
    assert "stablevsr fetch alexnet" in reason
    assert f"lpips is left empty: {reason}" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"2 of 3 metrics .*lpips: .*fetch alexnet.*tof: .*fetch raft"):
        evaluate(gt, {tmp_path / "none.csv": sr}, ["lpips", "tof", "psnr"], weights="require")
    assert not (tmp_path / "none.csv").exists()


def test_the_sidecar_says_how_the_numbers_were_made(gt: Path, sr: Path, tmp_path: Path) -> None:
    out = tmp_path / "sr.csv"
    evaluate(gt, {out: sr}, OFFLINE)
    notes = json.loads(Path(f"{out}.json").read_text())
    assert notes["frames"] == 8
    assert notes["sequences"] == {"a": 5, "b": 3}
    assert notes["metrics"]["tof_dis"]["scale"] == 10
    assert notes["versions"]["torch"] == torch.__version__.split("+")[0]
    table = read_scores(out)
    by_hand = (table.iloc[:5]["psnr"].mean() + table.iloc[5:]["psnr"].mean()) / 2
    assert notes["mean"]["psnr"] == pytest.approx(by_hand)


def test_the_cache_is_used_and_changes_nothing(gt: Path, sr: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    evaluate(gt, {tmp_path / "cold.csv": sr}, OFFLINE, cache=cache)
    stored = sorted(cache.rglob("*.array"))
    assert len(stored) == 12  # (4 + 2) pairs, a flow and a mask of visible pixels each
    evaluate(gt, {tmp_path / "warm.csv": sr}, OFFLINE, cache=cache)
    assert (tmp_path / "cold.csv").read_bytes() == (tmp_path / "warm.csv").read_bytes()
    flow = next(file for file in stored if "visible" not in str(file))
    shifted = io.BytesIO()
    np.save(shifted, np.load(io.BytesIO(read_sealed(flow))) + 5)  # a stored result that is recognisably not recomputed
    write_sealed(flow, shifted.getvalue())
    evaluate(gt, {tmp_path / "shifted.csv": sr}, ["tof_dis"], cache=cache)
    gap = read_scores(tmp_path / "shifted.csv")["tof_dis"] - read_scores(tmp_path / "cold.csv")["tof_dis"]
    assert gap.max() > 10


def test_the_cache_goes_by_the_pixels_of_the_ground_truth(gt: Path, sr: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    evaluate(gt, {tmp_path / "1.csv": sr}, ["tof_dis"], cache=cache, sequences=["b"])
    write_frame(gt / "b" / "0001.png", clip(5, 1)[0])
    evaluate(gt, {tmp_path / "2.csv": sr}, ["tof_dis"], cache=cache, sequences=["b"])
    evaluate(gt, {tmp_path / "3.csv": sr}, ["tof_dis"], sequences=["b"])
    assert (tmp_path / "2.csv").read_text() == (tmp_path / "3.csv").read_text() != (tmp_path / "1.csv").read_text()


@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: bytes(len(data)), lambda data: b""])
def test_a_damaged_cache_file_is_computed_again(tmp_path: Path, damage: Callable[[bytes], bytes], capsys) -> None:
    tools = Tools(torch.device("cpu"), tmp_path)
    value = torch.arange(6.0).reshape(2, 3)
    tools.cached("kind", ["k1", "k2"], lambda: value)
    assert torch.equal(tools.cached("kind", ["k1", "k2"], lambda: value + 1), value)
    file = next(tmp_path.rglob("k1.*"))
    file.write_bytes(damage(file.read_bytes()))
    assert torch.equal(tools.cached("kind", ["k1", "k2"], lambda: value + 1), value + 1)
    assert "is damaged: computing it again" in capsys.readouterr().err
    assert torch.equal(tools.cached("kind", ["k1", "k2"], lambda: value + 2), value + 1)
    assert torch.equal(Tools(tools.device).cached("kind", ["k1", "k2"], lambda: value + 2), value + 2)


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


def test_frames_too_small_for_a_metric_are_refused(tmp_path: Path) -> None:
    tiny = write(tmp_path / "tiny", {"a": [np.zeros((8, 16, 3), np.uint8)]})
    with pytest.raises(UserError, match=r"16x8 pixels, too small \(ssim needs 11"):
        evaluate(tiny, {tmp_path / "out.csv": tiny}, ["ssim", "psnr"])


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


def test_scores_are_read_back_with_their_names_as_text(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text("sequence,frame,psnr,tlp\n000,0001,inf,\nNA,im1,30.5,1.5\n")
    table = read_scores(file)
    assert table["sequence"].tolist() == ["000", "NA"]
    assert table["psnr"].tolist() == [math.inf, 30.5]
    assert summarise(table, ["psnr", "tlp"]) == {"psnr": 30.5, "tlp": 1.5}
    assert summarise(table[:1], ["psnr"]) == {"psnr": math.inf}
    for text, said in (("a,b\n1,2\n", "not a table of scores"), ("sequence,frame,psnr\n0,0,good\n", "cannot be read")):
        file.write_text(text)
        with pytest.raises(UserError, match=said):
            read_scores(file)


def test_a_mean_leaves_out_infinite_frames_and_counts_them(gt: Path, sr: Path, tmp_path: Path, capsys) -> None:
    shutil.copy(gt / "a" / "0001.png", sr / "a" / "0001.png")
    evaluate(gt, {tmp_path / "out.csv": sr}, ["psnr"])
    notes = json.loads((tmp_path / "out.csv.json").read_text(encoding="utf-8"))
    table = read_scores(tmp_path / "out.csv")
    finite = table[np.isfinite(table["psnr"])]
    assert notes["infinite"] == {"psnr": 1} and len(finite) == len(table) - 1
    assert notes["mean"]["psnr"] == pytest.approx(finite.groupby("sequence")["psnr"].mean().mean())
    assert "(1 infinite frames left out)" in capsys.readouterr().err
    assert "infinite" in METRICS["psnr"].convention


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
