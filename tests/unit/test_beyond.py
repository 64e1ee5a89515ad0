"""What the study `beyond` is made from: the pictures of other domains, and LR frames at other scales."""

import runpy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stablevsr.cli import main
from stablevsr.data.domains import PICTURES, build
from stablevsr.data.frames import list_frames, list_sequences, read_frame, write_frame
from stablevsr.data.mini.photographs import PHOTOGRAPHS, synthetic_camera
from stablevsr.data.mini.sources import wheel_file
from stablevsr.method.flow import warp
from stablevsr.method.pipeline import to_tensor
from stablevsr.method.small_decoder import SmallDecoder
from stablevsr.runtime.errors import UserError
from stablevsr.study.inference import NetworkPaths
from stablevsr.study.paths import Paths
from stablevsr.study.resolve import load_study

ROOT = Path(__file__).parents[2]
exact = runpy.run_path(str(ROOT / "ablations" / "flow_quality.py"))
make_low = runpy.run_path(str(ROOT / "ablations" / "scale.py"))["main"]
#: Of the wheel, 300 pixels a side or more: drawings, a test pattern, a blurred clock, the pair's right view.
NOT_TAKEN = {"clock_motion.png", "color.png", "horse.png", "logo.png", "phantom.png", "motorcycle_right.png"}


def test_every_picture_that_the_rule_admits_is_there_and_none_of_the_training_set():
    folder = wheel_file("skimage", "data")
    files = [file for file in folder.iterdir() if file.suffix in (".png", ".jpg")]
    large = {file.name for file in files if min(Image.open(file).size) >= 300}
    chosen = [name for names in PICTURES.values() for name in names]
    assert sorted(chosen) == sorted(large - NOT_TAKEN - set(PHOTOGRAPHS))


def test_the_pictures_become_moving_clips(tmp_path):
    assert main(["data", "domains", "--out", str(tmp_path)]) == 0
    clips = list_sequences(tmp_path / "pictures" / "gt")
    assert len(clips) == 8
    for clip in clips:
        first, second, *rest = (read_frame(file) for file in list_frames(clip))
        assert first.shape == (224, 224, 3) and len(rest) == 14
        assert first.std() > 5 and (first != second).any()
    before = (clips[0] / "00000000.png").stat().st_mtime_ns
    build(tmp_path)
    assert (clips[0] / "00000000.png").stat().st_mtime_ns == before


def test_the_study_divides_the_clips_by_domain():
    study = load_study("beyond", ROOT)
    by_domain = {name: [file.partition(".")[0] for file in files] for name, files in PICTURES.items()}
    assert {name: study.spec.datasets[name].sequences for name in PICTURES} == by_domain
    assert study.spec.datasets["domains"].sequences is None
    mini = load_study("mini", ROOT)
    assert study.methods["stablevsr"].on("reds4").digest == mini.methods["stablevsr"].on("reds4").digest
    assert study.methods["basicvsr"].on("medicine").kind == "basicvsr-reds4"


@pytest.mark.parametrize(("seed", "size"), [(7, (512, 512)), (9, (303, 384))])
def test_the_exact_flow_maps_one_frame_of_the_camera_onto_another(seed, size):
    coarse = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
    picture = (255 * smooth[0]).byte().permute(1, 2, 0).numpy()
    frames = to_tensor(list(synthetic_camera(picture, seed)))
    lr = frames[:, :, ::4, ::4]
    flow = exact["ExactFlow"](lr, exact["camera"](*size, seed))
    target, source = frames[2, None], frames[7, None]
    motion = flow(exact["enlarge"](lr[2, None]), exact["enlarge"](lr[7, None]))
    inner = (..., slice(40, -40), slice(40, -40))
    assert motion.abs().max() > 3
    unmoved, moved = ((target - image)[inner].abs().mean() for image in (source, warp(source, motion, "aligned")))
    assert moved < 0.01 < 0.1 * unmoved


@pytest.mark.parametrize("setting", [{"precision": "bf16"}, {"weights": "fp8"}, {"guidance_decoder": "small"}])
def test_the_exact_flow_is_run_with_the_settings_of_the_method(setting, tmp_path, monkeypatch):
    study = load_study("beyond", ROOT)
    form = study.methods["stablevsr"].on("domains")
    lr = tmp_path / Paths(study).dataset("domains") / "lr" / "a"
    for index, frame in enumerate(np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)):
        write_frame(lr / f"{index}.png", frame)
    names = exact["main"].__globals__
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(names, "load_study", lambda _: study)
    monkeypatch.setitem(names, "clips", lambda: [("a", np.zeros((64, 64, 3), np.uint8), 7)])
    decoder = SmallDecoder(width=8, blocks=1)
    decoder.save_pretrained(tmp_path / "decoder")

    def frames(**changed):
        chosen = replace(form, sampling=form.sampling.model_copy(update={"steps": 2, **changed}), forms={})
        monkeypatch.setitem(study.methods, "stablevsr", chosen)
        small = tmp_path / "decoder" if chosen.sampling.guidance_decoder == "small" else None
        monkeypatch.setitem(names, "locate_networks", lambda *_: NetworkPaths("tiny", "cpu", decoder=small))
        exact["main"]("beyond", tmp_path / str(changed))
        return np.stack([read_frame(file) for file in list_frames(tmp_path / str(changed) / "a")])

    usual = frames()
    assert usual.shape == (2, 64, 64, 3)
    assert 0 < np.abs(usual.astype(int) - frames(**setting)).mean() < 20


@pytest.mark.parametrize("scale", ["2", "3.2", "8"])
def test_low_resolution_frames_of_a_scale(scale, tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    write_frame(tmp_path / "gt" / "a" / "7.png", frame)
    make_low(tmp_path / "gt", tmp_path / "lr", Fraction(scale))
    low = read_frame(tmp_path / "lr" / "a" / "7.png")
    assert low.shape == (64 / float(scale), 96 / float(scale), 3)
    assert low.mean() == pytest.approx(frame.mean(), abs=2)


def test_sides_that_are_no_multiples_of_the_scale_are_refused(tmp_path):
    write_frame(tmp_path / "gt" / "a" / "7.png", np.zeros((64, 96, 3), np.uint8))
    with pytest.raises(UserError, match=r"7\.png is 96x64, no multiples of 3\.5"):
        make_low(tmp_path / "gt", tmp_path / "lr", Fraction("3.5"))
