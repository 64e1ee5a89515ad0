"""``evaluate`` from folders to CSV with the metrics that need no weights, and every fault of the input."""

from __future__ import annotations

import io
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluate_folders import COUNTS, clip, write
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
