"""``kind: command``: a user's program makes frames, which are checked; what ran is recorded; failures are sentences."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from stablevsr.baselines.command import Command
from stablevsr.data.frames import read_frame, write_frame
from stablevsr.runtime.errors import UserError
from stablevsr.study.groups import groups, sampled_with
from stablevsr.study.inference import NetworkPaths, Shard, infer
from stablevsr.study.methods import Method
from stablevsr.study.requirements import check_external
from stablevsr.study.resolve import load_study

REPOSITORY = Path(__file__).parents[2]
#: Enlarges every image of a folder, or of the folders in it; notes where it runs and what it is given.
NEAREST = """
import os, sys
from pathlib import Path
from PIL import Image
source, target = map(Path, sys.argv[1:3])
print("working on", source)
for file in sorted(source.rglob("*.png")):
    image = Image.open(file)
    path = target / file.relative_to(source)
    image.resize((4 * image.width, 4 * image.height), Image.NEAREST).save(path)
    file.unlink()
with open(os.environ["NOTES"], "a") as notes:
    print(os.getcwd(), sorted(os.listdir(source)), sorted(os.listdir()), file=notes)
"""
PYTHON = f"{sys.executable} nearest.py {{lr}} {{frames}}"


@pytest.fixture
def lr(tmp_path, monkeypatch):
    """Three sequences, the script, and the folder of temporary files with a name that a shell would take apart."""
    strange = tmp_path / "it's a $HOME; folder"
    strange.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(strange))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nearest.py").write_text(NEAREST)
    rng = np.random.default_rng(0)
    for name, count in (("a", 2), ("b", 2), ("c", 3)):
        for t in range(count):
            write_frame(tmp_path / "lr" / name / f"{t:03d}.png", rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    return tmp_path / "lr"


def run(lr, text=PYTHON, **settings):
    command = Command(text, **{"env": (("NOTES", str(lr.parent / "notes")),), **settings})
    method = Method("theirs", "Theirs", "command", "d", datasets=("set",), command=command)
    out = lr.parent / "out"
    infer(method, Shard("set", lr, 0, 1), 0, out, out / "manifest.json", NetworkPaths("", "cpu"), 2)
    return json.loads((out / "manifest.json").read_text())


def notes(lr):
    return (lr.parent / "notes").read_text().splitlines()


def check_nearest(lr):
    for file in sorted(lr.rglob("*.png")):
        made = read_frame(lr.parent / "out" / file.parent.name / file.name)
        assert np.array_equal(made, read_frame(file).repeat(4, axis=0).repeat(4, axis=1))
    assert len(list(lr.rglob("*.png"))) == 7  # the command removed its copies only


def test_a_command_runs_once_for_each_sequence_in_a_folder_of_its_own(lr, capfd):
    run(lr)
    check_nearest(lr)
    places = [line.partition(" [")[0] for line in notes(lr)]
    assert len(set(places)) == 3 and all(place.startswith(str(lr.parent / "it's a")) for place in places)
    assert notes(lr)[0].endswith("[] ['nearest.py']")
    assert list((lr.parent / "it's a $HOME; folder").iterdir()) == []
    assert "working on" in capfd.readouterr().err


def test_once_for_each_shard(lr):
    run(lr, whole_shard=True)
    check_nearest(lr)
    # once for each length and size
    assert [line.split(" [")[1] for line in notes(lr)] == ["'a', 'b']", "'c']"]


def repository(folder):
    """A git repository with the script."""
    folder.mkdir()
    (folder / "nearest.py").write_text(NEAREST)
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *arguments], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_command_commit_and_environment_are_recorded(lr, monkeypatch):
    commit = repository(lr.parent / "theirs")
    monkeypatch.setenv("CONDA_PREFIX", "/envs/theirs")
    record = run(lr, workdir=Path("theirs"))
    assert notes(lr)[0].startswith(str(lr.parent / "theirs") + " [")
    command = record["method"]["command"]
    assert command["text"] == PYTHON and command["commit"] == commit and command["workdir"] == "theirs"
    assert command["env"] == {"NOTES": str(lr.parent / "notes")} and "nearest.py" in command["files"]
    assert record["environment"]["CONDA_PREFIX"] == "/envs/theirs" and "PATH" in record["environment"]
    (lr.parent / "theirs" / "nearest.py").write_text(NEAREST + "#")
    assert Command(PYTHON, Path("theirs")).identity()["commit"] == f"{commit}-dirty"


def test_finished_sequences_are_kept_until_the_command_or_its_files_change(lr):
    run(lr)
    run(lr)
    assert len(notes(lr)) == 3
    shutil.rmtree(lr.parent / "out" / "b")
    run(lr)
    assert len(notes(lr)) == 4
    (lr.parent / "nearest.py").write_text(NEAREST + "# changed")
    run(lr)
    assert len(notes(lr)) == 7
    run(lr, f"{PYTHON} --more")
    assert len(notes(lr)) == 10


MAKE = f"{sys.executable} nearest.py {{lr}} {{frames}} && "


@pytest.mark.parametrize(("text", "message"), [
    ("echo one; echo two >&2; exit 3 # {lr} {frames}", r"its command failed with exit code 3 \(two\): echo one"),
    ("no-such-program {lr} {frames}", r"its command names a program that is not there \(.*no-such-program.*not found"),
    ("./nearest.py {lr} {frames}", r"its command names a file that cannot be run"),
    ("kill -9 $$ # {lr} {frames}", r"its command was ended by signal 9"),
    ("true {lr} {frames}", r"sequence a: .* lacks 2 of 2 frames, the first is 000$"),
    (MAKE + "rm {frames}/001.png", r"sequence a: .* lacks 1 of 2 frames, the first is 001"),
    (MAKE + "mv {frames}/000.png {frames}/000_sr.png", r"the first is 000 \(there is 000_sr\)"),
    (MAKE + "cp {frames}/000.png {frames}/009.png", r"has 3 frames for 2 LR frames"),
    ("cp {lr}/* {frames}", r"sequence a: what its command made, frame 000, is 16x12, four times its LR frame is 64x48"),
    (MAKE + "echo no picture > {frames}/000.png", r"000.png cannot be read"),
])  # fmt: skip
def test_a_failure_is_one_sentence(text, message, lr):
    with pytest.raises(UserError, match=message) as caught:
        run(lr, text)
    assert "method theirs" in str(caught.value) or "000.png cannot" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (lr.parent / "out" / "manifest.json").exists()
    assert list((lr.parent / "it's a $HOME; folder").iterdir()) == []


@pytest.mark.parametrize("workdir", ["nowhere", "nearest.py"])
def test_a_missing_workdir_is_named_by_the_job_too(workdir, lr):
    with pytest.raises(UserError, match=f"no folder {workdir}, in which the command of method theirs runs"):
        run(lr, workdir=Path(workdir))


# --- in a study -------------------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Load the smoke study with a method more."""
    shutil.copytree(REPOSITORY / "workflow" / "studies", tmp_path / "workflow" / "studies")
    shutil.copytree(REPOSITORY / "ablations", tmp_path / "ablations")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "workflow" / "studies" / "smoke.yaml"
    plain = yaml.safe_load(file.read_text())

    def load(**method):
        methods = {**plain["methods"], "theirs": {"label": "Theirs", **method}}
        file.write_text(yaml.safe_dump({**plain, "methods": methods}))
        return load_study("smoke")

    return load


