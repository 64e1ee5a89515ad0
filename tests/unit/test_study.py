"""Studies and ablations: what is refused and how it is said, what is shared, what a label may not change."""

import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from study_files import REPOSITORY, edit

from stablevsr.data.downloads import registry, weights
from stablevsr.method.settings import Guidance
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import digest
from stablevsr.study.methods import MODEL_TCM, TrainingRun
from stablevsr.study.paths import Paths
from stablevsr.study.requirements import all_downloads
from stablevsr.study.resolve import load_study, merge
from stablevsr.study.weights import training_weights

STUDIES = sorted(file.stem for file in (REPOSITORY / "workflow/studies").glob("*.yaml"))
#: The names under which the ablations of two studies hold the method itself.
REFERENCES = {
    "mini": ("sampling.bidirectional", "tcm_training.bidirectional"),
    "faster": ("few_steps.six", "guidance_cadence.always", "cheaper.method"),
}


@pytest.fixture
def root(tmp_path):
    shutil.copytree(REPOSITORY / "workflow" / "studies", tmp_path / "workflow" / "studies")
    shutil.copytree(REPOSITORY / "ablations", tmp_path / "ablations")
    return tmp_path


@pytest.mark.parametrize("name", STUDIES)
def test_the_repositorys_studies_resolve(name):
    assert load_study(name, REPOSITORY).methods


def test_the_reference_is_shared_by_every_ablation_that_contains_it():
    mini, faster = (load_study(name, REPOSITORY) for name in REFERENCES)
    same = {study.methods[name].digest for study in (mini, faster) for name in ("stablevsr", *REFERENCES[study.name])}
    assert len(same) == 1
    assert [run.kind for run in mini.trainings().values()] == ["tcm"] * 3
    assert [run.kind for run in faster.trainings().values()] == ["tcm", "decoder"]


def test_a_run_has_its_own_noise_and_trainings_which_its_methods_share(root):
    edit(root / "workflow/studies/evidence.yaml", lambda c: c["ablations"].append("cheaper"))  # it trains a decoder
    edit(root / "ablations/cheaper.yaml", lambda c: c["studies"].append("evidence"))
    study, mini = (load_study(name, root) for name in ("evidence", "mini"))
    ours, guided, single = (
        study.methods[name].runs("reds4") for name in ("stablevsr", "sampling.auto_regressive", "sampling.single_frame")
    )
    assert [form.run for form in ours] == [form.run for form in single] == [0, 1, 2]
    assert [form.training.settings.seed for form in ours] == [0, 1, 2]
    assert len({form.digest for form in ours}) == 3
    assert [form.training for form in ours] == [form.training for form in guided]
    assert len({form.digest for form in single}) == 1  # nothing of it is trained here: only its noise differs
    small = study.methods["cheaper.small_decoder"].runs("reds4")
    assert [form.decoder.settings.seed for form in small] == [0, 1, 2]
    assert [form.run for form in study.methods["bicubic"].runs("reds4")] == [0]
    # run 0 is the mini study's, so its results are shared
    assert ours[0].digest == mini.methods["stablevsr"].digest


def test_a_released_tcm_meets_new_noise_only_and_a_dataset_may_have_fewer_runs():
    study = load_study("paper", REPOSITORY)
    released = study.methods["stablevsr"]
    assert [form.run for form in released.runs("reds4")] == [0, 1, 2, 3, 4]
    assert {form.digest for form in released.runs("reds4")} == {released.digest}
    assert len(released.runs("vimeo")) == 1
    rebuilt = study.methods["rebuilt.everything"].runs("reds4")
    assert [form.base.training.settings.seed for form in rebuilt] == [0, 1, 2, 3, 4]


def test_a_form_is_found_by_name_or_digest_and_seed():
    study = load_study("evidence", REPOSITORY)
    second = study.methods["stablevsr"].runs("reds4")[1]
    assert study.form("stablevsr", "reds4", 1) is second
    assert study.form(second.digest, "reds4", 1).digest == second.digest
    with pytest.raises(UserError, match=r"no run with seed 0 on reds4: its seeds there are 1"):
        study.form(second.digest, "reds4", 0)
    with pytest.raises(UserError, match=r"stablevsr has no run with seed 3 on reds4: its seeds there are 0, 1, 2"):
        study.form("stablevsr", "reds4", 3)


