"""``stablevsr upscale`` as a user meets it: what comes out, what is refused, and going on after a kill."""

import shutil

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from upscale_clips import STEPS, content, pictures, remains, tiny, write_folder, write_video

from stablevsr import StableVSRPipeline
from stablevsr.data.frames import list_frames, read_frame
from stablevsr.method.pipeline import to_tensor
from stablevsr.method.sampler import decode_frames
from stablevsr.method.settings import Guidance, Sampling
from stablevsr.upscale import upscale


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
