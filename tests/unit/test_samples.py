"""Training samples through torch's data loader: the same in any number of workers, and damage named in one sentence."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from stablevsr.data.degradation import degrade
from stablevsr.data.frames import write_frame
from stablevsr.data.layouts import load_sequences
from stablevsr.runtime.errors import UserError
from stablevsr.training.samples import WindowDataset, sample_numbers


@pytest.fixture
def reds(tmp_path):
    random = np.random.default_rng(0)
    for clip in ("001", "002"):
        for t in range(5):
            frame = random.integers(0, 256, (64, 96, 3), dtype=np.uint8)
            write_frame(tmp_path / "train_sharp" / clip / f"{t:08d}.png", frame)
            write_frame(tmp_path / "train_sharp_bicubic" / "X4" / clip / f"{t:08d}.png", degrade(frame))
    return tmp_path


def batches(root, workers, start=0):
    windows = WindowDataset(load_sequences("reds", root, "train"), frames=3, crop=32, seed=1)
    loader = DataLoader(windows, batch_size=4, sampler=sample_numbers(start, 6, 4), num_workers=workers)
    return torch.stack([batch["lq"] for batch in loader])


def test_samples_depend_neither_on_workers_nor_on_where_a_run_begins(reds):
    torch.manual_seed(0)
    np.random.seed(0)
    whole = batches(reds, 0)
    torch.manual_seed(1)  # the global generators have no say
    np.random.seed(1)
    assert torch.equal(batches(reds, 2), whole)
    assert torch.equal(batches(reds, 1, start=4), whole[4:])
    assert len({tuple(sample.flatten().tolist()) for sample in whole.flatten(0, 1)}) == 24, "no sample comes twice"


def test_an_epoch_has_every_clip_once_and_the_next_another_order(tmp_path):
    for clip in range(12):
        for t in range(3):
            path = tmp_path / "train_sharp" / f"{100 + clip}" / f"{t:08d}.png"
            write_frame(path, np.full((32, 32, 3), 20 * clip, np.uint8))
            write_frame(
                tmp_path / "train_sharp_bicubic/X4" / path.parent.name / path.name, np.zeros((8, 8, 3), np.uint8)
            )
    clips = load_sequences("reds", tmp_path, "train")
    windows = WindowDataset(clips, frames=3, crop=32, seed=1, order="epochs")
    seen = [round(float(windows[index]["gt"].mean()) * 255 / 20) for index in range(36)]
    epochs = [seen[start : start + 12] for start in (0, 12, 24)]
    assert all(len(set(epoch)) == len(clips) for epoch in epochs) and len({tuple(epoch) for epoch in epochs}) == 3
    again = WindowDataset(clips, frames=3, crop=32, seed=1, order="epochs")
    assert round(float(again[30]["gt"].mean()) * 255 / 20) == seen[30]  # whatever came before


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("fault", ["damaged", "missing"])
def test_a_frame_that_breaks_under_way_is_one_sentence_with_its_name(reds, workers, fault):
    frame = reds / "train_sharp/001/00000002.png"
    windows = WindowDataset(load_sequences("reds", reds, "train"), frames=3, crop=32, seed=1)
    if fault == "damaged":
        frame.write_bytes(frame.read_bytes()[:300])
    else:
        frame.unlink()
    loader = DataLoader(windows, batch_size=4, sampler=sample_numbers(0, 6, 4), num_workers=workers)
    with pytest.raises(UserError) as caught:
        list(loader)
    assert str(caught.value).startswith(f"frame {frame} ")
    assert "\n" not in str(caught.value)
