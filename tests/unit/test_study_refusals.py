"""What a study is refused for, with the sentence that says so."""

import re
import shutil

import pytest
from study_files import REPOSITORY, edit

from stablevsr.runtime.errors import UserError
from stablevsr.study import requirements
from stablevsr.study.requirements import absent, check_external, check_packages
from stablevsr.study.resolve import load_study


@pytest.fixture
def root(tmp_path):
    shutil.copytree(REPOSITORY / "workflow" / "studies", tmp_path / "workflow" / "studies")
    shutil.copytree(REPOSITORY / "ablations", tmp_path / "ablations")
    return tmp_path


def bad_key(c):
    c["variants"]["bidirectional"]["guidence"] = {}


def bad_nested_key(c):
    c["variants"]["bidirectional"]["guidance"] = {"sourse": "xt"}


def bad_value(c):
    c["variants"]["bidirectional"]["sampling"] = {"strategy": "bidirectonal"}


def bad_claim(c):
    c["claims"][0]["better"] = "bidirectonal"


def bad_rival(c):
    c["claims"][0]["than"] = ["single_frame", "unidirectinal"]


def bad_form(c):
    c["claims"][0]["same"] = "single_frame"


def itself(c):
    c["claims"].append({"metric": "psnr", "better": "bidirectional", "than": "stablevsr"})


def unknown_claim_dataset(c):
    c["claims"][0]["datasets"] = ["red4"]


def bad_metric(c):
    c["claims"][0]["metric"] = "tof_diss"


def bad_required_key(c):
    c["titel"] = c.pop("title")


def no_title(c):
    del c["title"]


@pytest.mark.parametrize("change,words", [
    (bad_key, ["sampling.yaml", "variants.bidirectional.guidence", "guidance"]),
    (bad_nested_key, ["sampling.yaml", "bidirectional", "sourse", "source"]),
    (bad_value, ["sampling.yaml", "strategy", "'bidirectional'"]),
    (bad_claim, ["sampling.yaml, claim 1", "bidirectonal", "bidirectional"]),
    (bad_rival, ["sampling.yaml, claim 1", "unidirectinal", "unidirectional"]),
    (bad_form, ["claim 1: a claim names either better and than, or same and as"]),
    (itself, ["claim 2: bidirectional and stablevsr have the same settings on reds4: there is nothing to compare"]),
    (unknown_claim_dataset, ["claim 1: unknown dataset red4 (did you mean 'reds4'?)"]),
    (bad_metric, ["tof_diss", "tof_dis"]),
    (bad_required_key, ["sampling.yaml", "unknown key 'titel'", "'title'"]),
    (no_title, ["sampling.yaml", "'title' is missing"]),
])  # fmt: skip
def test_a_misspelling_names_the_place_and_the_near_miss(root, change, words):
    edit(root / "ablations/sampling.yaml", change)
    with pytest.raises(UserError) as error:
        load_study("mini", root)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_misspelt_metric_of_the_study_names_its_file(root):
    edit(root / "workflow/studies/mini.yaml", lambda c: c["metrics"].append("psnrr"))
    with pytest.raises(UserError, match=r"mini\.yaml.*psnrr.*'psnr'"):
        load_study("mini", root)


@pytest.mark.parametrize("content,sentence", [
    (b"", "is empty"),
    (b"title: x\nquestion: [a,\n", "line 3: no valid YAML"),
    (b"title: \xff\n", "is no valid YAML"),
    (b"- title\n", "dictionary"),
    (b"title: " + b"[" * 3000, "nested too deeply"),
    (b"title: x\nvariants:\n  a: {label: A}\n  a: {label: B}\n", "line 4: .*the key 'a' is there twice"),
])  # fmt: skip
def test_a_file_that_is_no_mapping_is_named(root, content, sentence):
    (root / "ablations/sampling.yaml").write_bytes(content)
    with pytest.raises(UserError, match=sentence) as error:
        load_study("mini", root)
    assert "sampling.yaml" in str(error.value)


