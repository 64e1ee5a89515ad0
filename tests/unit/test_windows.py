"""Windows over a long clip: what they cover, how they are joined, and how close they stay to the whole."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stablevsr.data.frames import list_frames, read_frame, write_frame
from stablevsr.method.pipeline import StableVSRPipeline
from stablevsr.method.settings import Guidance, Sampling
from stablevsr.upscale.clip_run import ClipRun
from stablevsr.upscale.clips import SizedClip
from stablevsr.upscale.windows import SMALLEST, split
from tests.flow import vector_flow


@given(st.integers(1, 300), st.integers(SMALLEST, 120))
def test_windows_cover_the_clip_evenly_and_only_neighbours_overlap(frames, size):
    windows = split(frames, size)
    covered = [sum(w.start <= frame < w.stop for w in windows) for frame in range(frames)]
    assert set(covered) <= {1, 2}
    lengths = [len(w) for w in windows]
    assert max(lengths) <= size and max(lengths) - min(lengths) <= 1
    for before, window in itertools.pairwise(windows):
        assert window.joined == before.stop
        assert window.joined - window.start == min(8, size // 4) >= 1


@given(st.integers(1, 300), st.integers(SMALLEST, 120))
def test_a_windows_share_rises_evenly_and_is_never_all_or_nothing_in_the_overlap(frames, size):
    for window in split(frames, size)[1:]:
        shares = [window.weight(frame) for frame in range(window.start - 1, window.joined + 1)]
        steps = np.diff(shares)
        assert shares[0] == 0 and shares[-1] == 1
        np.testing.assert_allclose(steps, steps[0])


def test_one_window_where_the_clip_fits_or_none_is_asked():
    for windows in (split(9, 0), split(9, 9), split(9, 100)):
        assert [(w.start, w.stop, w.weight(0)) for w in windows] == [(0, 9, 1.0)]


def write_clip(folder, frames):
    paths = tuple(folder / f"{i:02d}.png" for i in range(len(frames)))
    for path, frame in zip(paths, frames, strict=True):
        write_frame(path, frame)
    return SizedClip("", paths, *frames[0].shape[:2])


def test_the_overlap_is_cross_faded(tmp_path, monkeypatch):
    """Two windows that disagree as black and white do are joined by a ramp of even steps, not by a jump."""
    monkeypatch.setattr(ClipRun, "_sample", lambda *_: None)
    monkeypatch.setattr(ClipRun, "_decode", lambda self, index, *_: torch.full((3, 32, 32), float(index)))
    clip = write_clip(tmp_path / "lr", [np.zeros((8, 8, 3), np.uint8)] * 20)
    run = ClipRun(clip, tmp_path / "work", tmp_path / "out", Sampling(steps=1), Guidance(), window=12)
    model = StableVSRPipeline.from_pretrained("tiny", device="cpu", controlnet=None).networks
    run.run(model, vector_flow, "", 0, lambda _: None)
    levels = [int(read_frame(path).mean()) for path in run.outputs]
    first = run.windows[1].start
    assert levels == [0] * first + [64, 128, 191] + [255] * (20 - first - 3)


def test_the_disk_that_is_left_free_for_frames_shrinks_as_they_are_written(tmp_path):
    clip = write_clip(tmp_path / "lr", [np.zeros((8, 8, 3), np.uint8)] * 4)
    run = ClipRun(clip, tmp_path / "work", tmp_path / "out", Sampling(steps=1), Guidance(), window=0)
    whole = run.unwritten()
    write_frame(run.outputs[0], np.zeros((32, 32, 3), np.uint8))
    assert run.unwritten() == whole * 3 / 4 > 0


def moving_texture(frames, side):
    rng = np.random.default_rng(0)
    wide = torch.from_numpy(rng.random((1, 3, 10, 10)))
    wide = torch.nn.functional.interpolate(wide, (side + frames, side + frames), mode="bicubic")[0].clamp(0, 1)
    shown = (wide.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    return [np.ascontiguousarray(shown[t : t + side, t : t + side]) for t in range(frames)]


def sampled(clip, folder, window, seed=0):
    model = StableVSRPipeline.from_pretrained("tiny", device="cpu").networks
    run = ClipRun(clip, folder / "work", folder / "out", Sampling(steps=4), Guidance(), window)
    run.run(model, vector_flow, f"{seed}/", 0, lambda _: None)
    return np.stack([read_frame(path) for path in list_frames(folder / "out")]).astype(float)


def psnr(one, other):
    return 10 * np.log10(255**2 / np.square(one - other).mean(axis=(1, 2, 3)).clip(1e-9))


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    """The same clip as a whole, in windows, and as a whole with other noise."""
    folder = tmp_path_factory.mktemp("takes")
    clip = write_clip(folder / "lr", moving_texture(8, 16))
    return [sampled(clip, folder / f"{w}-{s}", w, s) for w, s in ((0, 0), (5, 0), (0, 1))]


def test_windows_stay_much_closer_to_the_whole_than_other_noise_does(takes):
    whole, windowed, other = takes
    assert psnr(whole, windowed).min() > psnr(whole, other).max() + 3
    assert psnr(whole, windowed).min() < 90  # otherwise nothing was sampled in windows


def test_no_seam_shows_where_windows_meet(takes):
    """Neighbouring frames differ by motion and detail; the joints add little to that."""
    changes = [np.abs(np.diff(take, axis=0)).mean(axis=(1, 2, 3)) for take in takes[:2]]
    np.testing.assert_allclose(changes[1], changes[0], rtol=0.03)