def test_a_command_is_a_row_with_jobs_of_its_own(study):
    found = study(kind="command", command="python x.py {lr} {frames}", env={"SEED": 3}, per="shard")
    method = found.methods["theirs"]
    assert method in found.table1() and method.datasets == ("reds4", "vimeo")
    assert method.command == Command("python x.py {lr} {frames}", None, (("SEED", "3"),), whole_shard=True)
    mine = [group for group in groups(found, sampled_with) if any(method in forms for forms in group.forms.values())]
    assert {form.name for group in mine for forms in group.forms.values() for form in forms} == {"theirs"}


def test_what_the_command_is_decides_the_digest_and_its_label_does_not(study):
    plain = {"kind": "command", "command": "python x.py {lr} {frames}"}

    def key(**changed):
        return study(**{**plain, **changed}).methods["theirs"].digest

    first = key()
    assert first == key() == key(label="Other")
    others = [key(command="python y.py {lr} {frames}"), key(env={"A": "1"}), key(workdir="ablations")]
    Path("x.py").write_text("pass")
    others.append(key())
    assert len({first, *others}) == 5


def test_resources_are_those_of_its_jobs_only_and_decide_no_frame(study):
    command = {"kind": "command", "command": "python x.py {lr} {frames}"}
    plain = study(**command).methods["theirs"].digest
    found = study(**command, resources={"threads": 3, "gpu": 1, "runtime": 90})
    assert found.methods["theirs"].digest == plain
    taken = {group.name: group.resources for group in groups(found, sampled_with)}
    theirs = [name for name in taken if name.startswith("command_theirs")]
    assert theirs and all(taken.pop(name) == {"threads": 3, "gpu": 1, "runtime": 90} for name in theirs)
    assert taken and not any(taken.values())