@pytest.mark.parametrize("change,sentence", [
    (lambda c: c.update(runs=0), r"'runs'.*greater than or equal to 1"),
    (lambda c: c["datasets"]["reds4"].update(runs=0), r"'datasets\.reds4\.runs'"),
    (lambda c: c.update(runs=10**6), r"'runs'.*less than or equal to 100"),
    (lambda c: c["datasets"]["reds4"].update(runs=10**6), r"'datasets\.reds4\.runs'.*less than or equal to 100"),
    (lambda c: c["method"]["sampling"].update(preset=["fast"]), r"there is no preset \['fast'\]: known are"),
    (lambda c: c["datasets"]["reds4"].update(sequences=[]), r"'datasets\.reds4\.sequences'"),
    (lambda c: c["methods"].update(stablevsr={"label": "X", "kind": "bicubic"}), "choose another name"),
    (lambda c: c["methods"].update(mine={"label": "X"}), "mine wants either a frames folder or one of"),
])  # fmt: skip
def test_a_study_that_cannot_be_run_is_refused_at_once(root, change, sentence):
    edit(root / "workflow/studies/mini.yaml", change)
    with pytest.raises(UserError, match=sentence) as error:
        load_study("mini", root)
    assert "mini.yaml" in str(error.value)


def bring(frames):
    return lambda c: c["methods"].update(mine={"label": "Mine", "frames": frames})


@pytest.mark.parametrize("study,change,sentences", [
    ("mini", bring("mine/{dataset}"), [
        "the frames of method mine on reds4 are not in mine/reds4: put them there",
        "the frames of method mine on vimeo are not in mine/vimeo: put them there"]),
    ("mini", bring("work/mine/{dataset}"), [
        "the frames of method mine on reds4 are not in work/mine/reds4: put them there",
        "the frames of method mine on vimeo are not in work/mine/vimeo: put them there"]),
    ("mini", bring("work/external/mini/{dataset}"), []),  # a rule makes those
    ("mini", lambda c: c["method"].update(checkpoint="modle"), [
        "checkpoint modle of method stablevsr: it is no folder with a TCM (config.json and safetensors)"]),
    ("mini", lambda c: c.update(model="tinny"), [
        "model 'tinny' is no folder, no hub id (owner/name), not tiny and not among finetuned (did you mean 'tiny'?)"]),
    ("mini", lambda c: c.update(model="./nowhere"), [
        "model './nowhere' is no folder, no hub id (owner/name), not tiny and not among finetuned"]),
    ("mini", lambda c: c.update(model=""), [
        "model '' is no folder, no hub id (owner/name), not tiny and not among finetuned"]),
    *(("mini", lambda c, model=model: c.update(model=model), [])
      for model in ("claudiom4sir/StableVSR", f"somebody/some.thing@{'0a' * 20}")),
    *(("mini", lambda c, model=model: c.update(model=model), [
        f"model '{model}' may change on the hub during a study: name a commit, {model.partition('@')[0]}@COMMIT with "
        "all its 40 digits"])
      for model in ("a/something", "a/some.thing@refs/pr/1", "claudiom4sir/StableVSR@main", "a/b@0a0a0a")),
    *(("mini", lambda c, model=model: c.update(model=model), [
        f"model '{model}' is no folder, no hub id (owner/name), not tiny and not among finetuned"])
      for model in ("a/b; touch pwned", "a/b@", "a/b c", "a/b/c", "../b", "a/..")),
    ("paper", lambda c: c["finetuned"]["vimeo_unet"].update(base="tinny"), [
        "model 'tinny' (base of vimeo_unet) is no folder, no hub id (owner/name), not tiny and not among finetuned "
        "(did you mean 'tiny'?)"]),
])  # fmt: skip
def test_an_external_input_that_is_not_there_is_named_once(root, study, change, sentences):
    check_external(load_study(study, root), root)
    edit(root / "workflow/studies" / f"{study}.yaml", change)
    resolved = load_study(study, root)  # results that are there can still be rendered
    assert absent(resolved, root) == sentences
    if sentences:
        with pytest.raises(UserError, match=re.escape(sentences[0])):
            check_external(resolved, root)


def test_external_folders_that_are_there_are_accepted_and_a_tcm_needs_weights(root):
    for dataset in ("reds4", "vimeo"):
        (root / "mine" / dataset).mkdir(parents=True)
    (root / "tcm").mkdir()
    (root / "tcm/config.json").touch()
    edit(root / "workflow/studies/mini.yaml", bring("mine/{dataset}"))
    edit(root / "workflow/studies/mini.yaml", lambda c: c["method"].update(checkpoint="tcm"))
    assert len(absent(load_study("mini", root), root)) == 1
    (root / "tcm/weights.safetensors").touch()
    assert absent(load_study("mini", root), root) == []
    (root / "checkpoint-20000").mkdir()
    (root / "tcm").rename(root / "checkpoint-20000/controlnet")
    edit(root / "workflow/studies/mini.yaml", lambda c: c["method"].update(checkpoint="checkpoint-20000"))
    assert absent(load_study("mini", root), root) == []


