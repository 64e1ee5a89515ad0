"""StableVSRPipeline used as any pipeline of diffusers is: dtypes, moving, saving, parts, offloading, progress bar."""

import json
import subprocess
import sys

import diffusers
import numpy as np
import pytest
import torch
from accelerate import cpu_offload_with_hook
from accelerate.hooks import CpuOffload
from transformers import CLIPTextModel, CLIPTokenizer

from stablevsr import StableVSRPipeline
from stablevsr.method.model_folder import TINY
from stablevsr.method.small_decoder import SmallDecoder
from stablevsr.runtime.errors import UserError
from tests.flow import vector_flow

LR = np.random.default_rng(0).integers(0, 256, (3, 16, 20, 3), dtype=np.uint8)
NETWORKS = ("unet", "vae", "controlnet")
ROUNDING = 2e-6  # weights that lie elsewhere in a file are aligned otherwise in memory, and summed in another order


def load(model, **options):
    return StableVSRPipeline.from_pretrained(model, device="cpu", **options)


def frames(pipe, steps=2, **settings):
    return pipe(LR, steps, generator=torch.Generator().manual_seed(1), **settings).frames


@pytest.fixture
def model_v(vectors):
    return load(vectors / "model_v")


@pytest.fixture(scope="module")
def expected(vectors):
    return frames(load(vectors / "model_v"), flow_estimator=vector_flow)


def test_it_is_a_pipeline_of_diffusers(model_v):
    assert isinstance(model_v, diffusers.DiffusionPipeline)
    names = {"unet", "vae", "controlnet", "text_encoder", "tokenizer", "scheduler", "guidance_decoder"}
    assert set(model_v.components) == names and model_v.guidance_decoder is None


@pytest.mark.parametrize("model", ["tiny", "model_v"])
def test_a_saved_pipeline_gives_equal_frames(vectors, tmp_path, model):
    pipe = load(model if model == "tiny" else vectors / model)
    pipe.save_pretrained(tmp_path)
    again = load(tmp_path)
    for solver in ("ddpm", "unipc"):
        made = [frames(p, flow_estimator="dis", scheduler=solver) for p in (pipe, again)]
        np.testing.assert_allclose(*made, atol=ROUNDING)


def test_a_saved_tiny_keeps_its_flow_and_its_grid(tmp_path):
    tiny = load("tiny")
    assert (tiny.config.flow, tiny.config.warp) == ("dis", "aligned")
    tiny.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert (again.config.flow, again.config.warp) == ("dis", "aligned")
    np.testing.assert_allclose(frames(again), frames(tiny), atol=ROUNDING)
    assert json.loads((tmp_path / "saved" / "model_index.json").read_text())["warp"] == "aligned"


def test_flow_and_grid_can_be_chosen_when_loading_and_are_saved(tmp_path):
    load("tiny", warp="published", flow="raft").save_pretrained(tmp_path)
    again = load(tmp_path)
    assert (again.config.flow, again.config.warp) == ("raft", "published")


def test_a_model_index_that_names_no_known_grid_is_one_sentence(vectors, tmp_path):
    (tmp_path / "model_index.json").write_text('{"warp": "alligned"}')
    with pytest.raises(UserError, match=r"model_index\.json: 'warp' is 'alligned', .*did you mean 'aligned'"):
        load(tmp_path)


@pytest.mark.parametrize("folder", ["tiny", "released", "saved"])
def test_every_part_loads_by_its_plain_class(folder, vectors, tmp_path, expected):
    place = {"tiny": TINY, "released": vectors / "model_v", "saved": tmp_path}[folder]
    if folder == "saved":
        load(vectors / "model_v").save_pretrained(tmp_path)
    parts = {
        "unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL, "controlnet": diffusers.ControlNetModel,
        "scheduler": diffusers.DDIMScheduler, "text_encoder": CLIPTextModel, "tokenizer": CLIPTokenizer,
    }  # fmt: skip
    pipe = StableVSRPipeline(**{name: kind.from_pretrained(place, subfolder=name) for name, kind in parts.items()})
    made = frames(pipe, flow_estimator=vector_flow)
    reference = frames(load("tiny", warp="published"), flow_estimator=vector_flow) if folder == "tiny" else expected
    np.testing.assert_allclose(made, reference, atol=1e-5)


def test_a_loaded_part_replaces_the_folders(vectors):
    tcm = diffusers.ControlNetModel.from_pretrained(vectors / "model_v", subfolder="controlnet")
    assert load(vectors / "model_v", controlnet=tcm).controlnet is tcm


def test_saving_and_loading_without_a_tcm(vectors, tmp_path):
    load(vectors / "model_v", controlnet=None).save_pretrained(tmp_path)
    pipe = load(tmp_path)
    assert pipe.controlnet is None and not (tmp_path / "controlnet").exists()
    with pytest.raises(UserError, match="bidirectional needs a TCM"):
        frames(pipe)
    assert load(tmp_path, tcm=vectors / "model_v" / "controlnet").controlnet is not None