def test_a_study_extends_another_and_follows_it(root):
    study, mini = load_study("evidence", root), load_study("mini", root)
    own = study.methods.keys() - mini.methods.keys()
    assert mini.methods.keys() < study.methods.keys()
    ablations = {"guidance", "tcm_start", "temporal_weight", "temporal_filter"}
    assert {name.partition(".")[0] for name in own} == ablations | {"realesrgan_x4plus"}
    assert [file.stem for file in study.files] == ["evidence", "mini"]
    assert study.spec.metrics == mini.spec.metrics and study.spec.title != mini.spec.title
    edit(root / "workflow/studies/mini.yaml", lambda c: c["method"]["training"].update(steps=77))
    assert load_study("evidence", root).methods["stablevsr"].training.settings.steps == 77
    edit(root / "workflow/studies/mini.yaml", lambda c: c.update(extends="evidence"))
    with pytest.raises(UserError, match=r"mini\.yaml: extends leads back to evidence"):
        load_study("evidence", root)
    edit(root / "workflow/studies/evidence.yaml", lambda c: c.update(extends="mimi"))
    with pytest.raises(UserError, match="did you mean 'mini'"):
        load_study("evidence", root)


@pytest.mark.parametrize("name", STUDIES)
def test_the_kinds_of_guidance_are_compared_only_where_each_has_a_tcm_that_was_trained_for_it(name):
    study = load_study(name, REPOSITORY)
    rows = [form for form in study.forms() if form.name.startswith("guidance.") and form.training]
    assert [form.name for form in rows if form.training.guidance != form.guidance] == []
    assert bool(rows) == (name in ("evidence", "paper"))


@pytest.mark.parametrize("name", ["mini", "evidence", "smoke"])
def test_a_moved_target_has_the_flow_of_the_study_whatever_the_tcm_is_shown(name):
    runs = [run for run in load_study(name, REPOSITORY).trainings().values() if run.kind == "tcm"]
    assert {run.guidance.flow for run in runs if run.settings.temporal_weight} == {"dis"}
    assert all(training_weights(run.settings) == [] for run in runs)  # no download that the study does not name


def test_a_moved_target_needs_the_weights_of_its_flow(root):
    def blank(**training):
        study = root / "workflow/studies/paper.yaml"
        edit(study, lambda c: c["method"].setdefault("training", {}).update(training))
        run = load_study("paper", root).methods["guidance.no_guidance"].training
        return run, training_weights(run.settings)

    assert blank()[1] == []
    run, needed = blank(temporal_weight=0.5)
    assert run.guidance.source == "none" and needed == ["raft"]


def test_the_rows_of_table_1_run_on_all_its_data_sets():
    study = load_study("mini", REPOSITORY)
    assert study.table1_datasets() == ("reds4", "vimeo")
    assert {method.datasets for method in study.table1()} == {("reds4", "vimeo")}
    assert study.methods["tcm_training.no_guidance"].datasets == ("reds4",)


def test_variants_differ_where_they_should():
    study = load_study("mini", REPOSITORY)
    digests = {m.digest for m in study.methods.values()}
    assert len(digests) == len(study.methods) - len(REFERENCES["mini"])
    assert study.methods["sampling.single_frame"].training is None
    samples = {Paths(study).samples(run) for run in study.trainings().values() if run.kind == "tcm"}
    assert len(samples) == 1  # all three share their cached samples, the one with a blank image too
    run = next(run for run in study.trainings().values() if run.kind == "tcm")

    def samples_with(**changed):
        settings = run.settings.model_copy(update=changed)
        return TrainingRun.of("tcm", settings, run.dataset, run.base).samples

    assert samples_with(learning_rate=1.0, optimizer="adam", steps=7, temporal_weight=0.5) == run.samples
    for changed in ({"latents": "sample"}, {"order": "epochs"}, {"crop": 32}, {"seed": 5}, {"temporal_weight": 0}):
        assert samples_with(**changed) != run.samples
    blank, seen = Guidance(source="none", flow="dis"), Guidance(source="xt", flow="dis")
    assert samples_with(guidance=blank) == run.samples != samples_with(guidance=seen)
    assert samples_with(guidance=blank, temporal_weight=0) != samples_with(temporal_weight=0)


@pytest.mark.parametrize("ablation", ["sampling", "guidance", "tcm_training", "warp_grid"])
def test_the_papers_ablations_compare_tcms_trained_here_and_show_the_released_one(ablation):
    study = load_study("paper", REPOSITORY)
    rows = study.ablation_methods(ablation)
    released = rows.pop("stablevsr")
    assert released.digest == study.methods["stablevsr"].digest and "released TCM" in released.label
    trained = {key: method.training for key, method in rows.items()}
    assert [key for key, run in trained.items() if run is None] in ([], ["single_frame"], ["mixed"])
    assert {run.settings.steps for run in trained.values() if run} == {20_000}


