"""The sampler against the published code's outputs, and each setting against what it claims to do."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from stablevsr.method.guidance import Flows, guidance_image
from stablevsr.method.pipeline import load_networks, to_tensor
from stablevsr.method.sampler import Sampler, decode_frames
from stablevsr.method.scheduler import SOLVERS, Schedule
from stablevsr.method.settings import Guidance, Sampling
from stablevsr.method.strategies import STRATEGIES
from stablevsr.method.visits import guided_steps, visits
from stablevsr.runtime.errors import UserError
from tests.flow import vector_flow

PUBLISHED = 2e-6  # what a plain float32 loop reaches
ROUNDING = 1e-5  # of frames that go through a network side by side, whose convolutions add up in another order


def run(pipe, lr, seed=3, steps=3, **settings):
    settings = {"flow_estimator": vector_flow, "generator": torch.Generator().manual_seed(seed), **settings}
    return pipe(lr, num_inference_steps=steps, **settings).frames


@pytest.fixture(scope="module")
def clip(vectors):
    return np.load(vectors / "sampling_v" / "case.npz")["lr"]


@pytest.fixture(scope="module")
def usual(pipe_v, clip):
    return run(pipe_v, clip)


@pytest.mark.parametrize(
    "case,model", [("sampling_v", "pipe_v"), ("sampling_v_odd", "pipe_v"), ("sampling_eps", "pipe_eps")]
)
def test_equals_the_published_sampler(case, model, vectors, request):
    stored = np.load(vectors / case / "case.npz")
    out = run(request.getfixturevalue(model), stored["lr"], int(stored["seed"]), int(stored["steps"]))
    assert out.shape == stored["sr"].shape and out.dtype == np.float32
    assert np.abs(out - stored["sr"]).max() < ROUNDING


@pytest.mark.parametrize(
    "case,folder", [("sampling_v", "model_v"), ("sampling_v_odd", "model_v"), ("sampling_eps", "model_eps")]
)
def test_equals_the_published_sampler_more_closely_frame_by_frame(case, folder, vectors):
    stored = np.load(vectors / case / "case.npz")
    model = load_networks(vectors / folder)
    sampler = Sampler(model, Sampling(steps=int(stored["steps"])), Guidance(), vector_flow, at_once=1)
    latents = sampler(to_tensor(stored["lr"])[None], [torch.Generator().manual_seed(int(stored["seed"]))])
    out = torch.stack(list(decode_frames(model, latents[0]))).permute(0, 2, 3, 1).numpy()
    assert np.abs(out - stored["sr"]).max() < PUBLISHED


def test_sequences_side_by_side_equal_each_alone(pipe_v, clip):
    other = clip[::-1].copy()
    lr = torch.stack([torch.from_numpy(c).permute(0, 3, 1, 2).float() / 127.5 - 1 for c in (clip, other)])
    generators = [torch.Generator().manual_seed(s) for s in (1, 2)]
    for strategy in ("bidirectional", "unidirectional", "auto_regressive", "single_frame"):
        sampling = Sampling(strategy=strategy, steps=2)
        both = pipe_v.sample(lr, [g.clone_state() for g in generators], sampling, Guidance(), vector_flow)
        for i in range(2):
            alone = pipe_v.sample(lr[i : i + 1], [generators[i].clone_state()], sampling, Guidance(), vector_flow)
            torch.testing.assert_close(both[i], alone[0], atol=1e-5, rtol=1e-5)


def visited(frames, **settings):
    """The frames of each step, in visit order."""
    found = {}
    for visit in visits(Sampling(**settings), frames):
        found.setdefault(visit.step, []).append(visit.frame)
    return list(found.values())


def test_the_direction_turns_after_every_step():
    assert visited(3, steps=2, strategy="bidirectional") == [[0, 1, 2], [2, 1, 0]]
    assert visited(3, steps=2, strategy="unidirectional") == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_visits_each_frame_once_a_step_and_its_neighbours_before(strategy):
    seen = []
    for visit in visits(Sampling(steps=5, strategy=strategy, guide_every=2), 4):
        assert (visit.step, visit.frame) not in seen
        assert visit.step == 0 or (visit.step - 1, visit.frame) in seen
        if visit.neighbour is not None:
            assert (4 if visit.finished else visit.step, visit.neighbour) in seen
        seen.append((visit.step, visit.frame))
    assert len(seen) == 5 * 4


def test_every_strategy_starts_from_the_same_noise(pipe_v, clip):
    """One frame has no neighbour, so all strategies must give the same image from the same seed."""
    images = [run(pipe_v, clip[:1], strategy=s) for s in
              ("single_frame", "auto_regressive", "unidirectional", "bidirectional")]  # fmt: skip
    for image in images[1:]:
        np.testing.assert_allclose(image, images[0], atol=1e-5)


def test_unidirectional_passes_detail_forward_only(pipe_v, clip):
    changed = clip.copy()
    changed[-1] = 255 - changed[-1]
    before, after = (run(pipe_v, c, strategy="unidirectional") for c in (clip, changed))
    np.testing.assert_allclose(before[:-1], after[:-1], atol=1e-5)
    before, after = (run(pipe_v, c, strategy="bidirectional") for c in (clip, changed))
    assert np.abs(before[-2] - after[-2]).max() > 1e-4  # the last frame reaches the one before it, backwards in time


def test_auto_regressive_guides_by_the_finished_neighbour(pipe_v, clip):
    auto = run(pipe_v, clip, strategy="auto_regressive")
    uni = run(pipe_v, clip, strategy="unidirectional")
    single = run(pipe_v, clip, strategy="single_frame")
    np.testing.assert_allclose(auto[0], uni[0], atol=1e-5)
    np.testing.assert_allclose(auto[0], single[0], atol=1e-5)
    assert np.abs(auto[1] - uni[1]).max() > 1e-4
    # The last step's x̂0 of frame 0 is close to its finished latent, so with one step both strategies nearly agree.
    one_auto, one_uni = (run(pipe_v, clip, steps=1, strategy=s) for s in ("auto_regressive", "unidirectional"))
    assert np.abs(one_auto - one_uni).max() < np.abs(auto - uni).max()


@pytest.mark.parametrize("setting", [
    {"source": "xt"}, {"source": "none"}, {"motion_compensation": "latent"}, {"motion_compensation": "none"},
    {"warp": "aligned"}, {"scheduler": "ddim"}, {"scheduler": "dpmsolver++"}, {"scheduler": "unipc"},
    {"strategy": "single_frame"}, {"strategy": "auto_regressive"}, {"strategy": "unidirectional"}, {"steps": 2},
    {"seed": 4},
])  # fmt: skip
def test_each_setting_changes_the_frames(pipe_v, clip, usual, setting):
    assert np.abs(usual - run(pipe_v, clip, **setting)).max() > 1e-4


def test_a_blank_image_ignores_the_neighbour_and_the_flow(pipe_v, clip):
    def forbidden(target, source):
        raise AssertionError("a blank guidance image needs no flow")

    changed = clip.copy()
    changed[0] = 255 - changed[0]
    before, after = (run(pipe_v, c, source="none", flow_estimator=forbidden) for c in (clip, changed))
    np.testing.assert_allclose(before[1:], after[1:], atol=1e-5)


@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++", "unipc"])
def test_deterministic_solvers_equal_diffusers_own_loop(pipe_v, clip, scheduler):
    """One frame, no TCM: diffusers' scheduler in a plain loop is the outside truth for the solvers."""
    model = pipe_v.networks
    reference = SOLVERS[scheduler].from_config(model.scheduler)
    reference.set_timesteps(4)
    lr = torch.from_numpy(clip[:1]).permute(0, 3, 1, 2).float() / 127.5 - 1
    latent = torch.randn(1, 4, *lr.shape[-2:], generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        for t in reference.timesteps:
            out = model.unet(torch.cat([latent, lr], 1), t, encoder_hidden_states=model.prompt).sample
            latent = reference.step(out, t, latent).prev_sample
    ours = pipe_v.sample(
        lr[None], [torch.Generator().manual_seed(7)], Sampling(strategy="single_frame", scheduler=scheduler, steps=4),
        Guidance(),
    )  # fmt: skip
    torch.testing.assert_close(ours[0], latent, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon", "sample"])
@pytest.mark.parametrize("scheduler", ["ddpm", "ddim", "dpmsolver++", "unipc"])
def test_every_solvers_clean_latent_comes_from_the_models_output(pipe_v, scheduler, kind):
    """A model that knows the noise exactly: whatever it predicts, at every step the clean latent is found."""
    schedule = Schedule({**pipe_v.networks.scheduler, "prediction_type": kind}, scheduler, 5)
    clean, noise = torch.randn(2, 1, 4, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    for step, timestep in enumerate(schedule.timesteps):
        signal, spread = schedule.alpha_bar(timestep).sqrt(), (1 - schedule.alpha_bar(timestep)).sqrt()
        predicted = {"v_prediction": signal * noise - spread * clean, "epsilon": noise, "sample": clean}[kind]
        torch.testing.assert_close(schedule.clean(step, signal * clean + spread * noise, predicted), clean)


@pytest.mark.parametrize("setting", ["clip_sample", "thresholding"])
def test_a_noise_scheduler_that_clips_is_refused_where_the_step_is_our_own(pipe_v, setting):
    config = {**pipe_v.networks.scheduler, setting: True}
    with pytest.raises(UserError, match="clips predicted latents"):
        Schedule(config, "ddpm", 5)
    Schedule(config, "ddim", 5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_stays_close_and_is_not_float32(vectors, clip, usual, precision):
    from stablevsr import StableVSRPipeline

    half = StableVSRPipeline.from_pretrained(vectors / "model_v", device="cpu", precision=precision)
    difference = np.abs(run(half, clip) - usual)
    assert 0 < difference.mean() < 0.02


def test_flow_is_estimated_once_a_pair_on_the_enlarged_frames():
    calls = []

    def estimator(target, source):
        calls.append(target.shape)
        return torch.zeros(len(target), 2, *target.shape[-2:])

    flows = Flows(lambda _: torch.zeros(2, 3, 8, 9), estimator, {})
    flows.between(1, 0), flows.between(1, 0), flows.between(0, 1)
    assert calls == [torch.Size([2, 3, 32, 36])] * 2


def test_a_flow_of_the_wrong_shape_is_refused():
    flows = Flows(lambda _: torch.zeros(1, 3, 8, 8), lambda t, s: torch.zeros(1, 2, 8, 8), {})
    with pytest.raises(UserError, match="flow estimator"):
        flows.between(1, 0)


def test_guidance_warps_before_or_after_decoding():
    order = []

    def decode(latents):
        order.append(latents.clone())
        return torch.nn.functional.interpolate(latents[:, :3], scale_factor=4.0, mode="nearest")

    latents = torch.rand(1, 4, 8, 8)
    flow = torch.full((1, 2, 32, 32), 8.0)  # two latent pixels
    settings = dict(warp="aligned")
    pixel = guidance_image(latents, flow, decode, Guidance(motion_compensation="pixel", **settings))
    latent = guidance_image(latents, flow, decode, Guidance(motion_compensation="latent", **settings))
    none = guidance_image(latents, flow, decode, Guidance(motion_compensation="none", **settings))
    assert torch.equal(order[0], latents) and torch.equal(order[2], latents)
    torch.testing.assert_close(order[1][..., :6, :6], latents[..., 2:, 2:])
    torch.testing.assert_close(pixel[..., :24, :24], none[..., 8:, 8:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(latent[..., :24, :24], none[..., 8:, 8:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frames,sentence", [
    ([], "no frames"),
    (np.zeros((2, 4, 4, 3), np.uint8), "too small"),
    (np.zeros((2, 16, 16, 3), np.float32), "8-bit RGB"),
    ([np.zeros((16, 16, 3), np.uint8), np.zeros((16, 20, 3), np.uint8)], "differ in size"),
    (["im1.png", "im2.png"], "not str"),
    (Image.new("RGB", (16, 16)), "a list of frames"),
    (None, "NoneType was given: give a list of frames"),
    (np.array(5), "ndarray was given: give a list of frames"),
    ([Image.new("RGBA", (16, 16), (9, 9, 9, 0))], "frame 0 has transparent pixels"),
    ([Image.new("L", (16, 16)), Image.new("F", (16, 16))], "frame 1 holds 32-bit floats"),
])  # fmt: skip
def test_bad_frames_are_one_sentence(pipe_v, frames, sentence):
    with pytest.raises(UserError, match=sentence):
        pipe_v(frames, num_inference_steps=1)


def test_any_iterable_of_frames_is_a_sequence(pipe_v, clip, usual):
    frames = (Image.fromarray(frame) for frame in clip) if isinstance(clip, np.ndarray) else (frame for frame in clip)
    assert np.array_equal(run(pipe_v, frames), usual)


@pytest.mark.parametrize("how,sentence", [
    ({"generator": 5}, "generator is a int: give torch.Generator"),
    ({"generator": []}, "0 generators were given"),
    ({"generator": (torch.Generator(), torch.Generator())}, "2 generators were given"),
    ({"num_inference_steps": "ten"}, "num_inference_steps .ten. is not a whole number"),
    ({"strategy": None}, "'strategy'"),
    ({"output_type": None}, "output_type None"),
])  # fmt: skip
def test_bad_arguments_are_one_sentence(pipe_v, how, sentence):
    with pytest.raises(UserError, match=sentence):
        pipe_v(np.zeros((2, 8, 8, 3), np.uint8), **{"num_inference_steps": 1, **how})


def test_output_types_agree(pipe_v, clip):
    array = run(pipe_v, clip[:1], strategy="single_frame")
    tensor = run(pipe_v, clip[:1], strategy="single_frame", output_type="pt")
    picture = run(pipe_v, clip[:1], strategy="single_frame", output_type="pil")[0]
    assert torch.equal(tensor.permute(0, 2, 3, 1), torch.from_numpy(array))
    assert np.abs(np.asarray(picture) / 255 - array[0]).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_number_of_steps_out_of_range_is_one_sentence(pipe_v, steps):
    with pytest.raises(UserError, match=f"num_inference_steps {steps} is not a whole number from 1 to 1000"):
        pipe_v(np.zeros((1, 16, 16, 3), np.uint8), num_inference_steps=steps)


def test_a_generator_on_a_gpu_is_used_with_a_warning(pipe_v, clip, monkeypatch):
    class OnTheGPU(torch.Generator):
        device = torch.device("cuda:0")

    used = []
    monkeypatch.setattr(
        type(pipe_v), "sample", lambda self, lr, generators, *_: used.extend(generators) or lr[:, :, :1]
    )
    monkeypatch.setattr("stablevsr.method.pipeline.decode_frames", lambda *_: [torch.zeros(3, 8, 8)])
    generator = OnTheGPU()
    with pytest.warns(UserWarning, match="the generator is on cuda:0"):
        pipe_v(clip, num_inference_steps=1, generator=generator)
    assert used == [generator]


def test_a_list_of_one_generator_is_a_generator(pipe_v, clip, usual):
    assert np.array_equal(run(pipe_v, clip, generator=[torch.Generator().manual_seed(3)]), usual)
    with pytest.raises(UserError, match="2 generators were given: a sequence takes one"):
        pipe_v(clip, num_inference_steps=1, generator=[torch.Generator(), torch.Generator()])


@pytest.mark.parametrize("steps", [np.int64(3), np.int32(3), np.uint8(3)])
def test_numpy_integers_are_numbers_of_steps(pipe_v, clip, usual, steps):
    assert np.array_equal(run(pipe_v, clip, steps=steps), usual)


def test_guidance_acts_at_every_kth_step_counted_from_the_end():
    assert guided_steps(Sampling(steps=7, guide_every=3)) == [0, 3, 6]
    assert guided_steps(Sampling(steps=4, guide_from=0.5)) == [2, 3]
    assert guided_steps(Sampling(steps=50, guide_from=0.14))[0] == 7  # 0.14 * 50 is a little more than 7
    assert guided_steps(Sampling(steps=5)) == list(range(5))


@pytest.mark.parametrize("every", [1, 2, 3, 4])
def test_the_direction_turns_from_one_guided_step_to_the_next(every):
    """If every step counted, guidance at every second one would only ever run backwards."""
    steps = guided_steps(Sampling(steps=12, guide_every=every))
    orders = [frames for step, frames in enumerate(visited(3, steps=12, guide_every=every)) if step in steps]
    assert all(a == b[::-1] for a, b in pairwise(orders)) and orders[0] == [0, 1, 2]


def _tcm_calls(pipe, monkeypatch, sampling):
    """How often the TCM runs, and the latents, for three frames of noise."""
    calls = []
    forward = pipe.networks.tcm.forward
    monkeypatch.setattr(pipe.networks.tcm, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    lr = torch.rand(1, 3, 3, 12, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = pipe.sample(lr, [torch.Generator().manual_seed(2)], sampling, Guidance(flow="dis"), None, None)
    return len(calls), torch.stack(list(latents))


@pytest.mark.parametrize("strategy", ["bidirectional", "auto_regressive"])
def test_steps_without_guidance_cost_no_tcm_and_all_of_them_are_single_frame_sampling(pipe_v, monkeypatch, strategy):
    every = _tcm_calls(pipe_v, monkeypatch, Sampling(steps=4, strategy=strategy))
    half = _tcm_calls(pipe_v, monkeypatch, Sampling(steps=4, strategy=strategy, guide_every=2))
    late = _tcm_calls(pipe_v, monkeypatch, Sampling(steps=4, strategy=strategy, guide_from=0.75))
    assert (every[0], half[0], late[0]) == (8, 4, 2)  # of three frames, the first of a sweep has no TCM
    assert not torch.allclose(every[1], half[1], atol=1e-3)


def test_lr_sides_as_published_are_those_of_diffusers_image_processor(pipe_v):
    """The released pipeline gives its PIL frames to this class, with the VAE's factor of 4."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 21, 30, 3), dtype=np.uint8)
    pictures = [Image.fromarray(frame) for frame in frames]
    expected = VaeImageProcessor(vae_scale_factor=4, do_convert_rgb=True, do_normalize=True).preprocess(pictures)
    assert expected.shape[-2:] == (20, 28)
    for given in (frames, pictures):
        torch.testing.assert_close(to_tensor(given, "published"), expected, rtol=0, atol=1e-6)
    assert to_tensor(frames).shape[-2:] == (21, 30)
    how = {"num_inference_steps": 1, "strategy": "single_frame"}
    assert pipe_v(frames, **how, lr_sides="published").frames.shape == (2, 80, 112, 3)
    assert pipe_v(frames, **how).frames.shape == (2, 84, 120, 3)


def test_frames_whose_sides_are_multiples_of_4_are_the_same_as_published(clip):
    assert torch.equal(to_tensor(clip, "published"), to_tensor(clip))


def test_other_lr_sides_are_one_sentence(clip):
    with pytest.raises(UserError, match="lr_sides 'padded' is not one of kept, published"):
        to_tensor(clip, "padded")
