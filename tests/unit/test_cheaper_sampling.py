"""The small guidance decoder and weights in 8 bits: what they change, and what they leave alone."""

import csv
import json

import numpy as np
import pytest
import torch

from stablevsr import StableVSRPipeline
from stablevsr.data.degradation import degrade
from stablevsr.data.frames import read_frame, write_frame
from stablevsr.method.model_folder import TINY
from stablevsr.method.pipeline import load_networks, to_tensor
from stablevsr.method.settings import Distillation
from stablevsr.method.small_decoder import SmallDecoder
from stablevsr.runtime.errors import UserError
from stablevsr.study.files import Dataset
from stablevsr.study.methods import Base, TrainingRun
from stablevsr.study.paths import Paths
from stablevsr.study.training import train_run
from tests.flow import vector_flow

STEPS = 150


@pytest.fixture(scope="module")
def reds(tmp_path_factory):
    """A training clip and REDS4 in the layout of REDS, of frames that are not quite flat."""
    root = tmp_path_factory.mktemp("reds")
    rng = np.random.default_rng(0)
    for clip in ("001", "000", "011", "015", "020"):
        frame = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        write_frame(root / "train_sharp" / clip / "00000000.png", frame)
        write_frame(root / "train_sharp_bicubic" / "X4" / clip / "00000000.png", degrade(frame))
    held_out = Dataset(title="tiny REDS4", layout="reds", root=root, split="test")
    return Dataset(title="tiny REDS", layout="reds", root=root, split="train", validation=held_out)


@pytest.fixture(scope="module")
def distilled(reds, vectors, tmp_path_factory):
    settings = Distillation(steps=STEPS, batch=4, crop=32, width=8, learning_rate=5e-3, warmup_steps=0)
    run = TrainingRun("decoder", settings, reds, Base(str(vectors / "model_v")), "d" * 16)
    paths = Paths(study=None, work=tmp_path_factory.mktemp("work"))
    train_run(run, paths, "cpu")
    return paths.training(run)


def test_a_distillation_records_what_made_it(distilled):
    with (distilled / "history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])
    assert all(5 < float(rows[-1][f"val_psnr_{level}"]) < 60 for level in ("low", "mid", "high"))
    provenance = json.loads((distilled / "provenance.json").read_text())
    assert (provenance["kind"], provenance["training"]) == ("decoder", "d" * 16)
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in distilled.rglob("*.safetensors"))  # others can read it
    assert provenance["parameters"] == sum(p.numel() for p in SmallDecoder.from_pretrained(distilled).parameters())
    strip = read_frame(distilled / "validation" / f"step{STEPS:06d}.png")
    assert strip.shape == (14 + 8 * 32, 4 * 32, 3)  # LR, the two decoders, ground truth


def test_the_small_decoder_guides_and_the_vae_paints(distilled, vectors, monkeypatch):
    pipe = StableVSRPipeline.from_pretrained(vectors / "model_v", device="cpu", guidance_decoder=distilled)
    whole = StableVSRPipeline.from_pretrained(vectors / "model_v", device="cpu")
    lr = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)

    def frames(of, strategy):
        made = of(lr, 2, strategy, generator=torch.Generator().manual_seed(0), flow_estimator=vector_flow)
        return made.frames

    assert np.array_equal(frames(pipe, "single_frame"), frames(whole, "single_frame"))
    painted = []
    decode = pipe.networks.vae.decode
    monkeypatch.setattr(pipe.networks.vae, "decode", lambda z, **named: painted.append(len(z)) or decode(z, **named))
    guided = frames(pipe, "bidirectional")
    assert sum(painted) == 3  # the finished frames and no other
    difference = np.abs(guided - frames(whole, "bidirectional"))
    assert difference.max() > 0


@pytest.mark.parametrize(("compensation", "shown"), [("pixel", 0), ("none", 0), ("latent", 1)])
def test_the_small_decoder_sees_the_frame_whose_latents_it_decodes(distilled, vectors, compensation, shown):
    """The neighbour's; latents that are warped before they are decoded show the frame itself."""
    pipe = StableVSRPipeline.from_pretrained(vectors / "model_v", device="cpu", guidance_decoder=distilled)
    lr = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    seen = []
    pipe.guidance_decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1][0]))
    pipe(lr, 1, "unidirectional", flow_estimator=vector_flow, motion_compensation=compensation)
    (given,) = seen
    assert torch.allclose(given, to_tensor(lr)[shown], atol=1e-6)


def test_the_small_decoder_refuses_noisy_latents(distilled, vectors):
    pipe = StableVSRPipeline.from_pretrained(vectors / "model_v", device="cpu", guidance_decoder=distilled)
    with pytest.raises(UserError, match="cannot decode noisy ones"):
        pipe(np.zeros((2, 16, 16, 3), np.uint8), 1, flow_estimator=vector_flow, source="xt")


def test_a_folder_that_holds_no_decoder_is_one_sentence(vectors, tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        StableVSRPipeline.from_pretrained(vectors / "model_v", device="cpu", guidance_decoder=tmp_path)


def test_weights_in_8_bits_are_smaller_and_give_nearly_the_same_frames():
    lr = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)

    def made(weights):
        pipe = StableVSRPipeline.from_pretrained("tiny", device="cpu", precision="bf16", weights=weights)
        size = sum(p.nbytes for p in pipe.networks.unet.parameters())
        return size, pipe(lr, 2, generator=torch.Generator().manual_seed(0), flow_estimator="dis").frames

    full, frames = made("full")
    packed, approximate = made("fp8")
    assert 0.5 < packed / full < 0.6  # normalisations keep 16 bits
    error = float(np.square(frames - approximate).mean())
    assert 25 < -10 * np.log10(error) < 60  # dB: it shows, and it is the same picture


def test_packing_leaves_normalisations_and_the_arithmetic_in_full():
    model = load_networks(TINY)
    model.pack()
    kinds = {name: p.dtype for name, p in model.unet.named_parameters()}
    assert kinds["conv_norm_out.weight"] == torch.float32
    assert kinds["down_blocks.0.resnets.0.conv1.weight"] == torch.float8_e4m3fn
    assert model.unet.dtype == torch.float32  # what it computes in


@pytest.mark.parametrize("misspelt", [{"weights": "fp9"}, {"precision": "bf61"}])
def test_a_misspelt_precision_is_one_sentence(misspelt):
    with pytest.raises(UserError, match="is not one of"):
        StableVSRPipeline.from_pretrained("tiny", device="cpu", **misspelt)