def test_a_row_from_elsewhere_is_left_out_where_a_variant_is_the_same_and_refused_where_it_is_unknown(root):
    assert "stablevsr" not in load_study("mini", root).ablation_methods("sampling")
    edit(root / "ablations/sampling.yaml", lambda c: c["also"].update(stablevrs="Typo"))
    with pytest.raises(UserError, match=r"sampling\.yaml: also names the unknown method stablevrs .*'stablevsr'"):
        load_study("mini", root)


def test_the_paper_retrains_for_each_guidance_row():
    study = load_study("paper", REPOSITORY)
    assert study.methods["stablevsr"].training is None
    trained = {study.methods[f"guidance.{v}"].training.digest for v in
               ("no_guidance", "noisy_latent", "latent_compensation", "no_compensation")}  # fmt: skip
    assert len(trained) == 4


def test_a_dataset_with_a_model_for_itself_has_other_networks_under_the_same_names():
    study = load_study("paper", REPOSITORY)
    reference = study.methods["stablevsr"]
    here, vimeo = reference.on("reds4"), reference.on("vimeo")
    assert (here.base.name, here.checkpoint, here.training) == ("claudiom4sir/StableVSR", MODEL_TCM, None)
    assert vimeo.base.origin == "stabilityai/stable-diffusion-x4-upscaler"
    assert vimeo.training.base == vimeo.base and vimeo.training.settings.dataset == "vimeo"
    assert vimeo.digest != here.digest and vimeo.name == here.name
    assert study.by_digest("vimeo")[vimeo.digest] is vimeo and vimeo.digest not in study.by_digest("reds4")
    bicubic = study.methods["bicubic"]
    assert bicubic.on("vimeo") is bicubic
    assert "vimeo" not in study.methods["sampling.single_frame"].datasets  # the ablations are on REDS4
    model = Path(Paths(study).model(vimeo.base))
    assert model == Paths(study).training(study.training("unet", "vimeo_unet"))


def test_a_part_of_the_paper_wants_nothing_that_it_does_not_use():
    paper, part = load_study("paper", REPOSITORY), load_study("table1", REPOSITORY)
    assert {form.digest for form in part.methods["stablevsr"].runs("reds4")} == {
        form.digest for form in paper.methods["stablevsr"].runs("reds4")
    }
    assert not part.trainings() and [spec.title for spec in part.datasets_in_use()] == ["REDS4"]
    wanted = all_downloads(part)
    assert {"reds4", "stablevsr", "raft", "basicvsr_reds4"} <= set(wanted)
    assert not {"vimeo90k", "reds_train_sharp", "reds_val_sharp", "sd_x4_upscaler"} & set(wanted)
    assert set(wanted) < set(all_downloads(paper))


def test_a_fine_tuned_model_has_no_tcm_to_start_from(root):
    edit(root / "workflow/studies/paper.yaml", lambda c: c["method"].update(training={"start": "model"}))
    with pytest.raises(UserError, match="unet is fine-tuned here and has no TCM to start from: give start: unet"):
        load_study("paper", root)


def test_a_fine_tuning_setting_changes_its_model_and_what_stands_on_it_only(root):
    before = load_study("paper", root)
    edit(root / "workflow/studies/paper.yaml",
         lambda c: c["finetuned"]["vimeo_unet"]["training"].update(steps=77))  # fmt: skip
    after = load_study("paper", root)
    assert before.methods["stablevsr"].digest == after.methods["stablevsr"].digest
    assert before.methods["rebuilt.everything"].digest == after.methods["rebuilt.everything"].digest
    assert before.methods["stablevsr"].on("vimeo").digest != after.methods["stablevsr"].on("vimeo").digest
    smaller = {"micro_batch": 2, "gradient_checkpointing": True}
    edit(root / "workflow/studies/paper.yaml", lambda c: c["finetuned"]["vimeo_unet"]["training"].update(smaller))
    assert (
        load_study("paper", root).training("unet", "vimeo_unet").digest == after.training("unet", "vimeo_unet").digest
    )


def test_a_fine_tuned_model_has_no_tcm_to_take(root):
    edit(root / "workflow/studies/paper.yaml", lambda c: c.update(model="reds_unet"))
    with pytest.raises(UserError, match="reds_unet has no TCM"):
        load_study("paper", root)


def test_an_ablation_keeps_itself_for_the_studies_it_names(root):
    assert "frame_rate" not in load_study("mini", root).ablations
    assert load_study("paper", root).ablation_datasets("frame_rate") == ("reds4", "reds4_every2", "reds4_every4")
    edit(root / "workflow/studies/mini.yaml", lambda c: c.update(ablations=["frame_rate"]))
    with pytest.raises(UserError, match="meant for the studies paper, but mini lists it"):
        load_study("mini", root)
    edit(root / "ablations/frame_rate.yaml", lambda c: c.update(studies=["papre"]))
    with pytest.raises(UserError, match=r"unknown study papre.*did you mean 'paper'"):
        load_study("mini", root)