def test_an_unknown_study_and_ablation_suggest_the_near_miss(root):
    with pytest.raises(UserError, match="did you mean 'mini'"):
        load_study("mini1", root)
    edit(root / "workflow/studies/mini.yaml", lambda c: c.update(ablations=["samplin"]))
    with pytest.raises(UserError, match="did you mean 'sampling'"):
        load_study("mini", root)


@pytest.mark.parametrize("change", [
    {"micro_batch": -1}, {"micro_batch": 0}, {"learning_rate": 0}, {"learning_rate": -1e-4},
    {"learning_rate_new": -1.0}, {"learning_rate": ".inf"}, {"max_grad_norm": -1}, {"max_grad_norm": -1},
    {"warmup_steps": -1}, {"cached_samples": -3},
    {"cached_samples": 0}, {"seed": -1}, {"seed": 2**70}, {"steps": 0}, {"batch": 0}, {"crop": 10},
    {"conditioning_init": -0.1}, {"temporal_weight": -0.1}, {"temporal_weight": 1.5},
])  # fmt: skip
def test_a_training_setting_out_of_its_range_is_named(root, change):
    edit(root / "workflow/studies/mini.yaml", lambda c: c["method"]["training"].update(change))
    with pytest.raises(UserError, match=rf"mini\.yaml: 'method\.training\.{next(iter(change))}'"):
        load_study("mini", root)


def test_names_of_files_and_downloads_cannot_hold_shell_commands(root):
    shutil.copy(root / "workflow/studies/mini.yaml", root / "workflow/studies/x; touch pwned.yaml")
    with pytest.raises(UserError, match=r"touch pwned\.yaml: a name consists of letters"):
        load_study("x; touch pwned", root)
    edit(
        root / "workflow/studies/mini.yaml", lambda c: c["training_datasets"]["reds"].update(fetch=["reds_trian_sharp"])
    )
    with pytest.raises(UserError, match=r"mini\.yaml: nothing to fetch is called.*did you mean 'reds_train_sharp'"):
        load_study("mini", root)
    shutil.copy(root / "ablations/sampling.yaml", root / "ablations/$(touch pwned).yaml")
    with pytest.raises(UserError, match="a name consists of letters"):
        load_study("mini", root)  # it lists all ablations, before its downloads are looked up


def test_numbers_that_yaml_reads_as_text_are_numbers(root):
    edit(root / "workflow/studies/mini.yaml", lambda c: c["method"]["training"].update(learning_rate="5e-5"))
    run = next(iter(load_study("mini", root).trainings().values()))
    assert run.settings.learning_rate == 5e-5


def test_a_distillation_says_what_it_cannot_do(root):
    study = root / "workflow" / "studies" / "mini.yaml"
    edit(study, lambda content: content["distillation"].update(dataset="reds"))
    with pytest.raises(UserError, match="distillation takes no dataset"):
        load_study("faster", root)
    edit(study, lambda content: content["distillation"].pop("dataset"))
    edit(root / "ablations" / "cheaper.yaml",
         lambda content: content["variants"]["small_decoder"].update(guidance={"source": "xt"}))  # fmt: skip
    with pytest.raises(UserError, match="cannot decode noisy ones"):
        load_study("faster", root)


def test_a_missing_package_of_a_metric_is_a_fault_only_where_its_scores_are_required(root, monkeypatch):
    monkeypatch.setattr(
        requirements, "missing_package", lambda metric: "no pyiqa here" if metric.name == "musiq" else None
    )
    check_packages(load_study("mini", root).spec)
    with pytest.raises(UserError, match="metric musiq: no pyiqa here"):
        check_packages(load_study("paper", root).spec)


@pytest.mark.parametrize(("change", "said"), [
    ({"frames": "mine", "sampling": {"steps": 3}}, "sampling has no effect on frames that are there"),
    ({"checkpoint": "mine", "training": {"steps": 3}}, "leave out checkpoint or training"),
    ({"sampling": {"steps": 3}, "label": "Auto-regressive"}, "are both called 'Auto-regressive'"),
])  # fmt: skip
def test_settings_without_effect_and_labels_that_occur_twice_are_refused(root, change, said):
    edit(root / "ablations/sampling.yaml", lambda c: c["variants"].update(new={"label": "New"} | change))
    with pytest.raises(UserError, match=said):
        load_study("mini", root)
