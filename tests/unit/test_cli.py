"""The command line: exit codes, one sentence an error, and nothing heavy imported to say hello."""

import subprocess
import sys
from pathlib import Path

import pytest

from stablevsr.cli import main

REPOSITORY = Path(__file__).parents[2]
COMMANDS = ["upscale", "evaluate", "fetch", "data", "train", "infer", "report", "plan", "bench", "doctor", "clean"]


@pytest.mark.parametrize("command", [[], *[[c] for c in COMMANDS]])
def test_help_imports_nothing_heavy(command):
    script = (
        "import sys\nfrom stablevsr.cli import main\n"
        f"try: main({[*command, '--help']!r})\nexcept SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'diffusers', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: stablevsr" in done.stdout


@pytest.mark.parametrize("command", [["plan", "paper"], ["clean"], ["fetch", "--list"]])
def test_looking_around_imports_no_network(command):
    script = (
        f"import sys\nfrom stablevsr.cli import main\nassert main({command!r}) == 0\n"
        "heavy = {'torch', 'diffusers', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr


def test_no_command_shows_the_way_in(capsys):
    assert main([]) == 2
    assert "make study" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["upscale"], ["nonsense"], ["evaluate", "--gt", "a"]])
def test_wrong_usage_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


@pytest.mark.parametrize("arguments,sentence", [
    (["evaluate", "--gt", "x", "--sr", "y", "--metrics", "psnrr", "--out", "o.csv"], "psnr"),
    (["evaluate", "--gt", "x", "--sr", "y", "--out", "o.csv", "--shard", "3/2"], "K/N"),
    (["evaluate", "--gt", "x", "--sr", "y", "--out", "o.csv", "--device", "gpu"], "try auto, cpu or cuda"),
    (["bench", "--device", "cuda:99"], "no such CUDA device"),
    (["bench", "--device", "cuda:"], "device cuda: is not supported"),
    (["bench", "--steps", "0"], "at least 1"),
    (["train", "base", "--out", "model", "--device", "cuda:99"], "no such CUDA device"),
    (["bench", "--tile", "8"], "at least 32 LR pixels"),
    (["infer", "--study", "nope", "--method", "a", "--dataset", "b"], "run this in the repository's folder"),
    (["fetch"], "--list"),
])  # fmt: skip
def test_an_error_is_one_sentence_and_exit_code_1(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("stablevsr: ") and said.count("\n") == 1 and sentence in said


@pytest.mark.parametrize("what,sentence", [
    ("prepare", "study mini has no dataset red"), ("prepare-training", "study mini has no training dataset red"),
])  # fmt: skip
def test_a_misspelt_dataset_is_one_sentence_with_the_near_miss(what, sentence, capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main(["data", what, "--study", "mini", "--dataset", "red"]) == 1
    said = capsys.readouterr().err
    assert sentence in said and "did you mean 'reds" in said and said.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path, monkeypatch):
    from stablevsr.runtime.errors import UserError

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        main(["fetch", "--debug"])