def test_rafts_norm_counts_where_raft_is_used(root):
    def changed(name):
        usual = load_study(name, root).methods
        edit(root / f"workflow/studies/{name}.yaml", lambda c: c["method"]["guidance"].update(raft_norm="inference"))
        new = load_study(name, root).methods
        methods = {key for key, method in new.items() if method.digest != usual[key].digest}
        return methods, {key for key, method in new.items() if method.training != usual[key].training}

    assert changed("mini") == (set(), set())  # its flow is DIS
    methods, trained = changed("paper")
    assert {"stablevsr", "guidance.noisy_latent", "sampling.unidirectional"} <= methods
    assert {"guidance.noisy_latent", "sampling.unidirectional"} <= trained  # the method itself has the released TCM
    assert not {"stablevsr", "bicubic"} & trained
    assert not {"guidance.no_guidance", "guidance.no_compensation", "sampling.single_frame", "bicubic"} & methods


def test_a_label_changes_no_digest(root):
    before = load_study("mini", root)
    edit(root / "ablations/sampling.yaml", lambda c: c["variants"]["bidirectional"].update(label="Both ways"))
    edit(
        root / "workflow/studies/mini.yaml",
        lambda c: c["datasets"]["reds4"].update(title="Other words", degradation="BDx4", shards=2, runs=2),
    )
    after = load_study("mini", root)
    assert {n: m.digest for n, m in before.methods.items()} == {n: m.digest for n, m in after.methods.items()}
    assert Paths(before).dataset("reds4") == Paths(after).dataset("reds4")


def test_shards_of_another_cut_are_other_files(root):
    before = Paths(load_study("mini", root))
    edit(root / "workflow/studies/mini.yaml", lambda c: c["datasets"]["reds4"].update(shards=2))
    after = Paths(load_study("mini", root))
    assert before.manifest("reds4", "d", 0, 0) != after.manifest("reds4", "d", 0, 0)
    assert before.scores("reds4", "d", 0, 0) != after.scores("reds4", "d", 0, 0)
    assert before.manifest("vimeo", "d", 0, 0) == after.manifest("vimeo", "d", 0, 0)


