"""The tables in the documentation are those of the study, and links lead to existing files."""

import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
render = runpy.run_path(str(ROOT / "docs" / "render_tables.py"))["render"]


@pytest.fixture
def results(tmp_path):
    tables = tmp_path / "mini" / "tables"
    tables.mkdir(parents=True)
    rows = [
        "dataset,label,psnr,psnr_sd,tof_dis,tof_dis_sd",
        "reds4,Bicubic,28.75,1.50,0.880,",
        "reds4,Ours,28.58,2.00,,",
        "vimeo,Bicubic,1,,1,",
    ]
    (tables / "table1.csv").write_text("\n".join(rows))
    return tmp_path


def test_a_table_shows_its_dataset_and_metrics_and_the_rest_stays(results):
    text = "before\n<!-- scores mini/table1 reds4: tof_dis psnr -->\nold\n<!-- end of scores -->\nafter\n"
    made = render(text, results)
    table = ["| method | tOF (DIS) ↓ | PSNR ↑ |", "| --- | --- | --- |", "| Bicubic | 0.880 | 28.75 ± 1.50 |",
             "| Ours | – | 28.58 ± 2.00 |"]  # fmt: skip
    assert made.splitlines() == [
        "before", "<!-- scores mini/table1 reds4: tof_dis psnr -->", "", *table, "", "<!-- end of scores -->", "after",
    ]  # fmt: skip
    assert render(made, results) == made


def test_claims_come_with_difference_and_verdict_and_untested_metrics_are_named_once(results):
    tables = results / "mini" / "tables"
    (tables / "clips.csv").write_text("dataset,name,label\nreds4,steps.two,Two\nreds4,steps.ten,Ten\n")
    (tables / "claims.csv").write_text(
        "question,dataset,metric,better,than,mean,low,high,verdict,reason\n"
        "table1,reds4,psnr,stablevsr,bicubic,1,1,1,holds,\n"
        "steps,reds4,tof_dis,steps.ten,steps.two,-0.30049,-0.4,-0.2,holds,same sign on 6 of 6 scenes\n"
        "steps,vimeo,tof_dis,steps.ten,steps.two,0,-1,1,undecided,\n"
        "steps,reds4,lpips,steps.ten,steps.two,,,,not testable here,no weights\n"
        "steps,reds4,lpips,steps.ten,steps.one,,,,not testable here,no weights\n"
    )
    made = render("<!-- claims mini/steps reds4 -->\n<!-- end of claims -->", results)
    assert made.splitlines()[4:-2] == [
        "| Ten | Two | tOF (DIS) | -0.300 [-0.400, -0.200] | holds | same sign on 6 of 6 scenes |",
        "",
        "Not testable here: LPIPS (no weights).",
    ]
    with pytest.raises(KeyError, match="has no claims"):
        render("<!-- claims mini/step reds4 -->\n<!-- end of claims -->", results)


def test_tables_of_a_folder_become_their_means_over_sequences(results):
    folder = results / "mini" / "scale_consistency" / "reds4"
    folder.mkdir(parents=True)
    (folder / "ours.csv").write_text("sequence,frame,psnr\na,0,20\na,1,22\nb,0,31\n")
    (results / "mini" / "tables" / "clips.csv").write_text("dataset,name,label\nreds4,ours,Ours\n")
    made = render("<!-- consistency mini/scale_consistency reds4: psnr -->\n<!-- end of consistency -->", results)
    assert made.splitlines()[-3:-1] == ["| Ours | 26.00 |", ""]
    before = "<!-- consistency mini/not_made reds4: psnr -->\nas it was\n<!-- end of consistency -->"
    assert render(before, results) == before


def test_scores_by_scene_end_with_their_mean(results):
    (results / "mini" / "tables" / "clips.csv").write_text(
        "dataset,name,label,scene,clip,psnr\nreds4,a,A,s,s1,20\nreds4,a,A,s,s2,22\nreds4,b,B,s,s1,30\n"
        "reds4,a,A,t,t1,31\nreds4,b,B,t,t1,40\nvimeo,a,A,u,u,1\n"
    )
    made = render("<!-- scenes mini/b+a reds4: psnr -->\n<!-- end of scenes -->", results)
    assert made.splitlines()[2:-2] == [
        "| scene | PSNR ↑: B | PSNR ↑: A |",
        "| --- | --- | --- |",
        "| s | 30.00 | 21.00 |",
        "| t | 40.00 | 31.00 |",
        "| mean | 35.00 | 26.00 |",
    ]


def test_findings_are_those_of_the_study(results):
    (results / "mini" / "tables" / "findings.md").write_text("# Findings\n\n- **Consistency.** A lowers tLP.\n")
    made = render("<!-- findings mini -->\nold\n<!-- end of findings -->", results)
    assert made == "<!-- findings mini -->\n\n- **Consistency.** A lowers tLP.\n\n<!-- end of findings -->"


def test_the_table_of_metrics_is_that_of_the_package(results):
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert "| `psnr` | ↑ | dB | 2 | 0.2 |" in text and "| `sharpness` | 1 is ideal | 1 | 3 | – |" in text
    assert render(text, results) == text, "run python docs/render_tables.py"


def test_a_missing_table_is_an_error(results):
    with pytest.raises(OSError, match="sampling"):
        render("<!-- scores mini/sampling reds4: psnr -->\n<!-- end of scores -->", results)


def test_a_study_without_results_keeps_its_tables(results):
    text = "<!-- scores evidence/table1 reds4: psnr -->\nold\n<!-- end of scores -->"
    assert render(text, results) == text


def test_code_machine_and_seeds_of_a_study_are_named(results):
    made = {
        "study": "mini", "code": {"commit": "abc", "clean": True}, "machine": "a CPU, 2 cores", "python": "3.11.2",
        "versions": {"torch": "2", "diffusers": "0.1"},
        "runs": {"0": {"sampling_seed": 0, "training_seed": 0}, "1": {"sampling_seed": 1, "training_seed": 1}},
    }  # fmt: skip
    (results / "mini/provenance.json").write_text(json.dumps(made))
    text = render("<!-- provenance mini -->\n<!-- end of provenance -->", results)
    for part in ("study=mini`", "| `abc` |", "a CPU, 2 cores", "torch 2", "1 (noise 1, training 1)"):
        assert part in text


def test_the_seconds_of_a_study_are_those_of_its_jobs_by_stage(tmp_path):
    folder = tmp_path / "work" / "benchmarks"
    folder.mkdir(parents=True)
    (tmp_path / "results" / "mini" / "tables").mkdir(parents=True)
    jobs = {"infer_mini_a": 2.3, "infer_mini_b": 4.4, "infer_mini2_c": 9, "page_mini": 1, "train_tcm_0123": 7}
    for name, seconds in jobs.items():
        (folder / f"{name}.tsv").write_text(f"s\tmax_rss\n{seconds}\t1\n")
    made = render("<!-- seconds mini -->\n<!-- end of seconds -->", tmp_path / "results")
    assert [line for line in made.splitlines() if line.startswith("|")][2:] == [
        "| trainings | 1 | 7 |",
        "| frames | 2 | 7 |",
        "| page | 1 | 1 |",
    ]


def test_an_unknown_dataset_or_metric_is_an_error(results):
    for block in ("mini/table1 red4: psnr", "mini/table1 reds4: psnrr"):
        with pytest.raises(KeyError):
            render(f"<!-- scores {block} -->\n<!-- end of scores -->", results)


@pytest.mark.parametrize("path", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("ablations/*.md")]))
def test_links_in_the_documentation_lead_to_files(path):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing
