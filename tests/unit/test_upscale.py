"""``stablevsr upscale`` as a user meets it: what comes out, what is refused, and going on after a kill."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from stablevsr import StableVSRPipeline
from stablevsr.cli import main
from stablevsr.data.frames import list_frames, read_frame, write_frame
from stablevsr.method.pipeline import to_tensor
from stablevsr.method.sampler import decode_frames
from stablevsr.method.settings import Guidance, Sampling
from stablevsr.upscale import UpscaleOptions, upscale

STEPS = 2


def pictures(count=3, height=16, width=20):
    smooth = torch.rand(count, 3, 4, 5, generator=torch.Generator().manual_seed(count))
    large = torch.nn.functional.interpolate(smooth, (height, width), mode="bicubic").clamp(0, 1)
    return (large.permute(0, 2, 3, 1) * 255).byte().numpy()


def write_folder(folder, frames=None):
    for number, frame in enumerate(pictures() if frames is None else frames):
        write_frame(folder / f"im{number}.png", frame)
    return folder


def write_video(path, frames=None):
    frames = pictures() if frames is None else frames
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=10, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def tiny(**changed):
    return UpscaleOptions(**{"model": "tiny", "steps": STEPS, "device": "cpu", **changed})


def content(path):
    """Every file of a result, by name; of a file its bytes."""
    if path.is_file():
        return path.read_bytes()
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def remains(folder):
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


# --- what comes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["bidirectional", "toy"])
def test_a_folder_of_frames_equals_the_pipeline_with_the_same_noise(tmp_path, strategy, toy_strategy):
    """Also by a strategy that only this test registers."""
    source = write_folder(tmp_path / "lr")
    upscale(source, tmp_path / "sr", tiny(seed=5, strategy=strategy))
    pipe = StableVSRPipeline.from_pretrained("tiny", device="cpu")
    sampling, guidance = Sampling(strategy=strategy, steps=STEPS), Guidance(flow="dis", warp="aligned")
    latents = pipe.sample(to_tensor(pictures())[None], ["5/"], sampling, guidance)[0]
    expected = torch.stack(list(decode_frames(pipe.networks, latents))).permute(0, 2, 3, 1).numpy()
    made = np.stack([read_frame(p) for p in list_frames(tmp_path / "sr")])
    assert [p.name for p in list_frames(tmp_path / "sr")] == ["im0.png", "im1.png", "im2.png"]
    assert np.abs(made - expected * 255).max() <= 0.51
    assert remains(tmp_path) == []


def test_a_sequence_does_not_depend_on_the_others(tmp_path):
    write_folder(tmp_path / "lr" / "a"), write_folder(tmp_path / "lr" / "b", pictures(2, 9, 13))
    shutil.copytree(tmp_path / "lr" / "b", tmp_path / "alone" / "b")
    shutil.copytree(tmp_path / "lr" / "b", tmp_path / "alone" / "c")
    upscale(tmp_path / "lr", tmp_path / "both", tiny(strategy="single_frame"))
    upscale(tmp_path / "alone", tmp_path / "one", tiny(strategy="single_frame"))
    assert content(tmp_path / "both" / "b") == content(tmp_path / "one" / "b") != content(tmp_path / "one" / "c")
    assert read_frame(tmp_path / "both" / "b" / "im0.png").shape == (36, 52, 3)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("usual")
    upscale(write_folder(folder / "lr"), folder / "sr", tiny())
    return folder


@pytest.mark.parametrize(
    "option",
    [
        {"seed": 1},
        {"steps": 3},
        {"strategy": "unidirectional"},
        {"precision": "bf16"},
        {"warp": "published"},
        {"preset": "fast"},
    ],
)
def test_each_option_reaches_the_frames(usual, tmp_path, option):
    upscale(usual / "lr", tmp_path / "sr", tiny(**option))
    assert content(tmp_path / "sr") != content(usual / "sr")


def test_a_video_comes_out_as_its_frames_do(usual, tmp_path):
    upscale(write_video(tmp_path / "clip.mp4"), tmp_path / "large.mp4", tiny())
    with av.open(str(tmp_path / "large.mp4")) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 10
    frames = [read_frame(p) for p in list_frames(usual / "sr")]
    assert len(shown) == len(frames)
    for one, other in zip(shown, frames, strict=True):
        grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float) for image in (one, other)]
        assert np.abs(grey[0] - grey[1]).mean() < 3  # 4:2:0 costs colour, not much brightness
    assert remains(tmp_path) == []


def test_a_colon_in_a_name_is_no_protocol(tmp_path):
    upscale(write_video(tmp_path / "take-1.mp4").rename(tmp_path / "take:1.mp4"), tmp_path / "x4:1.mkv", tiny(steps=1))
    with av.open(f"file:{tmp_path / 'x4:1.mkv'}") as container:
        assert sum(1 for _ in container.decode(video=0)) == 3


def save_rgb16(path, frame):
    cv2.imwrite(str(path), frame[..., ::-1].astype(np.uint16) * 257)


def save_grey16(path, frame):
    Image.fromarray(frame[..., 0].astype(np.uint16) * 257).save(path)


@pytest.mark.parametrize("save,plain", [
    (lambda path, frame: Image.fromarray(frame).convert("RGBA").save(path), lambda frame: frame),
    (save_rgb16, lambda frame: frame),
    (lambda path, frame: Image.fromarray(frame[..., 0]).save(path), lambda frame: frame[..., :1].repeat(3, 2)),
    (save_grey16, lambda frame: frame[..., :1].repeat(3, 2)),
], ids=["rgba", "16-bit", "grey", "16-bit grey"])  # fmt: skip
def test_other_pixels_are_read_as_eight_bit_rgb(tmp_path, save, plain):
    frame = pictures(1)[0]
    (tmp_path / "given").mkdir()
    save(tmp_path / "given" / "im0.png", frame)
    write_folder(tmp_path / "plain", [plain(frame)])
    for name in ("given", "plain"):
        upscale(tmp_path / name, tmp_path / f"{name}_x4", tiny(strategy="single_frame", steps=1))
    assert content(tmp_path / "given_x4") == content(tmp_path / "plain_x4")


def test_an_empty_output_folder_is_used(tmp_path):
    (tmp_path / "sr").mkdir()
    upscale(write_folder(tmp_path / "lr"), tmp_path / "sr", tiny(strategy="single_frame", steps=1))
    assert len(list_frames(tmp_path / "sr")) == 3


# --- what is refused --------------------------------------------------------------------------------------------------


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
    "name of the output", "alpha in WebM", "too wide", "half a video", "video to folder", "frames to video",
    "output is input", "output inside", "output taken", "video taken", "output is a link", "output without a name",
    "output with a long name", "revision of tiny", "steps", "window", "scale of nan", "scale 1", "scale 0",
    "scale below 0", "scale 17", "scale too large", "seed", "device", "model without a part", "no model", "tcm",
]  # fmt: skip


def refuse_models(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(StableVSRPipeline, "from_pretrained", refuse)


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
    whole = path.read_bytes()
    start, stop = whole.index(b"mdat") + 4, whole.index(b"moov")
    path.write_bytes(whole[: (start + stop) // 2] + bytes(stop - (start + stop) // 2) + whole[stop:])
    assert main(["upscale", str(path), str(tmp_path / "o.mp4"), "--model", "tiny"]) == 1
    assert "clip.mp4" in capsys.readouterr().err.splitlines()[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


# --- stopped and gone on with -----------------------------------------------------------------------------------------

#: The command in a process that kills itself when it has put so many files in their places.
KILLED = """
import os, signal, sys
from pathlib import Path
from stablevsr.upscale import UpscaleOptions, upscale
left, replace = int(sys.argv[3]), Path.replace
def counted(self, target):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return replace(self, target)
Path.replace = counted
upscale(Path(sys.argv[1]), Path(sys.argv[2]), UpscaleOptions(model="tiny", steps=2, device="cpu"))
"""


def test_a_killed_run_goes_on_to_the_same_bytes(usual, tmp_path):
    source = usual / "lr"
    done = subprocess.run([sys.executable, "-c", KILLED, source, tmp_path / "sr", "12"], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "sr").exists() and remains(tmp_path) == [".sr.partial"]
    upscale(source, tmp_path / "sr", tiny())
    assert content(tmp_path / "sr") == content(usual / "sr")
    assert remains(tmp_path) == []


def stop_after(monkeypatch, files, error):
    """Let so many files reach their places, then raise ``error``."""
    left, replace = [files], Path.replace

    def counted(self, target):
        if left[0] == 0:
            raise error
        left[0] -= 1
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", counted)


@pytest.mark.parametrize("kind", ["frames", "video"])
def test_stopped_again_and_again_it_still_gives_the_same_bytes(tmp_path, monkeypatch, capsys, kind):
    frames = pictures(5)
    source = write_video(tmp_path / "lr.mkv", frames) if kind == "video" else write_folder(tmp_path / "lr", frames)
    out, whole = (tmp_path / f"{n}{'.mkv' if kind == 'video' else ''}" for n in ("out", "whole"))
    command = ["upscale", str(source), str(out), "--model", "tiny", "--steps", "2", "--window", "4", "--device", "cpu"]
    upscale(source, whole, tiny(window=4))
    stops = 0
    while not out.exists():
        with monkeypatch.context() as patched:
            stop_after(patched, 13, KeyboardInterrupt())
            stops += main(command) == 130
    assert stops >= 3
    assert "continues where it stopped" in capsys.readouterr().err
    assert content(out) == content(whole)
    assert remains(tmp_path) == []


def test_a_run_killed_after_delivering_is_finished_without_work(tmp_path, monkeypatch):
    source, out = write_folder(tmp_path / "lr"), tmp_path / "sr"
    with monkeypatch.context() as patched:
        patched.setattr("stablevsr.upscale.run.shutil.rmtree", lambda *_, **__: None)
        upscale(source, out, tiny(strategy="single_frame"))
    made = content(out)
    assert remains(tmp_path) == [".sr.partial"]
    refuse_models(monkeypatch)
    upscale(source, out, tiny(strategy="single_frame"))
    assert content(out) == made and remains(tmp_path) == []


def test_other_settings_never_go_on_with_the_work_of_a_stopped_run(usual, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(patched, 9, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            upscale(usual / "lr", tmp_path / "sr", tiny(seed=1))
    upscale(usual / "lr", tmp_path / "sr", tiny())
    assert content(tmp_path / "sr") == content(usual / "sr")


@pytest.mark.parametrize("files", [0, 12])
def test_a_full_disk_is_one_sentence_and_the_work_goes_on(tmp_path, monkeypatch, capsys, files):
    source = write_folder(tmp_path / "lr")
    command = ["upscale", str(source), str(tmp_path / "sr"), "--model", "tiny", "--steps", "2", "--device", "cpu"]
    with monkeypatch.context() as patched:
        stop_after(patched, files, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        assert main(command) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("stablevsr: No space left on device") and "goes on where it stopped" in said
    assert main(command) == 0
    assert len(list_frames(tmp_path / "sr")) == 3


def test_a_disk_that_takes_no_large_file_is_one_sentence(tmp_path, capsys):
    source = write_folder(tmp_path / "lr")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        code = main(["upscale", str(source), str(tmp_path / "sr"), "--model", "tiny", "--steps", "1"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1 and "the same command goes on" in capsys.readouterr().err.splitlines()[-1]


def test_a_card_that_is_too_small_is_one_sentence(usual, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("stablevsr.upscale.clip_run.ClipRun.run", fail)
    assert main(["upscale", str(usual / "lr"), str(tmp_path / "sr"), "--model", "tiny"]) == 1
    assert "--precision fp16" in capsys.readouterr().err.splitlines()[-1]
