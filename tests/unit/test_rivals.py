"""BasicVSR++ and RealBasicVSR: the published networks, mmediting's checkpoints, memory, half precision."""

import functools
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from fetch_server import row, running, sha256

from stablevsr import baselines
from stablevsr.baselines.networks import basicvsr as common
from stablevsr.baselines.networks import clips
from stablevsr.baselines.networks.basicvsr import BasicVSR
from stablevsr.baselines.networks.basicvsr_pp import BasicVSRPlusPlus
from stablevsr.baselines.networks.checkpoints import from_mmediting
from stablevsr.baselines.networks.features import FeatureStore
from stablevsr.baselines.networks.realbasicvsr import RealBasicVSR
from stablevsr.data.downloads import registry
from stablevsr.runtime.errors import UserError
from tests.formula_weights import fill, filled

CASE = Path(__file__).parents[1] / "vectors" / "basicvsr_pp" / "case.npz"


def clip_of(case):
    return torch.from_numpy(case["lr"]).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def case():
    return np.load(CASE)


@pytest.fixture(scope="module")
def network():
    return filled(BasicVSRPlusPlus(16, 1, 10))


def difference(out, case):
    return np.abs(out.permute(0, 2, 3, 1).numpy()[:, ::2, ::2] - case["sr"]).max()


def test_basicvsr_pp_equals_the_published_network(network, case):
    assert sorted(network.state_dict()) == sorted(case["names"].tolist())
    assert difference(network(clip_of(case)), case) < 1e-4


def test_features_in_a_file_change_no_number(network, case, monkeypatch, tmp_path):
    made = []
    file = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **named: made.append(file(dir=tmp_path, **named)) or made[-1])
    monkeypatch.setattr(common, "room", lambda device: 300_000)  # one tensor of features has 262,144 bytes
    assert difference(network(clip_of(case)), case) < 1e-4
    assert len(made) == 1 and made[0].seek(0, 2) > 15 * 262_144  # 4 frames x (the frame's own and three passes)
    assert list(tmp_path.iterdir()) == []  # nameless: nothing is left behind


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_feature_store_gives_back_every_bit(dtype):
    store = FeatureStore(100)
    tensors = {key: torch.randn(1, 3, 5, 2).to(dtype).transpose(2, 3) for key in ("a", ("b", 1), ("b", 2), "c")}
    for key, value in tensors.items():
        store[key] = value
    for key in ("c", "a", ("b", 2), ("b", 1)):
        assert key in store and torch.equal(store[key], tensors[key]) and store[key].dtype == dtype
    store.drop("a")
    assert "a" not in store and torch.equal(store["c"], tensors["c"])


def test_a_full_disk_is_one_sentence_with_the_way_out(monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("r+b"))  # noqa: SIM115
    with pytest.raises(UserError, match=r"do not fit into .* TMPDIR"):
        FeatureStore(0)["a"] = torch.zeros(9)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_changes_the_frames_little(case, precision):
    frames = case["lr"][:2, :33, :33]  # float16 is slow on a CPU
    exact = clips.upscaler(filled(BasicVSRPlusPlus(8, 1, 10)), "cpu", "fp32")(frames)
    out = clips.upscaler(filled(BasicVSRPlusPlus(8, 1, 10)), "cpu", precision)(frames)
    error = np.abs(out - exact)
    assert out.dtype == np.float32 and 0 < error.max() < 4 / 255 and error.mean() < 0.5 / 255


def test_a_batch_of_clips_is_one_clip_after_the_other(network, case):
    clip = clip_of(case)[:2]
    both = network(torch.stack([clip, clip.flip(-1)]))
    assert torch.equal(both[0], network(clip)) and torch.equal(both[1], network(clip.flip(-1)))


def test_one_frame_and_frames_too_small_for_the_flow(network):
    frames = np.random.default_rng(0).integers(0, 256, (2, 20, 40, 3), dtype=np.uint8)
    upscale = clips.upscaler(network, "cpu", "fp32")
    assert upscale(frames).shape == (2, 80, 160, 3) and upscale(frames[:1]).shape == (1, 80, 160, 3)
    first = next(upscale.stream(frames))
    assert np.array_equal(first, upscale(frames)[0])


