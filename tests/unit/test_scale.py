"""``stablevsr upscale --scale``: sizes, the frames of one pass and of two, videos, and going on after a stop."""

import av
import numpy as np
import pytest

from stablevsr.cli import main
from stablevsr.data.degradation import bicubic_upscale, imresize, rounded
from stablevsr.data.frames import list_frames, read_frame, write_frame
from stablevsr.upscale import UpscaleOptions, upscale
from stablevsr.upscale.clip_run import ClipRun
from stablevsr.upscale.scales import output_size


def clip(folder, height=20, width=30, count=2):
    coarse = np.random.default_rng(count).integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    frames = [rounded(imresize(frame, 8))[:height, :width] for frame in coarse]
    for number, frame in enumerate(frames):
        write_frame(folder / f"im{number}.png", frame)
    return frames


def result(folder):
    return np.stack([read_frame(file) for file in list_frames(folder)])


def bicubic(folder, scale, name="sr"):
    upscale(folder / "lr", folder / name, UpscaleOptions(model="bicubic", device="cpu", scale=scale))
    return result(folder / name)


def tiny(**changed):
    return UpscaleOptions(**{"model": "tiny", "steps": 2, "device": "cpu", **changed})


@pytest.mark.parametrize(("sides", "scale", "made"), [
    ((20, 30), 2, (40, 60)), ((20, 30), 1.5, (30, 45)), ((21, 31), 1.5, (32, 47)), ((21, 31), 4, (84, 124)),
    ((20, 30), 5, (100, 150)), ((100, 300), 1.005, (101, 302)),  # 100.5 and 301.5, which binary numbers miss
])  # fmt: skip
def test_sides_are_rounded_to_the_nearest_number_and_halves_up(sides, scale, made):
    assert output_size(*sides, scale) == made


@pytest.mark.parametrize("scale", [1.5, 2, 3.3, 4, 5, 8, 16])
def test_a_folder_gets_the_size_that_was_asked_for(scale, tmp_path):
    clip(tmp_path / "lr", 21, 31)
    assert bicubic(tmp_path, scale).shape == (2, *output_size(21, 31, scale), 3)
    assert [file.name for file in list_frames(tmp_path / "sr")] == ["im0.png", "im1.png"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_half_the_scale_is_the_x4_result_made_half_as_large(tmp_path):
    clip(tmp_path / "lr")
    upscale(tmp_path / "lr", tmp_path / "x4", tiny())
    upscale(tmp_path / "lr", tmp_path / "x2", tiny(scale=2))
    assert np.array_equal(result(tmp_path / "x2"), [rounded(imresize(f, 0.5)) for f in result(tmp_path / "x4")])


def test_twice_the_scale_is_x4_of_the_result_made_half_as_large(tmp_path):
    frames = clip(tmp_path / "lr")
    half = [rounded(imresize(bicubic_upscale(frame), 0.5)) for frame in frames]
    assert np.array_equal(bicubic(tmp_path, 8), [bicubic_upscale(frame) for frame in half])


def test_the_second_pass_draws_noise_of_its_own(tmp_path, monkeypatch):
    clip(tmp_path / "lr" / "a")
    drawn, run = [], ClipRun.run

    def noted(self, model, estimator, key, others, progress):
        drawn.append((key, self.clip.height, self.clip.width))
        run(self, model, estimator, key, others, progress)

    monkeypatch.setattr(ClipRun, "run", noted)
    upscale(tmp_path / "lr", tmp_path / "sr", tiny(scale=5, seed=3))
    assert drawn == [("3/a", 20, 30), ("3/a/second", 25, 38)]
    assert result(tmp_path / "sr" / "a").shape == (2, 100, 150, 3)


@pytest.mark.parametrize(
    ("scale", "size", "form", "words"),
    [(2, (60, 40), "yuv420p", ""), (1.5, (45, 30), "yuv444p", "45x30 has an odd side")],
)
def test_a_video_with_odd_sides_keeps_the_resolution_of_its_colours(scale, size, form, words, tmp_path, capsys):
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=10, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = 20, 30, "rgb24"
        for frame in clip(tmp_path / "lr"):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    command = ["upscale", str(tmp_path / "in.mkv"), str(tmp_path / "out.mkv"), "--model", "bicubic"]
    assert main([*command, "--scale", str(scale), "--device", "cpu"]) == 0
    with av.open(str(tmp_path / "out.mkv")) as made:
        found = [(frame.width, frame.height, frame.format.name) for frame in made.decode(video=0)]
    assert found == [(*size, form)] * 2
    said = capsys.readouterr().err
    assert words in said and ("odd side" in said) == bool(words)


def stop_after(monkeypatch, files):
    """Let so many frames be written, then stop as Ctrl-C does."""
    left = [files]

    def counted(path, frame):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        write_frame(path, frame)

    for module in ("scales", "clip_run"):
        monkeypatch.setattr(f"stablevsr.upscale.{module}.write_frame", counted)


@pytest.mark.parametrize("scale", [2.5, 5])
def test_stopped_again_and_again_it_gives_the_same_frames(scale, tmp_path, monkeypatch):
    clip(tmp_path / "lr")
    upscale(tmp_path / "lr", tmp_path / "whole", tiny(scale=scale))
    stops = 0
    while not (tmp_path / "sr").exists():
        with monkeypatch.context() as patched:
            stop_after(patched, 1)
            try:
                upscale(tmp_path / "lr", tmp_path / "sr", tiny(scale=scale))
            except KeyboardInterrupt:
                stops += 1
    assert stops == (3 if scale == 2.5 else 7)  # two frames at each stage, of which each call writes one
    assert np.array_equal(result(tmp_path / "sr"), result(tmp_path / "whole"))


def test_another_scale_never_goes_on_with_the_frames_of_a_stopped_run(tmp_path, monkeypatch):
    clip(tmp_path / "lr")
    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        with pytest.raises(KeyboardInterrupt):
            upscale(tmp_path / "lr", tmp_path / "sr", tiny(scale=2))
    upscale(tmp_path / "lr", tmp_path / "sr", tiny(scale=3))
    upscale(tmp_path / "lr", tmp_path / "whole", tiny(scale=3))
    assert result(tmp_path / "sr").shape == (2, 60, 90, 3)
    assert np.array_equal(result(tmp_path / "sr"), result(tmp_path / "whole"))
