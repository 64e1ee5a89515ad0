"""``stablevsr upscale --model BASELINE``: windows, resuming, options, and the frames of the baseline itself."""

import dataclasses

import numpy as np
import pytest

from stablevsr import baselines
from stablevsr.cli import main
from stablevsr.data.frames import list_frames, read_frame, write_frame
from stablevsr.runtime.errors import UserError
from stablevsr.upscale import UpscaleOptions, upscale


def clip(folder, count):
    frames = np.random.default_rng(count).integers(0, 100, (count, 10, 12, 3), dtype=np.uint8)
    for number, frame in enumerate(frames):
        write_frame(folder / f"im{number}.png", frame)
    return frames


def result(folder):
    return np.stack([read_frame(file) for file in list_frames(folder)])


@pytest.fixture
def brighter(monkeypatch):
    """A recurrent baseline that makes every frame of its k-th clip brighter by 20 k levels, and notes the clips."""
    seen = []

    def load(device, precision):
        def stream(frames):
            seen.append((len(frames), precision))
            for frame in frames:
                enlarged = frame.repeat(4, axis=0).repeat(4, axis=1).astype(np.float32)
                yield (enlarged + 20 * (len(seen) - 1)) / np.float32(255)

        return baselines.Upscaler(stream)

    load.__module__ = "stablevsr.baselines.bicubic"
    monkeypatch.setitem(baselines.BASELINES, "brighter", baselines.Registration(load, (), (), recurrent=True))
    return seen


def nearest(frames):
    return frames.repeat(4, axis=1).repeat(4, axis=2).astype(int)


def test_bicubic_gives_its_own_frames(tmp_path, capsys):
    frames = clip(tmp_path / "lr", 3)
    assert main(["upscale", str(tmp_path / "lr"), str(tmp_path / "sr"), "--model", "bicubic", "--device", "cpu"]) == 0
    assert np.array_equal(result(tmp_path / "sr"), np.rint(baselines.load("bicubic")(frames) * 255))
    assert [file.name for file in list_frames(tmp_path / "sr")] == ["im0.png", "im1.png", "im2.png"]
    assert "at once" not in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("window", "count", "clips"), [(None, 101, [54, 55]), (0, 101, [101]), (8, 8, [8]), (None, 9, [9])]
)
def test_frames_at_once(window, count, clips, brighter, tmp_path, capsys):
    frames = clip(tmp_path / "lr", count)
    upscale(tmp_path / "lr", tmp_path / "sr", UpscaleOptions(model="brighter", window=window, device="cpu"))
    assert [length for length, _ in brighter] == clips
    assert ("gets at most 55 frames at once" in capsys.readouterr().err) == (len(clips) > 1)
    assert np.array_equal(result(tmp_path / "sr")[: clips[0] - 8], nearest(frames)[: clips[0] - 8])


def test_windows_are_cross_faded(brighter, tmp_path):
    frames = clip(tmp_path / "lr", 14)
    upscale(tmp_path / "lr", tmp_path / "sr", UpscaleOptions(model="brighter", window=8, device="cpu"))
    assert [length for length, _ in brighter] == [8, 8]  # frames 0-7 and 6-13
    added = (result(tmp_path / "sr") - nearest(frames)).mean(axis=(1, 2, 3))
    assert added[:6] == pytest.approx(0) and added[8:] == pytest.approx(20)
    assert added[6:8] == pytest.approx([20 / 3, 40 / 3], abs=0.5)


def test_a_stopped_run_goes_on_with_the_window_where_it_stopped(brighter, tmp_path, monkeypatch):
    frames = clip(tmp_path / "lr", 20)
    options = UpscaleOptions(model="brighter", window=8, device="cpu")
    entry = baselines.BASELINES["brighter"]

    def stopping(device, precision):
        upscaler = entry.load(device, precision)

        def stream(lr):
            for number, frame in enumerate(upscaler.stream(lr)):
                if len(brighter) == 2 and number == 4:
                    raise KeyboardInterrupt
                yield frame

        return baselines.Upscaler(stream)

    stopping.__module__ = entry.module
    with monkeypatch.context() as patched:
        patched.setitem(baselines.BASELINES, "brighter", dataclasses.replace(entry, load=stopping))
        with pytest.raises(KeyboardInterrupt):
            upscale(tmp_path / "lr", tmp_path / "sr", options)
    assert len(brighter) == 2 and not (tmp_path / "sr").exists()
    brighter.pop()  # its second clip is taken again
    upscale(tmp_path / "lr", tmp_path / "sr", options)
    lengths = [length for length, _ in brighter]
    brighter.clear()
    upscale(tmp_path / "lr", tmp_path / "whole", options)
    assert lengths == [length for length, _ in brighter] and len(lengths) == 3
    assert np.array_equal(result(tmp_path / "sr"), result(tmp_path / "whole")) and len(frames) == 20


def test_precision_reaches_the_network(brighter, tmp_path):
    clip(tmp_path / "lr", 2)
    upscale(tmp_path / "lr", tmp_path / "sr", UpscaleOptions(model="brighter", precision="bf16", device="cpu"))
    assert brighter == [(2, "bf16")]


@pytest.mark.parametrize(("changed", "message"), [
    ({"model": "bicubic", "steps": 3}, "--steps has no effect on bicubic: leave it out"),
    ({"model": "bicubic", "precision": "fp16"}, "--precision has no effect on bicubic"),
    ({"model": "bicubic", "window": 8}, "--window has no effect on bicubic"),
    ({"model": "basicvsr-reds4", "seed": 1}, "--seed has no effect on basicvsr-reds4"),
    ({"model": "basicvsr-red4"}, r"there is no model or baseline basicvsr-red4 \(did you mean 'basicvsr-reds4'\?\)"),
])  # fmt: skip
def test_what_means_nothing_is_refused(changed, message, tmp_path):
    clip(tmp_path / "lr", 2)
    with pytest.raises(UserError, match=message):
        upscale(tmp_path / "lr", tmp_path / "sr", UpscaleOptions(**{"device": "cpu", **changed}))
    assert [path.name for path in tmp_path.iterdir()] == ["lr"]


def test_a_video(brighter, tmp_path):
    av = pytest.importorskip("av")
    frames = np.random.default_rng(0).integers(0, 100, (3, 32, 48, 3), dtype=np.uint8)
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=10, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    upscale(tmp_path / "in.mkv", tmp_path / "out.mkv", UpscaleOptions(model="bicubic", device="cpu"))
    with av.open(str(tmp_path / "out.mkv")) as made:
        sizes = [(frame.width, frame.height) for frame in made.decode(video=0)]
    assert sizes == [(192, 128)] * 3