PEAK = """
    import resource, sys
    import numpy as np, torch
    from stablevsr.baselines.networks.basicvsr_pp import BasicVSRPlusPlus
    from stablevsr.baselines.networks import basicvsr, clips

    class NoFlow(torch.nn.Module):  # SpyNet and conv_hr take most of the time and keep nothing
        def forward(self, target, source):
            return torch.zeros_like(target[:, :2])

    basicvsr.room = lambda device: 4 * 2**20
    torch.set_num_threads(1)
    network = BasicVSRPlusPlus(8, 1)
    network.spynet, network.conv_hr = NoFlow(), torch.nn.Identity()
    clip = np.zeros((int(sys.argv[1]), 64, 64, 3), np.uint8)
    for frame in clips.upscaler(network, "cpu", "fp32").stream(clip):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number_of_frames():
    def peak(frames):
        command = [sys.executable, "-c", textwrap.dedent(PEAK), str(frames)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1024

    features = 4 * 8 * 64 * 64 * 4  # bytes a frame: its own and three passes
    assert 10 * features > 4 * 2**20  # the shorter clip fills the room in memory already
    assert peak(50) - peak(10) < 40 * features / 3


def cleaner(threshold):
    """RealBasicVSR whose cleaning network adds 0.01 to every pixel, whatever it sees."""
    network = filled(RealBasicVSR(8, 1, threshold))
    with torch.no_grad():
        network.image_cleaning[1].weight.zero_()
        network.image_cleaning[1].bias.fill_(0.01)
    return network


@pytest.mark.parametrize(("threshold", "rounds"), [(255, 1), (2.56, 1), (2.54, 3)])
def test_cleaning_is_repeated_while_it_changes_more_than_the_threshold(threshold, rounds, case):
    frames = clip_of(case).split(1)
    cleaned = cleaner(threshold).clean(frames)
    for i in range(len(frames)):
        assert torch.allclose(cleaned[i], frames[i] + 0.01 * rounds, atol=1e-6)


def test_realbasicvsr_is_basicvsr_of_the_cleaned_frames(case):
    network, clip = cleaner(255), clip_of(case)
    assert torch.equal(network(clip), network.basicvsr(torch.cat([frame + 0.01 for frame in clip.split(1)])))
    assert RealBasicVSR().threshold == 255 and len(RealBasicVSR().state_dict()) == 320  # tensors of the official file


def to_mmediting(state, prefix):
    """The state dict with mmediting's names, written from its published network code."""
    renamed = {}
    for name, value in state.items():
        name = re.sub(r"upconv(\d)\.", r"upsample\1.upsample_conv.", name)
        name = name.replace("backward_trunk", "backward_resblocks").replace("forward_trunk", "forward_resblocks")
        level = re.fullmatch(r"(.*spynet\.basic_module\.\d\.basic_module)\.(\d)\.(weight|bias)", name)
        if level:
            name = f"{level[1]}.{int(level[2]) // 2}.conv.{level[3]}"
        renamed[prefix + name] = value
    return renamed


def checkpoint(network, prefix):
    """A file like mmediting's: other networks, a counter and the configuration beside the weights."""
    state = to_mmediting(fill(network.state_dict()), prefix)
    other = {f"generator.{name}": torch.zeros(1) for name in ("conv_hr.weight", "spynet.mean")}
    others = {} if prefix == "generator." else other
    rest = {"step_counter": torch.zeros(1), "discriminator.conv.weight": torch.zeros(1)}
    return {"meta": {"iter": 600000, "config": "model = dict()"}, "state_dict": {**others, **state, **rest}}


NAMES = {
    "basicvsr-pp-reds4": ("basicvsr_pp_reds4", "generator.", BasicVSRPlusPlus),
    "basicvsr-pp-vimeo-bi": ("basicvsr_pp_vimeo_bi", "generator.", BasicVSRPlusPlus),
    "basicvsr-pp-vimeo-bd": ("basicvsr_pp_vimeo_bd", "generator.", BasicVSRPlusPlus),
    "realbasicvsr": ("realbasicvsr", "generator_ema.", RealBasicVSR),
}


