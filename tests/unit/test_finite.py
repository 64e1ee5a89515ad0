"""Networks that give values that are not finite stop with network, frame and step, wherever frames are made."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stablevsr import StableVSRPipeline
from stablevsr.cli import main
from stablevsr.data.frames import write_frame
from stablevsr.method.finite import FiniteCheck
from stablevsr.method.model_folder import TINY
from stablevsr.method.settings import Guidance, Sampling
from stablevsr.runtime.errors import UserError

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


def damaged(folder, part, name, value):
    """A copy of the tiny model in which one value of the first weight with ``name`` in its name is ``value``."""
    model = folder / "model"
    shutil.copytree(TINY, model)
    file = next((model / part).glob("*.safetensors"))
    weights = {key: tensor.clone() for key, tensor in load_file(file).items()}
    weights[next(key for key in sorted(weights) if name in key)].view(-1)[0] = value
    save_file(weights, file)
    return model


@pytest.mark.parametrize("part,name,value,said", [
    ("unet", "conv_in.weight", float("nan"), "the UNet gave values .* at frame 0, step 1 of 2"),
    ("unet", "conv_out.weight", 3e38, "the UNet gave values"),
    ("controlnet", "controlnet_down_blocks.0.weight", float("nan"), "the TCM gave values .* at frame 1, step 1 of 2"),
    ("controlnet", "controlnet_cond_embedding.conv_in.weight", float("inf"), "the TCM gave values .* at frame 1"),
    ("vae", "decoder.conv_in.weight", float("nan"), "the VAE decoder gave values .* at frame 1, step 1 of 2"),
])  # fmt: skip
def test_the_network_the_frame_and_the_step_are_named(tmp_path, part, name, value, said):
    pipe = StableVSRPipeline.from_pretrained(damaged(tmp_path, part, name, value), device="cpu")
    with pytest.raises(UserError, match=said):
        pipe(FRAMES, 2, generator=torch.Generator().manual_seed(0))


def test_the_last_decoding_is_checked_too(tmp_path):
    model = damaged(tmp_path, "vae", "decoder.conv_out.weight", float("inf"))
    pipe = StableVSRPipeline.from_pretrained(model, device="cpu")
    with pytest.raises(UserError, match="the VAE decoder gave values that are not finite numbers at frame 0: "):
        pipe(FRAMES, 1, "single_frame")


def test_a_text_encoder_is_checked_on_loading(tmp_path):
    with pytest.raises(UserError, match="the text encoder gave values"):
        StableVSRPipeline.from_pretrained(damaged(tmp_path, "text_encoder", "final_layer_norm.weight", float("nan")))


def test_a_flow_estimator_is_checked(pipe_v):
    def estimator(target, source):
        return torch.full((len(target), 2, *target.shape[-2:]), float("nan"))

    with pytest.raises(UserError, match=r"the optical flow gave values .* at frame 1, step 1 of 1"):
        pipe_v(FRAMES, 1, flow_estimator=estimator)


def test_the_sequence_of_a_batch_is_named(pipe_v):
    lr = torch.zeros(3, 2, 3, 8, 8)
    lr[1, 1] = float("nan")
    generators = [torch.Generator() for _ in range(3)]
    with pytest.raises(UserError, match=r"the UNet gave .* at frame 1, sequence 2 of 3, step 1 of 1"):
        pipe_v.sample(lr, generators, Sampling(steps=1, strategy="single_frame"), Guidance())


def test_an_overflow_in_half_precision_offers_another():
    check = FiniteCheck(4, torch.float16, first=20)
    check.watch("UNet", 1, [3], torch.zeros(1, 2))
    check.watch("UNet", 2, [3, 4], torch.tensor([[0.0], [float("inf")]]))
    check.settle()  # a GPU may still be at work on these: they are looked at by the next call
    with pytest.raises(UserError, match=r"the UNet .* at frame 24, step 3 of 4: use precision fp32"):
        check.settle()


@pytest.mark.parametrize("strategy,said", [("bidirectional", "the TCM gave values"), ("single_frame", "")])
def test_upscale_writes_nothing_and_goes_on_from_no_such_state(tmp_path, capsys, strategy, said):
    model = damaged(tmp_path, "controlnet", "controlnet_mid_block.weight", float("nan"))
    for number, frame in enumerate(FRAMES):
        write_frame(tmp_path / "lr" / f"{number}.png", frame)
    command = ["upscale", str(tmp_path / "lr"), str(tmp_path / "sr"), "--model", str(model), "--steps", "2"]
    command += ["--strategy", strategy, "--flow", "dis"] if said else ["--strategy", strategy]
    command += ["--device", "cpu"]
    for _ in range(2):
        assert main(command) == (1 if said else 0)
        assert said in capsys.readouterr().err and (tmp_path / "sr").exists() == (not said)
        shutil.rmtree(tmp_path / "sr", ignore_errors=True)
