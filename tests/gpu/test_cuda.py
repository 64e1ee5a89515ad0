"""On a GPU: the CPU's numbers to the card's rounding, memory and stages measured. `make test-gpu` runs these."""

import json

import numpy as np
import pytest
import torch

from stablevsr import StableVSRPipeline
from stablevsr.baselines.basicvsr_pp import BasicVSRPlusPlus
from stablevsr.baselines.networks import basicvsr, clips
from stablevsr.cli import main
from stablevsr.method.noise import INITIAL, PublishedNoise
from stablevsr.training.loop import accelerator_for
from tests.flow import vector_flow
from tests.formula_weights import filled

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use"),
]


@pytest.fixture
def exact():
    """float32 without TF32, which a card's convolutions use of themselves."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def frames(vectors, case, **options):
    stored = np.load(vectors / case / "case.npz")
    pipe = StableVSRPipeline.from_pretrained(vectors / "model_v", device="cuda", **options)
    generator = torch.Generator().manual_seed(int(stored["seed"]))
    made = pipe(stored["lr"], int(stored["steps"]), generator=generator, flow_estimator=vector_flow).frames
    return made, stored["sr"]


@pytest.mark.parametrize("case", ["sampling_v", "sampling_v_odd"])
def test_equals_the_published_sampler(vectors, case, exact):
    made, published = frames(vectors, case)
    assert np.abs(made - published).max() < 1e-4


def test_compiled_networks_equal_the_published_sampler(vectors, exact):
    made, published = frames(vectors, "sampling_v", compile=True)
    assert np.abs(made - published).max() < 1e-4


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_stays_close(vectors, precision):
    made, published = frames(vectors, "sampling_v", precision=precision)
    assert -10 * np.log10(np.square(made - published).mean()) > 40


def test_offloaded_networks_give_the_same_frames_and_leave_the_gpu(vectors, exact):
    stored = np.load(vectors / "sampling_v" / "case.npz")
    pipe = StableVSRPipeline.from_pretrained(vectors / "model_v", device="cpu")
    pipe.enable_model_cpu_offload()
    for _ in range(2):
        generator = torch.Generator().manual_seed(int(stored["seed"]))
        made = pipe(stored["lr"], int(stored["steps"]), generator=generator, flow_estimator=vector_flow).frames
        assert np.abs(made - stored["sr"]).max() < 1e-4
        assert {pipe.unet.device.type, pipe.vae.device.type, pipe.controlnet.device.type} == {"cpu"}


def test_a_generator_on_the_gpu_draws_what_torch_draws_there():
    noise = PublishedNoise([torch.Generator("cuda").manual_seed(1)], (4, 8, 8), [[0, 1]], torch.device("cuda"))
    plain = torch.Generator("cuda").manual_seed(1)
    for frame in range(2):
        drawn = torch.randn(1, 4, 8, 8, generator=plain, device="cuda")
        assert torch.equal(noise(INITIAL, frame), drawn)


def test_the_bench_measures_stages_and_memory_of_the_card(tmp_path):
    out = tmp_path / "bench.json"
    options = ["--device", "cuda", "--size", "32x24", "--frames", "2", "--sequences", "2", "--steps", "2"]
    assert main(["bench", *options, "--cases", "published,exact,tf32,bf16,fast", "--out", str(out)]) == 0
    for case in json.loads(out.read_text())["cases"]:
        assert case["stages"]["UNet up"] > 0 and case["peak_memory"] > 2**20
        assert sum(case["stages"].values()) == pytest.approx(case["seconds"], rel=0.05)


def test_a_process_may_train_on_the_cpu_first_and_then_on_the_gpu():
    devices = [accelerator_for("fp32", device).device.type for device in ("cpu", "cuda")]
    assert devices == ["cpu", "cuda"]


@pytest.mark.parametrize("room", [None, 0])
@pytest.mark.parametrize(("precision", "bar"), [("fp32", 1e-4), ("fp16", 4 / 255)])
def test_basicvsr_pp_equals_the_published_network(vectors, exact, monkeypatch, precision, bar, room):
    if room is not None:  # all features in the file
        monkeypatch.setattr(basicvsr, "room", lambda device: room)
    case = np.load(vectors / "basicvsr_pp" / "case.npz")
    made = clips.upscaler(filled(BasicVSRPlusPlus(16, 1, 10)), "cuda", precision)(case["lr"])
    assert np.abs(made[:, ::2, ::2] - case["sr"].clip(0, 1)).max() < bar
