"""Published scores of methods with public weights against what was measured: which are compared, and the verdict."""

import copy
import json
import re
import shutil
from pathlib import Path

import pytest
import report_study as made

from stablevsr.metrics.registry import METRICS
from stablevsr.report import page
from stablevsr.report.calibration import calibrate, summary
from stablevsr.report.scores import ScoreBook
from stablevsr.runtime.errors import UserError
from stablevsr.study.files import METHOD_KINDS
from stablevsr.study.result_tables import KEYS

PUBLISHED = Path(__file__).parents[2] / "results" / "published" / "calibration.csv"
METRICS_USED = ("psnr", "ssim", "psnr_y_centre", "ssim_y_centre")
VIMEO = {"title": "Vimeo-90K-T (made up)", "layout": "vimeo90k", "root": "data/vimeo90k"}


@pytest.fixture
def study(tmp_path):
    """A book of the made-up study with BasicVSR, on both sets, whose scores are given."""
    (tmp_path / "results" / "published").mkdir(parents=True)
    shutil.copy(PUBLISHED, tmp_path / "results" / "published")

    def build(scores=None, reds=None, metrics=METRICS_USED):
        spec = copy.deepcopy(made.SPEC)
        spec["datasets"] = {"reds4": {**spec["datasets"]["reds4"], **(reds or {})}, "vimeo": VIMEO}
        spec["metrics"], spec["claims"] = list(metrics), []
        spec["methods"]["theirs"] = {
            "label": "BasicVSR", "kind": {"reds4": "basicvsr-reds4", "vimeo": "basicvsr-vimeo-bi"}
        }  # fmt: skip
        paths = made.make_paths(tmp_path, made.make(tmp_path, spec, {**made.SAMPLING, "claims": []}))
        for dataset, rows in (scores or {}).items():
            table = paths.table(dataset, "theirs")
            table.parent.mkdir(parents=True, exist_ok=True)
            lines = [",".join((*KEYS, *METRICS_USED))]
            for clip, frame, psnr, ssim in rows:
                centre = f"{psnr},{ssim}" if frame == "im4" else ","
                lines.append(f"s{clip},{clip},{frame},0,all frames,{psnr},{ssim},{centre}")
            table.write_text("\n".join(lines) + "\n")
        return ScoreBook(paths)

    return build


REDS = [("000", "00000000", 30.417, 0.88), ("000", "00000001", 31.417, 0.89), ("011", "00000000", 31.917, 0.8968)]
SEPTUPLETS = [("1", "im3", 20, 0.1), ("1", "im4", 37.1, 0.944), ("2", "im4", 37.3, 0.946), ("2", "im5", 20, 0.1)]


def test_clips_weigh_the_same_and_frames_without_a_value_are_left_out(study):
    rows = calibrate(study({"reds4": REDS, "vimeo": SEPTUPLETS}))
    assert [(row.dataset.split()[0], row.metric, row.expected) for row in rows] == [
        ("REDS4", METRICS["psnr"].label, 31.417), ("REDS4", METRICS["ssim"].label, 0.8909),
        ("Vimeo-90K-T", METRICS["psnr_y_centre"].label, 37.2026),
        ("Vimeo-90K-T", METRICS["ssim_y_centre"].label, 0.9451),
    ]  # fmt: skip
    assert [row.measured for row in rows] == pytest.approx([31.417, 0.8909, 37.2, 0.945])
    assert {row.verdict for row in rows} == {"agrees"}
    assert summary(rows).startswith("All 4 published scores agree with the measured ones")


def test_a_wrong_channel_is_seen(study):
    rows = calibrate(study({"reds4": [(*row[:2], row[2] + 1.3, row[3]) for row in REDS], "vimeo": SEPTUPLETS}))
    assert [row.verdict for row in rows] == ["differs", "agrees", "agrees", "agrees"]
    assert summary(rows).startswith("1 of 4 published scores differ from the measured ones")


def test_what_is_not_scored_yet_is_not_judged(study):
    rows = calibrate(study({"reds4": REDS}))
    assert [row.verdict for row in rows] == ["agrees", "agrees", "not measured", "not measured"]
    assert summary(rows) == "2 of 4 published scores are not measured yet."
    assert [row.metric for row in calibrate(study(metrics=("ssim", "lpips")))] == [METRICS["ssim"].label]


def test_scores_that_lack_a_clip_are_not_judged(study):
    book = study({"reds4": REDS, "vimeo": SEPTUPLETS})
    manifest = book.paths.dataset("reds4") / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"sequences": {clip: {} for clip in ("000", "011", "015")}}))
    assert [row.verdict for row in calibrate(book)] == ["not measured", "not measured", "agrees", "agrees"]


@pytest.mark.parametrize("changed", [{"frames": 5}, {"every": 2}, {"sequences": ["000"]}, {"layout": "plain"},
                                     {"layout": "plain", "make": "mini"}, {"split": "val"}])  # fmt: skip
def test_a_part_of_a_set_or_another_set_is_not_compared(changed, study):
    assert {row.dataset for row in calibrate(study(reds=changed))} == {VIMEO["title"]}


def test_the_page_shows_them_before_the_statements(study):
    text = page.html(study({"reds4": REDS, "vimeo": SEPTUPLETS}).paths)
    section = re.search(r'<section id="calibration">.*?</section>', text, re.DOTALL)[0]
    assert text.index('id="calibration"') < text.index('<section id="claims">')
    assert section.count("agrees</td>") == 4 and "31.417 ± 0.05" in section and "PSNR-Y (centre)" in section
    shutil.rmtree(study().paths.results_root / "published")
    assert 'id="calibration"' not in page.html(study().paths)


def test_the_published_file_names_kinds_and_metrics_that_exist():
    rows = [line.split(",") for line in PUBLISHED.read_text().splitlines()[1:]]
    assert {row[1] for row in rows} <= set(METHOD_KINDS) and {row[2] for row in rows} <= set(METRICS)


def test_a_damaged_file_is_named(study):
    book = study()
    (book.paths.results_root / "published" / "calibration.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"calibration\.csv must have the columns layout, kind"):
        calibrate(book)
