"""Model folders: whole ones load, damaged ones are one sentence, full-size counts match the released weights."""

import json
import shutil

import numpy as np
import pytest
import torch

from stablevsr import StableVSRPipeline
from stablevsr.cli import main
from stablevsr.data.downloads import hub
from stablevsr.data.frames import write_frame
from stablevsr.method import tcm
from stablevsr.method.model_folder import TINY, find_model
from stablevsr.runtime.errors import UserError


def copy_of(vectors, tmp_path):
    return shutil.copytree(vectors / "model_v", tmp_path / "model")


@pytest.mark.parametrize("part", ["unet", "vae", "controlnet", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(vectors, tmp_path, part):
    model = copy_of(vectors, tmp_path)
    shutil.rmtree(model / part)
    with pytest.raises(UserError, match=f"lacks {part}/"):
        StableVSRPipeline.from_pretrained(model)


def test_pickled_weights_are_not_loaded(vectors, tmp_path):
    model = copy_of(vectors, tmp_path)
    (model / "unet" / "diffusion_pytorch_model.safetensors").rename(model / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="pickled"):
        StableVSRPipeline.from_pretrained(model)


def test_an_error_that_says_nothing_is_named_by_its_kind(vectors, monkeypatch):
    def fail(*_, **__):
        raise ValueError

    monkeypatch.setattr("diffusers.UNet2DConditionModel.from_pretrained", fail)
    with pytest.raises(UserError, match="unet cannot be loaded as UNet2DConditionModel: ValueError"):
        StableVSRPipeline.from_pretrained(vectors / "model_v", device="cpu")


def test_weights_of_another_network_are_named(vectors, tmp_path):
    model = copy_of(vectors, tmp_path)
    shutil.copy(*(model / part / "diffusion_pytorch_model.safetensors" for part in ("unet", "controlnet")))
    with pytest.raises(UserError, match="controlnet holds weights that are not those of the ControlNetModel"):
        StableVSRPipeline.from_pretrained(model)


def test_an_empty_tokenizer_is_named(vectors, tmp_path):
    model = copy_of(vectors, tmp_path)
    shutil.rmtree(model / "tokenizer")
    (model / "tokenizer").mkdir()
    with pytest.raises(UserError, match=r"the prompt cannot be encoded by .*tokenizer"):
        StableVSRPipeline.from_pretrained(model)


def test_a_truncated_file_is_named(vectors, tmp_path):
    model = copy_of(vectors, tmp_path)
    file = model / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="vae cannot be loaded"):
        StableVSRPipeline.from_pretrained(model)


def test_an_unreachable_hub_offers_the_embedded_model(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(UserError, match="the embedded model, `tiny`"):
        StableVSRPipeline.from_pretrained("nobody/no-such-model")


@pytest.mark.parametrize("given,sentence", [
    ({"tcm": "unet"}, "unet holds another network, UNet2DConditionModel: ControlNetModel is wanted"),
    ({"guidance_decoder": "vae"}, "vae holds another network, AutoencoderKL: SmallDecoder is wanted"),
    ({"tcm": "nowhere"}, "there is no folder .*nowhere"),
])  # fmt: skip
def test_a_folder_of_another_network_is_one_sentence(vectors, given, sentence):
    folders = {name: vectors / "model_v" / part for name, part in given.items()}
    with pytest.raises(UserError, match=sentence):
        StableVSRPipeline.from_pretrained(vectors / "model_v", device="cpu", **folders)


@pytest.mark.parametrize("given,sentence", [
    ({"model": None}, "the model is None: give a hub id"),
    ({"model": ""}, "the model is ''"),
    ({"tile": 0}, "'tile'"),
    ({"device": "abacus"}, "device abacus is not supported"),
    ({"tcm": 5}, "controlnet is a int: give a folder"),
    ({"unet": None}, "unet is a NoneType: give a folder or a loaded unet"),
    ({"vae": torch.nn.Linear(2, 2)}, "vae is a Linear: give a folder or a loaded vae"),
    ({"scheduler": 3}, "scheduler is a int"),
    ({"tokenizer": None}, "tokenizer is a NoneType"),
    ({"text_encoder": object()}, "text_encoder is a object"),
    ({"revision": "v1"}, "revision v1 has no effect on tiny, which is no hub id"),
])  # fmt: skip
def test_bad_arguments_of_loading_are_one_sentence(given, sentence):
    with pytest.raises(UserError, match=sentence):
        StableVSRPipeline.from_pretrained(**{"model": "tiny", "device": "cpu", **given})


@pytest.mark.parametrize("model,revision,asked", [
    ("a/b", None, ("a/b", None)), ("a/b", "main", ("a/b", "main")), ("a/b@5f3c", None, ("a/b", "5f3c")),
])  # fmt: skip
def test_a_revision_reaches_the_hub(monkeypatch, model, revision, asked):
    monkeypatch.setattr(hub, "model_folder", lambda *given: given)
    assert find_model(model, revision) == asked


def test_upscale_takes_a_revision(monkeypatch, tmp_path, capsys):
    def stop(repo, revision):
        raise UserError(f"{repo} at {revision}")

    monkeypatch.setattr(hub, "model_folder", stop)
    write_frame(tmp_path / "lr" / "0.png", np.zeros((8, 8, 3), np.uint8))
    assert main(["upscale", str(tmp_path / "lr"), str(tmp_path / "sr"), "--model", "a/b", "--revision", "v2"]) == 1
    assert "a/b at v2" in capsys.readouterr().err


SCHEDULE = json.loads((TINY / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("content,sentence", [
    ("", "scheduler_config.json is damaged"),
    ("[]", "scheduler_config.json: "),
    ("{}", "scheduler_config.json: '.*' is missing"),
    (json.dumps({**SCHEDULE, "prediction_type": "foo"}), "'prediction_type' is 'foo'"),
    (json.dumps({**SCHEDULE, "beta_end": 5}), "'beta_end'"),
    (json.dumps({**SCHEDULE, "beta_start": float("nan")}), "'beta_start'"),
    (json.dumps({**SCHEDULE, "num_train_timesteps": 0}), "'num_train_timesteps'"),
    (json.dumps({**SCHEDULE, "num_train_timesteps": 3}), "4 denoising steps are more than the 3"),
    (None, "scheduler_config.json is damaged"),
])  # fmt: skip
def test_a_broken_noise_schedule_is_one_sentence(tmp_path, content, sentence):
    shutil.copytree(TINY, tmp_path / "model")
    file = tmp_path / "model" / "scheduler" / "scheduler_config.json"
    file.unlink() if content is None else file.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=sentence):
        StableVSRPipeline.from_pretrained(tmp_path / "model", device="cpu")(np.zeros((1, 8, 8, 3), np.uint8), 4)


@pytest.mark.parametrize("misspelt,sentence", [
    ({"strategy": "bidirectonal"}, "'strategy' is 'bidirectonal', .*did you mean 'bidirectional'"),
    ({"scheduler": "ddmi"}, "'scheduler' is 'ddmi'"),
    ({"warp": "alligned"}, "did you mean 'aligned'"),
    ({"flow_estimator": "rafft"}, "no flow estimator 'rafft': known are raft, dis"),
])  # fmt: skip
def test_a_misspelt_setting_is_one_sentence(misspelt, sentence):
    pipe = StableVSRPipeline.from_pretrained("tiny", device="cpu")
    with pytest.raises(UserError, match=sentence):
        pipe(np.zeros((2, 8, 8, 3), np.uint8), 1, **misspelt)


def test_the_tiny_model_takes_the_grid_and_the_flow_it_was_trained_with(vectors):
    tiny, released = (StableVSRPipeline.from_pretrained(m, device="cpu") for m in ("tiny", vectors / "model_v"))
    assert (tiny.config.flow, tiny.config.warp) == ("dis", "aligned")
    assert (released.config.flow, released.config.warp) == ("raft", "published")
    frames = np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3), dtype=np.uint8)
    made = [tiny(frames, 2, generator=torch.Generator().manual_seed(1), **how).frames
            for how in ({}, {"warp": "aligned"}, {"warp": "published"})]  # fmt: skip
    assert np.array_equal(made[0], made[1]) and not np.allclose(made[0], made[2], atol=1e-5)


def test_a_tcm_from_another_folder_replaces_the_models_own(vectors, tmp_path):
    other = tcm.from_unet(StableVSRPipeline.from_pretrained(vectors / "model_v").networks.unet)
    other.save_pretrained(tmp_path / "tcm")
    pipe = StableVSRPipeline.from_pretrained(vectors / "model_v", tcm=tmp_path / "tcm", device="cpu")
    weight = pipe.networks.tcm.controlnet_mid_block.weight
    assert torch.count_nonzero(weight) == 0  # a fresh TCM; the vector model's own is random there


def test_a_checkpoint_of_the_released_training_is_a_tcm(vectors, tmp_path):
    """``checkpoint-20000`` holds the TCM as ``controlnet/``, beside the states of optimiser and noise."""
    checkpoint = tmp_path / "checkpoint-20000"
    shutil.copytree(vectors / "model_eps" / "controlnet", checkpoint / "controlnet")
    (checkpoint / "optimizer.bin").touch()
    loaded, own = (
        StableVSRPipeline.from_pretrained(vectors / "model_v", device="cpu", **how).networks.tcm.state_dict()
        for how in ({"tcm": checkpoint}, {"tcm": vectors / "model_eps" / "controlnet"})
    )
    assert all(torch.equal(loaded[name], own[name]) for name in own)


def test_a_fresh_tcm_changes_nothing_and_is_loadable_by_diffusers(pipe_v, tmp_path):
    from diffusers import ControlNetModel

    module = tcm.from_unet(pipe_v.networks.unet, conditioning_init=0.02)
    module.save_pretrained(tmp_path)
    again = ControlNetModel.from_pretrained(tmp_path)
    sample, image = torch.randn(1, 7, 16, 16), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        down, mid = tcm.residuals(again, sample, 10, pipe_v.networks.prompt, image)
    assert all(torch.count_nonzero(d) == 0 for d in down) and torch.count_nonzero(mid) == 0
    assert torch.count_nonzero(again.controlnet_cond_embedding.conv_out.weight) > 0


def test_parameter_groups_cover_the_tcm_once(pipe_v):
    module = tcm.from_unet(pipe_v.networks.unet)
    copied, new = tcm.split_parameters(module)
    assert sum(p.numel() for p in copied) + sum(p.numel() for p in new) == module.num_parameters()
    assert not {id(p) for p in copied} & {id(p) for p in new}
    source = dict(pipe_v.networks.unet.named_parameters())
    assert torch.equal(dict(module.named_parameters())["conv_in.weight"], source["conv_in.weight"])


def test_full_size_parameter_counts():
    """UNet 472.4 M, TCM 207.7 M, VAE 55.3 M, from the released configurations, without allocating them."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    blocks = dict(
        block_out_channels=(256, 512, 512, 1024), cross_attention_dim=1024, attention_head_dim=8, in_channels=7,
        only_cross_attention=(True, True, True, False), use_linear_projection=True,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    )  # fmt: skip
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            out_channels=4, up_block_types=("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",), **blocks
        )
        module = tcm.from_unet(unet)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512), latent_channels=4, layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        )  # fmt: skip
    counts = [round(m.num_parameters() / 1e6, 1) for m in (unet, module, vae)]
    assert counts == [472.4, 207.7, 55.3]
    assert tuple(module.config.conditioning_embedding_out_channels) == (64, 128, 256)