def test_weights_that_arrive_make_new_scores_and_nothing_else(root, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    study = load_study("mini", root)  # it fetches what the package index has, and no more
    before = Paths(study).scores("reds4", "d", 0, 0)
    file = weights.location("raft")
    file.parent.mkdir(parents=True)
    file.touch()
    assert Paths(study).scores("reds4", "d", 0, 0) != before
    with_raft = Paths(study).metrics_key
    weights.location("alexnet").touch()
    assert Paths(study).metrics_key == with_raft
    paper = load_study("paper", root)  # it requires every weight, so its scores do not depend on when they come
    with_weight = Paths(paper).metrics_key
    file.unlink()
    assert Paths(paper).metrics_key == with_weight


def test_changed_code_of_a_metric_makes_new_scores_and_keeps_the_frames(root, monkeypatch):
    study = load_study("mini", root)
    before = Paths(study)
    scores, manifest = before.scores("reds4", "d", 0, 0), before.manifest("reds4", "d", 0, 0)
    monkeypatch.setattr("stablevsr.study.paths.fingerprint", lambda module: "other code")
    assert Paths(study).scores("reds4", "d", 0, 0) != scores
    assert Paths(study).manifest("reds4", "d", 0, 0) == manifest


def test_a_training_setting_changes_its_branch_only(root):
    before = load_study("mini", root)
    edit(root / "ablations/tcm_training.yaml",
         lambda c: c["variants"]["unidirectional"]["training"].update(steps=77))  # fmt: skip
    after = load_study("mini", root)
    changed = {n for n in before.methods if before.methods[n].digest != after.methods[n].digest}
    assert changed == {"tcm_training.unidirectional"}


def test_a_copied_ablation_adds_only_its_own_method(root):
    before = load_study("mini", root)
    shutil.copy(root / "ablations/sampling.yaml", root / "ablations/copy.yaml")
    edit(root / "ablations/copy.yaml", lambda c: c["variants"]["bidirectional"].update(sampling={"steps": 7}))
    after = load_study("mini", root)
    new = {m.digest for m in after.methods.values()} - {m.digest for m in before.methods.values()}
    assert new == {after.methods["copy.bidirectional"].digest}


leaf = st.integers(0, 9)
inner = st.dictionaries(st.sampled_from("abc"), leaf, max_size=3)
outer = st.dictionaries(st.sampled_from("abc"), leaf | inner, max_size=3)


@given(outer, outer)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
def test_merging_keeps_the_change_and_is_idempotent(base, change):
    merged = merge(base, change)
    assert merge(merged, change) == merged
    assert merge(base, {}) == base
    assert set(merged) == set(base) | set(change)
    assert digest(merged) == digest(dict(reversed(merged.items())))


def test_a_small_decoder_is_distilled_once_and_only_where_it_decodes_something(root):
    extra = root / "ablations" / "extra.yaml"
    small = {"guidance_decoder": "small"}
    extra.write_text(yaml.safe_dump({"title": "t", "question": "q", "variants": {
        "alone": {"label": "a", "sampling": {"strategy": "single_frame", **small}},
        "blank": {"label": "b", "guidance": {"source": "none"}, "sampling": small},
        "small": {"label": "c", "sampling": small},
    }}))  # fmt: skip
    edit(root / "workflow" / "studies" / "faster.yaml", lambda study: study["ablations"].append("extra"))
    before = load_study("faster", root)
    assert before.methods["extra.alone"].digest == load_study("mini", root).methods["sampling.single_frame"].digest
    assert before.methods["extra.blank"].decoder is None
    assert before.methods["extra.small"].digest == before.methods["cheaper.small_decoder"].digest
    assert [run.kind for run in before.trainings().values()].count("decoder") == 1
    edit(root / "workflow" / "studies" / "mini.yaml", lambda study: study["distillation"].update(width=8))
    after = load_study("faster", root)
    changed = {name for name in before.methods if before.methods[name].digest != after.methods[name].digest}
    assert changed == {"extra.small", "cheaper.small_decoder", "cheaper.together", "presets.fast"}
    unlike = before.trainings().keys() ^ after.trainings().keys()
    assert {(before.trainings() | after.trainings())[key].kind for key in unlike} == {"decoder"}
    with pytest.raises(UserError, match="study faster trains no small decoder for stablevsr"):
        after.training("decoder", "stablevsr")


def test_a_preset_of_a_variant_replaces_the_methods_own_settings_and_yields_to_the_variants(root):
    variants = {name: {"label": name, "sampling": {"preset": "fast"} | more}
                for name, more in (("fast", {}), ("three", {"steps": 3}))}  # fmt: skip
    (root / "ablations/presets.yaml").write_text(yaml.safe_dump({"title": "P", "question": "?", "variants": variants}))
    study = load_study("mini", root)
    fast, three = (study.methods[f"presets.{name}"].sampling for name in ("fast", "three"))
    assert (fast.steps, fast.precision, fast.guidance_decoder) == (12, "bf16", "small")  # the method has 6 steps
    assert three == fast.model_copy(update={"steps": 3}) and fast.noise == study.methods["stablevsr"].sampling.noise


def test_a_preset_of_a_study_replaces_the_settings_of_the_study_it_extends(root):
    content = {
        "extends": "mini",
        "ablations": ["sampling"],
        "claims": [],
        "method": {"sampling": {"preset": "fast", "guide_from": 0.5}},
    }
    (root / "workflow/studies/quick.yaml").write_text(yaml.safe_dump(content))
    sampling = load_study("quick", root).methods["stablevsr"].sampling
    assert (sampling.steps, sampling.precision, sampling.guide_from) == (12, "bf16", 0.5)


def test_another_published_file_is_another_result(monkeypatch):
    """The registry is no code, so what it pins is part of the digests: a hash, or the commit of a hub model."""
    before = load_study("paper", REPOSITORY)
    rows = dict(registry.load())
    changed = {"raft": "sha256", "basicvsr_reds4": "sha256", "stablevsr": "version"}
    for name, field in changed.items():
        table = rows | {name: rows[name].model_copy(update={field: "0" * 64})}
        monkeypatch.setattr(registry, "load", lambda table=table: table)
        after = load_study("paper", REPOSITORY)
        moved = {key for key, method in after.methods.items() if method.digest != before.methods[key].digest}
        assert ("basicvsr" in moved) == (name == "basicvsr_reds4")
        assert ("stablevsr" in moved) == (name != "basicvsr_reds4")
        assert "bicubic" not in moved


def test_a_study_that_extends_another_may_use_the_ablations_it_lists(root):
    (root / "workflow/studies/mine.yaml").write_text(yaml.safe_dump({"extends": "evidence", "title": "Mine"}))
    assert load_study("mine", root).ablations.keys() == load_study("evidence", root).ablations.keys()