def test_a_small_decoder_is_saved_and_loaded_with_the_model(vectors, tmp_path):
    SmallDecoder(width=8).save_pretrained(tmp_path / "decoder")
    pipe = load(vectors / "model_v", guidance_decoder=tmp_path / "decoder")
    pipe.save_pretrained(tmp_path / "saved")
    assert load(tmp_path / "saved").guidance_decoder is None  # exact, the default, decodes with the VAE
    assert isinstance(load(tmp_path / "saved", preset="fast").guidance_decoder, SmallDecoder)
    again = load(tmp_path / "saved", guidance_decoder="stored")
    assert np.array_equal(*(frames(p, flow_estimator=vector_flow) for p in (pipe, again)))


@pytest.mark.parametrize("asked", [{"torch_dtype": torch.bfloat16}, {"precision": "bf16"}])
def test_a_dtype_is_that_of_the_networks(vectors, asked, expected):
    pipe = load(vectors / "model_v", **asked)
    assert {getattr(pipe, name).dtype for name in NETWORKS} == {torch.bfloat16} == {pipe.dtype}
    half = load(vectors / "model_v")
    prompt = half.networks.prompt
    assert torch.equal(pipe.networks.prompt, prompt.bfloat16())  # encoded in float32
    made = frames(pipe, flow_estimator=vector_flow)
    assert 0 < np.abs(made - expected).mean() < 0.02
    assert np.array_equal(made, frames(half.to(torch.bfloat16), flow_estimator=vector_flow))


def test_a_vae_that_overflows_stays_in_float32(vectors):
    for pipe in (load(vectors / "model_v", torch_dtype=torch.float16), load(vectors / "model_v").to(torch.float16)):
        assert (pipe.unet.dtype, pipe.vae.dtype) == (torch.float16, torch.float32)
    assert load("tiny").to(torch.float16).vae.dtype == torch.float16  # its configuration says that it does not


def test_moving_moves_what_the_sampler_runs_on(model_v):
    assert model_v.to("meta") is model_v
    networks = model_v.networks
    assert {networks.device.type, networks.prompt.device.type, networks.unet.device.type} == {"meta"}


@pytest.mark.parametrize("wrong,sentence", [
    ({"tourch_dtype": torch.float16}, "takes no 'tourch_dtype' .did you mean 'torch_dtype'"),
    ({"presicion": "bf16"}, "did you mean 'precision'"),
    ({"controlnett": None}, "did you mean 'controlnet'"),
    ({"torch_dtype": torch.float16, "precision": "fp16"}, "give either torch_dtype or precision, not both"),
    ({"torch_dtype": torch.int8}, "torch_dtype is torch.int8: give one of torch.float32, "),
    ({"flow": "rafft"}, "did you mean 'raft'"),
])  # fmt: skip
def test_a_wrong_argument_is_one_sentence(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        load("tiny", **wrong)


def test_the_progress_bar_counts_frame_steps_and_can_be_switched_off(model_v, capsys):
    frames(model_v, strategy="single_frame")
    assert "6/6" in capsys.readouterr().err
    model_v.set_progress_bar_config(disable=True)
    frames(model_v, strategy="single_frame")
    assert capsys.readouterr().err == ""


def test_the_output_is_read_as_other_pipelines_outputs_are(model_v):
    out = model_v(LR, 1, "single_frame")
    assert out[0] is out.frames is out["frames"]


def test_networks_are_moved_to_where_they_run_and_back(model_v, expected, monkeypatch):
    """With hooks that move to the CPU, in place of a GPU: that of each network fires before it runs, in every call."""
    fired = []
    before = CpuOffload.pre_forward
    monkeypatch.setattr(CpuOffload, "pre_forward", lambda s, m, *a, **k: fired.append(m) or before(s, m, *a, **k))
    model_v.enable_model_cpu_offload(device="cpu")
    for _ in range(2):
        fired.clear()
        assert np.array_equal(frames(model_v, flow_estimator=vector_flow), expected)
        assert {id(network) for network in fired} == {id(getattr(model_v, name)) for name in NETWORKS}
        assert fired[0] is model_v.unet and fired[-1] is model_v.vae


def test_offloading_runs_on_the_device_of_the_hooks(model_v):
    for name in ("text_encoder", *NETWORKS):
        cpu_offload_with_hook(getattr(model_v, name), "meta")
    assert model_v.device.type == "cpu" and model_v.networks.device.type == "meta"
    assert model_v.networks.prompt.device.type == "meta"


def test_importing_the_package_imports_no_torch():
    code = "import sys, stablevsr, stablevsr.method.model_folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