@pytest.fixture
def small(monkeypatch):
    """The published classes with small widths, so that a test reads their files in no time."""
    pp = functools.partial(BasicVSRPlusPlus, 8, 1, 10)
    real = functools.partial(RealBasicVSR, 8, 1)
    monkeypatch.setattr("stablevsr.baselines.networks.basicvsr_pp.BasicVSRPlusPlus", pp)
    monkeypatch.setattr("stablevsr.baselines.networks.realbasicvsr.RealBasicVSR", real)
    return {BasicVSRPlusPlus: pp, RealBasicVSR: real}


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Serve a file as the weights of a row of the registry, with its hash in the row as published."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with running() as server:

        def serve(name, content, stated=None):
            torch.save(content, tmp_path / "made.pth")
            body = (tmp_path / "made.pth").read_bytes()
            url = server.add(f"/{name}.pth", body)
            destination = {"how": "torch_hub", "folder": "checkpoints"}
            prefix = (stated or sha256(body))[:8]
            table = row(name, "weights", urls=[url], sha256_prefix=prefix, destination=destination)
            parsed = {key: registry.Row.model_validate({"name": key, **fields}) for key, fields in table.items()}
            monkeypatch.setattr(registry, "load", lambda: parsed)

        yield serve


@pytest.mark.parametrize("kind", NAMES)
def test_a_checkpoint_of_mmediting_is_fetched_and_read(kind, small, published):
    weights, prefix, network = NAMES[kind]
    published(weights, checkpoint(small[network](), prefix))
    frames = np.random.default_rng(1).integers(0, 256, (3, 34, 36, 3), dtype=np.uint8)
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    expected = filled(small[network]())(clip).permute(0, 2, 3, 1).clamp(0, 1).numpy()
    assert np.abs(baselines.load(kind, "cpu")(frames) - expected).max() < 1e-6
    assert baselines.BASELINES[kind].weights == (weights,)


def test_every_published_layer_is_found_again():
    for network, prefix in ((BasicVSRPlusPlus(8, 1), "generator."), (RealBasicVSR(8, 1), "generator_ema.")):
        state = network.state_dict()
        assert sorted(from_mmediting(checkpoint(network, prefix), prefix)) == sorted(state)


def test_another_network_is_refused(small, published):
    published("basicvsr_pp_reds4", {"state_dict": to_mmediting(BasicVSR(8, 1).state_dict(), "generator.")})
    with pytest.raises(UserError, match=r"basicvsr_pp_reds4 are not those of the published network: .*Missing"):
        baselines.load("basicvsr-pp-reds4", "cpu")


def test_a_file_with_another_hash_is_refused(small, published):
    published("realbasicvsr", {"state_dict": {}}, stated="0" * 64)
    with pytest.raises(UserError, match="0000"):
        baselines.load("realbasicvsr", "cpu")


def test_a_file_that_would_run_code_is_refused(small, published):
    published("realbasicvsr", {"state_dict": {}, "hook": functools.partial(print, "run")})
    with pytest.raises(UserError, match="holds more than weights"):
        baselines.load("realbasicvsr", "cpu")


def test_the_registry_states_the_hash_that_is_in_the_name():
    for weights, _, _ in NAMES.values():
        published_row = registry.get(weights)
        assert published_row.filename.endswith(f"-{published_row.sha256_prefix}.pth")


def test_only_networks_that_see_the_sequence_have_half_precision():
    with pytest.raises(UserError, match="bicubic computes in one precision only"):
        baselines.load("bicubic", "cpu", "fp16")


def test_values_that_are_not_finite_stop_the_baseline(small, published):
    content = checkpoint(small[RealBasicVSR](), "generator_ema.")
    content["state_dict"]["generator_ema.basicvsr.conv_last.bias"].fill_(torch.nan)
    published("realbasicvsr", content)
    upscale = baselines.load("realbasicvsr", "cpu")
    with pytest.raises(UserError, match="realbasicvsr gave values that are not finite numbers at frame 0"):
        upscale(np.zeros((2, 34, 36, 3), np.uint8))
