"""What ``stablevsr upscale`` refuses, before it loads a model."""

import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from upscale_clips import content, damage_late, pictures, refuse_models, remains, write_folder, write_video

from stablevsr.cli import main


def bad_inputs(root):
    """(what, input, output, options, words of the sentence); files are made below ``root``."""
    frames = write_folder(root / "frames")
    (root / "empty").mkdir()
    write_folder(root / "sizes", [*pictures(2), *pictures(1, 20, 20)])
    write_folder(root / "small", pictures(2, 6, 20))
    write_folder(root / "torn")
    torn = root / "torn" / "im1.png"
    torn.write_bytes(torn.read_bytes()[:200])
    write_folder(root / "clear", pictures(1))
    Image.fromarray(pictures(1)[0]).convert("RGBA").save(root / "clear" / "im1.png")
    with Image.open(root / "clear" / "im1.png") as image:
        image.putalpha(100)
        image.save(root / "clear" / "im1.png")
    write_folder(root / "twins", pictures(1))
    Image.fromarray(pictures(1)[0]).save(root / "twins" / "im0.jpg")
    write_folder(root / "deep" / "REDS" / "000"), write_folder(root / "mixed"), write_folder(root / "mixed" / "000")
    write_folder(root / "gap" / "000"), (root / "gap" / "001").mkdir()
    (root / "videos").mkdir()
    video = write_video(root / "videos" / "clip.mp4")
    (root / "letter.mp4").write_text("Dear Ida,\n" * 50)
    (root / "half.mp4").write_bytes(video.read_bytes()[:-300])
    write_folder(root / "taken"), (root / "taken.mp4").write_text("mine")
    (root / "link").symlink_to(root / "empty")
    model = shutil.copytree(Path(__file__).parents[1] / "vectors" / "model_v", root / "model")
    shutil.rmtree(model / "vae")
    (root / "bare").mkdir()
    os.mkfifo(root / "pipe.mp4")
    (root / "reels").mkdir()
    os.mkfifo(root / "reels" / "im0.png")
    strange = os.fsdecode(b"caf\xe9")
    write_folder(root / "named" / strange)
    with av.open(str(root / "alpha.webm"), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=10, options={"auto-alt-ref": "0"})
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuva420p"
        glass = av.VideoFrame.from_ndarray(np.zeros((16, 16, 4), np.uint8), format="rgba")
        container.mux([*stream.encode(glass), *stream.encode()])
    with av.open(str(root / "wide.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 4200, 16, "yuv420p"
        wide = av.VideoFrame.from_ndarray(np.zeros((16, 4200, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(wide), *stream.encode()])
    glass = Image.new("RGBA", (16, 16), (200, 0, 0, 0))
    glass.save(root / "clear.gif", save_all=True, append_images=[Image.new("RGBA", (16, 16), (0, 0, 0, 0))])
    write_folder(root / "large", [np.zeros((600, 1200, 3), np.uint8)])
    out = root / "out"
    return [
        ("missing", root / "nothing", out, [], "there is no file or folder"),
        ("empty", root / "empty", out, [], "holds no frames"),
        ("sizes", root / "sizes", out, [], "im2.png is 20x20"),
        ("small", root / "small", out, [], "at least 8 pixels"),
        ("truncated", root / "torn", out, [], "im1.png cannot be read"),
        ("transparent", root / "clear", out, [], "im1.png has transparent pixels"),
        ("same stem", root / "twins", out, [], "would both be written as im0.png"),
        ("too deep", root / "deep", out, [], "one folder too deep"),
        ("both kinds", root / "mixed", out, [], "holds both frames"),
        ("empty sequence", root / "gap", out, [], "001 holds no frames"),
        ("folder of videos", root / "videos", out, [], "give one video at a time"),
        ("one image", frames / "im0.png", out, [], "is a single image"),
        ("no video", root / "letter.mp4", root / "o.mp4", [], "letter.mp4"),
        ("pipe", root / "pipe.mp4", root / "o.mp4", [], "is a pipe or device"),
        ("pipe as frame", root / "reels", out, [], "im0.png is a folder, pipe or device"),
        ("name", root / "named", out, [], r"the name 'caf\xe9' in"),
        ("name of the output", frames, root / strange, [], "is not UTF-8"),
        ("alpha in WebM", root / "alpha.webm", root / "o.mp4", [], "has an alpha channel (VP9, alpha_mode)"),
        ("transparent video", root / "clear.gif", root / "o.mp4", [], "frame 0 has transparent pixels"),
        ("too wide", root / "wide.mkv", root / "o.mp4", [], "beyond the H.264 encoder's 16384 pixels"),
        ("half a video", root / "half.mp4", root / "o.mp4", [], "half.mp4 cannot be read"),
        ("video to folder", video, out, [], "the output must be a file in .mp4"),
        ("frames to video", frames, root / "o.mp4", [], "the output must be a folder"),
        ("output is input", frames, frames, [], "is the input itself"),
        ("output inside", frames, frames / "x4", [], "lies inside the input"),
        ("output taken", frames, root / "taken", [], "holds files already (im0.png)"),
        ("video taken", video, root / "taken.mp4", [], "exists already"),
        ("output is a link", frames, root / "link", [], "exists already"),
        ("output without a name", frames, Path(), [], "has no name"),
        ("output with a long name", frames, root / ("x" * 241), [], "too long: give one of at most 240 bytes"),
        ("revision of tiny", frames, out, ["--revision", "v1"], "revision v1 has no effect on tiny"),
        ("steps", frames, out, ["--steps", "0"], "--steps 0 is out of range"),
        ("window", frames, out, ["--window", "2"], "at least 4 frames"),
        ("scale of nan", frames, out, ["--scale", "nan"], "--scale nan is out of range: above 1, at most 16"),
        ("scale 1", frames, out, ["--scale", "1"], "--scale 1 is out of range"),
        ("scale 0", frames, out, ["--scale", "0"], "--scale 0 is out of range"),
        ("scale below 0", frames, out, ["--scale", "-2"], "--scale -2 is out of range"),
        ("scale 17", frames, out, ["--scale", "17"], "--scale 17 is out of range"),
        ("scale too large", root / "large", out, ["--scale", "16"], "large is 1200x600 and takes frames of 19200x9600"),
        ("seed", frames, out, ["--seed", "-1"], "--seed -1 is out of range"),
        ("device", frames, out, ["--device", "abacus"], "device abacus is not supported"),
        ("model without a part", frames, out, ["--model", str(model)], "lacks vae/"),
        ("no model", frames, out, ["--model", "./nowhere"], "there is no model folder"),
        ("tcm", frames, out, ["--tcm", str(root / "bare")], "has no config.json"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    return {case[0]: case[1:] for case in bad_inputs(tmp_path_factory.mktemp("bad"))}


CASES = [
    "missing", "empty", "sizes", "small", "truncated", "transparent", "same stem", "too deep", "both kinds",
    "empty sequence", "folder of videos", "one image", "no video", "pipe", "pipe as frame", "name",
    "name of the output", "alpha in WebM", "transparent video", "too wide", "half a video", "video to folder",
    "frames to video", "output is input", "output inside", "output taken", "video taken", "output is a link",
    "output without a name",
    "output with a long name", "revision of tiny", "steps", "window", "scale of nan", "scale 1", "scale 0",
    "scale below 0", "scale 17", "scale too large", "seed", "device", "model without a part", "no model", "tcm",
]  # fmt: skip


@pytest.fixture
def no_model(monkeypatch):
    refuse_models(monkeypatch)


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_sentence_before_a_model_is_loaded(case, bad, no_model, capsys):
    source, out, options, sentence = bad[case]
    before = content(out) if out.name and out.exists() else None
    assert main(["upscale", str(source), str(out), "--model", "tiny", *options]) == 1
    said = capsys.readouterr().err
    assert said.startswith("stablevsr: ") and said.count("\n") == 1 and sentence in said
    assert (content(out) if out.name and out.exists() else None) == before
    assert remains(source.parent) == []


def test_the_list_of_bad_inputs_is_complete(bad):
    assert list(bad) == CASES


def test_a_video_damaged_further_on_is_said_before_a_model_is_loaded(tmp_path, no_model, capsys):
    path = write_video(tmp_path / "clip.mp4", pictures(30))
    damage_late(path)
    assert main(["upscale", str(path), str(tmp_path / "o.mp4"), "--model", "tiny"]) == 1
    assert "clip.mp4" in capsys.readouterr().err.splitlines()[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]