@pytest.mark.parametrize(("method", "message"), [
    ({"kind": "command"}, "`kind: command` and `command:` belong together"),
    ({"kind": "bicubic", "command": "x {lr} {frames}"}, "`kind: command` and `command:` belong together"),
    ({"kind": "command", "command": "x {lr}"}, "its command lacks {frames}"),
    ({"kind": "command", "command": "x {frames}"}, "its command lacks {lr}"),
    ({"kind": "command", "command": "x '{lr} {frames}"}, "no shell command .*quotation"),
    ({"kind": "bicubic", "env": {"A": "1"}}, "env belongs to `kind: command`: leave it out"),
    ({"kind": "bicubic", "resources": {"gpu": 0}}, "resources belongs to `kind: command`: leave it out"),
    ({"kind": "command", "command": "x {lr} {frames}", "resources": {"gpus": 1}}, r"resources\.gpus"),
    ({"kind": "comand", "command": "x"}, "did you mean 'command'"),
    ({"kind": "command", "command": "x {lr} {frames}", "per": "sequences"}, "did you mean 'sequence'"),
])  # fmt: skip
def test_wrong_entries_are_refused_before_anything_runs(study, method, message):
    with pytest.raises(UserError, match=message) as caught:
        study(**method)
    assert "theirs" in str(caught.value) and "smoke.yaml" in str(caught.value)


def test_a_missing_workdir_is_named_before_anything_runs(study):
    found = study(kind="command", command="x {lr} {frames}", workdir="external/theirs")
    with pytest.raises(UserError, match="there is no folder external/theirs, in which the command of method theirs"):
        check_external(found)


# --- a kind by data set -----------------------------------------------------------------------------------------------


def test_a_kind_by_data_set(study):
    found = study(kind={"vimeo": "basicvsr-vimeo-bi", "reds4": "basicvsr-reds4"})
    method, plain = found.methods["theirs"], study(kind="basicvsr-reds4").methods["theirs"]
    assert method.datasets == ("reds4", "vimeo")
    assert [method.on(dataset).kind for dataset in method.datasets] == ["basicvsr-reds4", "basicvsr-vimeo-bi"]
    assert method.on("reds4").digest == plain.digest and method.on("vimeo").digest != plain.digest
    alone = study(kind={"vimeo": "basicvsr-vimeo-bi"}).methods["theirs"]
    assert alone.datasets == ("vimeo",) and replace(alone, forms={}) == replace(method.on("vimeo"), datasets=("vimeo",))


@pytest.mark.parametrize(("kind", "message"), [
    ({"reds4": "basicvsr-redz4"}, r"'methods.theirs.kind.by data set.reds4' is 'basicvsr-redz4'.*'basicvsr-reds4'"),
    ({"reds": "bicubic"}, "names the data set reds .*'reds4'"),
    ({}, "its kind names none of Table 1's data sets: name one of reds4, vimeo"),
    ({"reds4": "command"}, "a kind by data set names baselines, not command"),
    ("bicubik", r"'methods.theirs.kind' is 'bicubik', which is not one of .*did you mean 'bicubic'"),
])  # fmt: skip
def test_wrong_kinds_are_refused(study, kind, message):
    with pytest.raises(UserError, match=message):
        study(kind=kind)


def test_the_studies_take_the_weights_of_each_data_set():
    for name, method in (("mini", "basicvsr"), ("paper", "basicvsr"), ("paper", "basicvsr_pp")):
        found = load_study(name, REPOSITORY).methods[method]
        kinds = [found.on(dataset).kind.removeprefix(method.replace("_", "-")) for dataset in ("reds4", "vimeo")]
        assert kinds == ["-reds4", "-vimeo-bi"]
