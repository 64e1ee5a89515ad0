"""``stablevsr upscale`` after a kill, an error or a full disk: it goes on to the same bytes."""

import errno
import os
import resource
import signal
import subprocess
import sys

import pytest
import torch
from upscale_clips import (
    content,
    damage_late,
    pictures,
    refuse_models,
    remains,
    stop_after,
    tiny,
    write_folder,
    write_video,
)

from stablevsr.cli import main
from stablevsr.data.frames import list_frames
from stablevsr.method.networks import ModelParts
from stablevsr.runtime.errors import UserError
from stablevsr.upscale import upscale
from stablevsr.upscale.run import _UpscaleRun


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("usual")
    upscale(write_folder(folder / "lr"), folder / "sr", tiny())
    return folder


#: The command in a process that kills itself when it has put so many files in their places.
KILLED = """
import os, signal, sys
from pathlib import Path
from stablevsr.upscale import UpscaleOptions, upscale
left, replace = int(sys.argv[3]), Path.replace
def counted(self, target):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return replace(self, target)
Path.replace = counted
upscale(Path(sys.argv[1]), Path(sys.argv[2]), UpscaleOptions(model="tiny", steps=2, device="cpu"))
"""


def test_a_killed_run_goes_on_to_the_same_bytes(usual, tmp_path):
    source = usual / "lr"
    done = subprocess.run([sys.executable, "-c", KILLED, source, tmp_path / "sr", "12"], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "sr").exists() and remains(tmp_path) == [".sr.partial"]
    upscale(source, tmp_path / "sr", tiny())
    assert content(tmp_path / "sr") == content(usual / "sr")
    assert remains(tmp_path) == []


@pytest.mark.parametrize("kind", ["frames", "video"])
def test_stopped_again_and_again_it_still_gives_the_same_bytes(tmp_path, monkeypatch, capsys, kind):
    frames = pictures(5)
    source = write_video(tmp_path / "lr.mkv", frames) if kind == "video" else write_folder(tmp_path / "lr", frames)
    out, whole = (tmp_path / f"{n}{'.mkv' if kind == 'video' else ''}" for n in ("out", "whole"))
    command = ["upscale", str(source), str(out), "--model", "tiny", "--steps", "2", "--window", "4", "--device", "cpu"]
    upscale(source, whole, tiny(window=4))
    stops = 0
    while not out.exists():
        with monkeypatch.context() as patched:
            stop_after(patched, 13, KeyboardInterrupt())
            stops += main(command) == 130
    assert stops >= 3
    assert "continues where it stopped" in capsys.readouterr().err
    assert content(out) == content(whole)
    assert remains(tmp_path) == []


def test_an_output_that_came_while_the_work_ran_is_not_replaced(tmp_path, monkeypatch):
    source, out, make = write_folder(tmp_path / "lr"), tmp_path / "sr", _UpscaleRun.make

    def make_and_write(run):
        make(run)
        out.mkdir()
        (out / "mine.txt").touch()

    with monkeypatch.context() as patched:
        patched.setattr(_UpscaleRun, "make", make_and_write)
        with pytest.raises(UserError, match="holds files already"):
            upscale(source, out, tiny(strategy="single_frame"))
    assert list(content(out)) == ["mine.txt"]
    (out / "mine.txt").unlink()
    refuse_models(monkeypatch)
    upscale(source, out, tiny(strategy="single_frame"))  # the result was kept
    assert len(content(out)) > 1 and remains(tmp_path) == []


def test_a_kill_while_the_work_is_removed_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    source, out = write_folder(tmp_path / "lr"), tmp_path / "sr"

    def killed(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_UpscaleRun, "_remove_work", killed)
        with pytest.raises(KeyboardInterrupt):
            upscale(source, out, tiny(strategy="single_frame"))
    assert remains(tmp_path) == [".sr.partial"]
    with pytest.raises(UserError, match="holds files already"):  # another run with this output
        upscale(source, out, tiny(strategy="single_frame", seed=1))
    assert remains(tmp_path) == []


def test_a_run_killed_after_delivering_is_finished_without_work(tmp_path, monkeypatch):
    source, out = write_folder(tmp_path / "lr"), tmp_path / "sr"
    with monkeypatch.context() as patched:
        patched.setattr("stablevsr.upscale.run.shutil.rmtree", lambda *_, **__: None)
        upscale(source, out, tiny(strategy="single_frame"))
    made = content(out)
    assert remains(tmp_path) == [".sr.partial"]
    refuse_models(monkeypatch)
    upscale(source, out, tiny(strategy="single_frame"))
    assert content(out) == made and remains(tmp_path) == []


def test_other_settings_never_go_on_with_the_work_of_a_stopped_run(usual, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(patched, 9, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            upscale(usual / "lr", tmp_path / "sr", tiny(seed=1))
    upscale(usual / "lr", tmp_path / "sr", tiny())
    assert content(tmp_path / "sr") == content(usual / "sr")


@pytest.mark.parametrize("files", [0, 12])
def test_a_full_disk_is_one_sentence_and_the_work_goes_on(tmp_path, monkeypatch, capsys, files):
    source = write_folder(tmp_path / "lr")
    command = ["upscale", str(source), str(tmp_path / "sr"), "--model", "tiny", "--steps", "2", "--device", "cpu"]
    with monkeypatch.context() as patched:
        stop_after(patched, files, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        assert main(command) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("stablevsr: No space left on device") and "goes on where it stopped" in said
    assert main(command) == 0
    assert len(list_frames(tmp_path / "sr")) == 3


def test_a_disk_that_takes_no_large_file_is_one_sentence(tmp_path, capsys):
    source = write_folder(tmp_path / "lr")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        code = main(["upscale", str(source), str(tmp_path / "sr"), "--model", "tiny", "--steps", "1"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1 and "the same command goes on" in capsys.readouterr().err.splitlines()[-1]


def test_what_was_sampled_is_kept_when_memory_runs_out(usual, tmp_path, monkeypatch):
    decoded, decode = [], ModelParts.decode

    def fail_at_the_fourth(self, latents):
        decoded.append(1)
        if len(decoded) == 4:
            raise UserError("the GPU has too little memory")
        return decode(self, latents)

    monkeypatch.setattr(ModelParts, "decode", fail_at_the_fourth)
    with pytest.raises(UserError, match="too little memory"):
        upscale(usual / "lr", tmp_path / "sr", tiny())
    upscale(usual / "lr", tmp_path / "sr", tiny())
    assert content(tmp_path / "sr") == content(usual / "sr")
    guidance_and_frames = 2 * 2 + 3  # of two neighbours at two steps
    assert len(decoded) == guidance_and_frames + 1  # nothing but what failed is decoded twice


def test_a_refused_video_leaves_the_work_for_another_one_alone(tmp_path, monkeypatch):
    out, work = tmp_path / "out.mkv", tmp_path / ".out.mkv.partial"
    good, bad = write_video(tmp_path / "good.mkv"), write_video(tmp_path / "bad.mp4", pictures(30))
    damage_late(bad)
    with monkeypatch.context() as patched:
        stop_after(patched, 13, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            upscale(good, out, tiny())
    before = content(work)
    with pytest.raises(UserError, match=r"bad\.mp4"):
        upscale(bad, out, tiny())
    assert len(before) > 3 and content(work) == before


def test_a_card_that_is_too_small_is_one_sentence(usual, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("stablevsr.upscale.clip_run.ClipRun.run", fail)
    assert main(["upscale", str(usual / "lr"), str(tmp_path / "sr"), "--model", "tiny"]) == 1
    assert "--precision bf16" in capsys.readouterr().err.splitlines()[-1]
