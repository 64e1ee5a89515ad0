"""What a change of code plans again: nothing for words, and for arithmetic exactly what it decides."""

import ast
import shutil
from pathlib import Path

import pytest

from stablevsr.metrics.metric import FOR_REPORTS
from stablevsr.study import fingerprint as code
from stablevsr.study.paths import Paths
from stablevsr.study.resolve import load_study

REPOSITORY = Path(__file__).parents[2]
DEGRADATION = {"lr", "mini", "bicubic", "frames", "stablevsr", "unet", "tcm", "decoder", "upscale", "metrics"}


def forget():
    for cached in (code.fingerprint, code.imports, code._syntax, code.embedded_weights):
        cached.cache_clear()


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the package, which the fingerprints are taken of, and what they are before any change."""
    copy = tmp_path_factory.mktemp("copy") / "stablevsr"
    shutil.copytree(REPOSITORY / "stablevsr", copy, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "PACKAGE", copy)
        yield copy, fingerprints()
    forget()


@pytest.fixture
def package(copied):
    """The copy, whose files are as they were after each test."""
    texts = {file: file.read_text() for file in copied[0].rglob("*") if file.suffix in (".py", ".css")}
    yield copied[0]
    for file, text in texts.items():
        file.write_text(text)
    forget()


def fingerprints():
    forget()
    return {
        "lr": code.dataset_code(None),
        "mini": code.dataset_code("mini"),
        **{kind: code.sampling_code(kind) for kind in ("stablevsr", "bicubic", "frames")},
        **{kind: code.training_code(kind) for kind in ("unet", "tcm", "decoder")},
        "metrics": code.fingerprint("stablevsr.metrics.evaluate"),
        "tables": code.fingerprint("stablevsr.study.result_tables"),
        "report": code.report_code([]),
        "upscale": code.fingerprint("stablevsr.upscale.clip_run"),
    }


def test_versions_of_python_that_show_empty_fields_or_not_agree():
    """3.12 gave functions a field, ``type_params``, and from 3.13 on ``ast.dump`` leaves empty lists out."""
    shown, hidden = (ast.parse("def f(x, *, y=None): return [x, y]") for _ in range(2))
    shown.body[0].type_params, shown.body[0].type_comment = [], None
    del hidden.body[0].decorator_list
    assert code._text(shown) == code._text(hidden) != code._text(ast.parse("def f(x, *, y=None): return [y, x]"))


def edit(file, before, after):
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))


def difference(copied):
    now = fingerprints()
    return {name for name, value in copied[1].items() if value != now[name]}


@pytest.mark.parametrize("file,before,after", [
    ("data/degradation.py", "SCALE = 4", "SCALE = 4  # pixels"),
    ("data/degradation.py", '"""', '"""Other words. '),
    ("data/degradation.py", "\n\ndef degrade(", "\n\n\n# another word\ndef degrade("),
    ("method/guidance.py", '    """', '    """Other words. '),
    ("method/guidance.py", "from __future__", "if TYPE_CHECKING:\n    import stablevsr.study.plan\nfrom __future__"),
    ("metrics/builtin/lpips.py", '"""', '"""Other words. '),
    ("cli/study.py", "a study's jobs", "the jobs"),
    ("runtime/errors.py", "did you mean", "perhaps you mean"),
    ("study/plan.py", "AREA = 320 * 180", "AREA = 320 * 181"),
])  # fmt: skip
def test_words_and_what_decides_no_number_change_nothing(copied, package, file, before, after):
    edit(package / file, before, after)
    assert difference(copied) == set()


@pytest.mark.parametrize("file,before,after,expected", [
    ("data/degradation.py", "SCALE = 4", "SCALE = 5", DEGRADATION),
    ("data/mini/scenes.py", "REDS_SIDE, VIMEO_SIZE = 256", "REDS_SIDE, VIMEO_SIZE = 192", {"mini"}),
    ("training/loop.py", "0.998", "0.997", {"unet", "tcm", "decoder"}),
    ("training/tasks/tcm.py", "WINDOW = 3", "WINDOW = 4", {"tcm"}),
    ("training/tasks/decoder.py", "log10(4 /", "log10(5 /", {"decoder"}),
    ("metrics/builtin/sharpness.py", "axis=1)[:-1]", "axis=1)[1:]", {"metrics", "tables", "report"}),
    ("metrics/builtin/dists.py", "STABILISER = 1e-6", "STABILISER = 1e-7", {"metrics", "tables", "report"}),
    ("metrics/builtin/dists.py", "margin=0.01", "margin=0.02", {"report"}),
    ("metrics/builtin/flow.py", "rewards_blur=True", "rewards_blur=False", {"report"}),
    ("metrics/builtin/lpips.py", '"LPIPS", "perceptual"', '"LPIPS (AlexNet)", "perceptual"', {"report"}),
    ("metrics/builtin/psnr.py", "decimals=2", "decimals=3", {"report"}),
    ("runtime/torch_settings.py", "tf32: bool = False", "tf32: bool = True",
     {"metrics", "stablevsr", "frames", "bicubic"}),
    ("report/tables/build.py", "from __future__ import annotations", "from __future__ import annotations\nX = 1",
     {"report"}),
    ("report/templates/page.css", ".reference > *", ".reference > a", {"report"}),
])  # fmt: skip
def test_a_change_of_what_is_computed_changes_what_it_decides(copied, package, file, before, after, expected):
    edit(package / file, before, after)
    assert difference(copied) == expected


def test_a_new_import_inside_a_function_is_seen(package):
    extra = package / "method" / "extra.py"
    extra.write_text("X = 1\n")
    edit(
        package / "method/guidance.py",
        "def blank_image(",
        "def f():\n    import stablevsr.method.extra\n\n\ndef blank_image(",
    )
    before = fingerprints()
    extra.write_text("X = 2\n")
    after = fingerprints()
    assert {name for name in before if before[name] != after[name]} == {"stablevsr", "tcm", "upscale"}


def test_every_metric_of_this_package_is_in_the_fingerprint_of_the_evaluation():
    files = (REPOSITORY / "stablevsr/metrics/builtin").glob("[!_]*.py")
    metrics = {f"stablevsr.metrics.builtin.{file.stem}" for file in files}
    assert len(metrics) >= 7 and metrics <= code.import_closure(("stablevsr.metrics.evaluate",))


def test_no_score_depends_on_what_only_reports_read():
    closure = code.import_closure(("stablevsr.metrics.evaluate",))
    for module in (name for name in closure if name.startswith("stablevsr.metrics")):
        read = {node.attr for node in ast.walk(ast.parse(code._file(module).read_text()))
                if isinstance(node, ast.Attribute)}  # fmt: skip
        assert not read & set(FOR_REPORTS), module


def test_an_ablations_script_is_known_by_what_it_and_its_imports_compute(package, tmp_path):
    script = tmp_path / "script.py"
    lines = ["from stablevsr.method.flow import warp", "from stablevsr.study.plan import plan", "X = 1"]

    def key(*added):
        script.write_text("\n".join([*lines, *added]))
        forget()
        return code.script_code(script)

    before = key()
    assert key("# a comment") == before and key("X = 2") != before
    edit(package / "study/plan.py", "AREA = 320 * 180", "AREA = 320 * 181")
    assert key() == before
    edit(package / "method/flow.py", "RAFT_OVERLAP = 64", "RAFT_OVERLAP = 32")
    assert key() != before


def test_what_trains_and_samples_does_not_contain_what_plans():
    jobs = ("stablevsr.study.inference.run", "stablevsr.study.training", "stablevsr.study.prepare")
    planning = {f"stablevsr.study.{name}" for name in ("files", "methods", "resolve", "paths", "plan", "fingerprint")}
    closure = code.import_closure((*jobs, *(f"stablevsr.training.tasks.{kind}" for kind in ("unet", "tcm", "decoder"))))
    assert not closure & planning
    assert not [name for name in closure if name.split(".")[1] in ("cli", "report", "upscale", "bench")]
    assert "stablevsr.baselines" not in {".".join(n.split(".")[:2]) for n in code.import_closure(jobs[1:])}


def test_resizing_and_baselines_do_not_depend_on_the_sampler():
    closure = code.import_closure(
        ("stablevsr.upscale.scales", "stablevsr.upscale.baseline_run", "stablevsr.upscale.video")
    )
    assert not closure & {"stablevsr.method.sampler", "stablevsr.method.pipeline", "stablevsr.upscale.clip_run"}


def stores(study, paths):
    """The keyed places of everything between the LR frames and the scores."""
    places = {f"lr {name}": paths.low_resolution(spec) for name, spec in study.spec.datasets.items()}
    places |= {f"data {name}": paths.dataset(name) for name in study.spec.datasets}
    places |= {
        f"training data {name}": paths.training_data(spec) for name, spec in study.spec.training_datasets.items()
    }
    places |= {f"{m.name}: {run.kind}": paths.training(run) for m in study.methods.values() for run in m.trainings()}
    for method in study.methods.values():
        for dataset in method.datasets:
            places[f"frames {method.name} {dataset}"] = paths.manifest(dataset, method.digest, 0, 0)
            places[f"scores {method.name} {dataset}"] = paths.scores(dataset, method.digest, 0, 0)
    return places


def test_a_constant_of_the_degradation_moves_every_store_from_the_lr_frames_on(package):
    study = load_study("mini", REPOSITORY)
    before = stores(study, Paths(study))
    edit(package / "data/degradation.py", "SCALE = 4", "SCALE = 5")
    forget()
    study = load_study("mini", REPOSITORY)
    after = stores(study, Paths(study))
    assert before.keys() == after.keys() and not set(before.values()) & set(after.values())
