"""The page, its frames and the notes on it: one complete file of limited size, escaped, with all gaps listed."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import report_study as made
from PIL import Image

from stablevsr.report import page, provenance
from stablevsr.report.clip_frames import detailed_box, find_clips, moving_row
from stablevsr.report.page import viewer
from stablevsr.report.page.markdown import to_html
from stablevsr.report.page.questions import changed
from stablevsr.report.scores import ScoreBook
from stablevsr.report.tables.build import Table, build_tables
from stablevsr.report.training_history import histories
from stablevsr.runtime import machine
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.parsing import parse
from stablevsr.study.files import Variant

#: Of a page without deviations, notes and ablations beyond the paper, in this order.
PARTS = ("clips", "findings", "table1", "claims", "trainings", "provenance", "missing")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> made.Paths:
    return made.write_all(tmp_path_factory.mktemp("study"))


class Outside(HTMLParser):
    """Collects every address that a page would load by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]


def test_the_page_is_one_file_with_everything_in_it(paths: made.Paths) -> None:
    text = page.render(paths).read_text()
    parser = Outside()
    parser.feed(text)
    assert all(address.startswith("data:") for address in parser.addresses)
    assert "@import" not in text and "url(" not in text
    parts = [text.index(f'id="{part}"') for part in PARTS]
    assert parts == sorted(parts)


def test_question_and_answer_of_an_ablation_are_shown(paths: made.Paths) -> None:
    text = page.html(paths)
    assert "Does it help to go both ways?" in text
    assert (
        "It cannot be tested here whether Bidirectional has lower tOF (DIS) than Single-frame on REDS4 (made up)."
        in text
    )


def test_an_ablation_that_states_nothing_says_why(tmp_path: Path) -> None:
    silent = {**made.SAMPLING, "claims": [], "no_claims": "One training, and a verdict needs three."}
    assert "<strong>Answer:</strong> One training, and a verdict needs three." in page.html(
        made.write_all(tmp_path, sampling=silent)
    )
    with pytest.raises(UserError, match="no_claims says why there are no claims, and there are some"):
        made.make(tmp_path, sampling=made.SAMPLING | {"no_claims": "One training."})


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    spec = copy.deepcopy(made.SPEC)
    spec["methods"]["bicubic"]["label"] = "</script><script>alert(1)</script>"
    spec["title"] = "<b>bold</b>"
    paths = made.write_all(tmp_path, spec)
    text = page.html(paths)
    assert "<script>alert" not in text and "<b>bold" not in text
    data = re.search(r'id="viewer-data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    assert "</script><script>alert(1)</script>" in json.loads(data[1])[0]["strips"]


def test_a_study_with_nothing_renders_and_lists_what_is_missing(tmp_path: Path) -> None:
    paths = made.make_paths(tmp_path, made.make(tmp_path))
    text = page.render(paths).read_text()
    assert "stablevsr on reds4: there are no scores yet" in text
    assert "frames of reds4: no clip" in text
    assert "figures: none were drawn" in text
    assert "statements: " in text and "there are no scores yet" in text
    assert 'class="viewer"' not in text


def test_missing_frames_of_one_method_leave_the_others(tmp_path: Path) -> None:
    paths = made.write_all(tmp_path)
    own = paths.study.methods["stablevsr"]
    next((paths.frames("reds4", own.digest, 0) / "000").iterdir()).unlink()
    shown = {clip.clip: set(clip.strips) for clip in viewer.viewers(ScoreBook(paths))}
    assert "StableVSR" not in shown["000"] and "Bicubic" in shown["000"]
    assert "StableVSR" in shown["011"]


@pytest.mark.parametrize(
    ("ratio", "steps", "said"),
    [
        (0.9, 100, []),
        (0.9, 60, ["trained for 60 of its 100 steps"]),
        (1.0, 100, ["learned nothing"]),
        (0.975, 100, []),  # high noise at 0.995 alone is not nothing
        (1.0, 60, ["trained for 60 of its 100 steps", "learned nothing"]),
    ],
)
def test_training_that_fell_short_is_a_warning(tmp_path: Path, ratio: float, steps: int, said: list[str]) -> None:
    paths = made.write_all(tmp_path)
    made.write_history(paths, ratio, steps)
    history, *_ = histories(paths)  # the other one is that of run 1
    sentences = history.warnings()
    assert len(sentences) == len(said)
    assert all(part in sentence for part, sentence in zip(said, sentences, strict=True))
    text = page.html(paths)
    assert all(part in text for part in said)


def test_a_ratio_says_nothing_of_a_training_whose_target_moves(tmp_path: Path) -> None:
    paths = made.write_all(tmp_path)
    made.write_history(paths, 1.0, 100)
    history, *_ = histories(paths)
    assert "learned nothing" in history.warnings()[0]
    assert replace(history, settings=history.settings | {"temporal_weight": 0.6}).warnings() == []


def test_a_training_without_history_is_a_warning(tmp_path: Path) -> None:
    paths = made.write_all(tmp_path)
    for run in paths.study.trainings().values():
        (paths.training(run) / "history.csv").write_text("step,loss\n")
    history, *_ = histories(paths)
    assert "trained for 0 of its 100 steps" in history.warnings()[0]
    for run in paths.study.trainings().values():
        (paths.training(run) / "history.csv").unlink()
    history, *_ = histories(paths)
    assert "no training history" in history.warnings()[0]


def test_the_last_validation_of_every_training_is_on_the_page(tmp_path: Path) -> None:
    paths = made.write_all(tmp_path, made.with_model_per_dataset())
    found = histories(paths)
    assert [h.kind.noun for h in found] == ["UNet"] * 2 + ["TCM"] * 4  # one of each for each of two runs
    assert found[0].cost == "5.0 min of steps, 1.5 GiB"
    assert found[0].validated == "loss: low noise 0.900, high noise 0.920"
    text = page.html(paths)
    trainings = text[text.index('id="trainings"') : text.index('id="provenance"')]
    assert trainings.count("<details") == 6
    assert "vimeo_unet: tiny on Septuplets" in trainings and "100 of 100" in trainings
    shown = re.search(r'src="(data:image/jpeg[^"]*)" alt="Held-out', trainings)
    assert shown is not None
    picture = Image.open(io.BytesIO(base64.b64decode(shown[1].partition(",")[2])))
    assert picture.size == (50, 60) and np.asarray(picture).mean() > 190  # the last one; the one before is black


def test_validation_pictures_are_made_small_and_damaged_ones_left_out(tmp_path: Path) -> None:
    Image.new("RGB", (2560, 4000)).save(tmp_path / "big.png")
    data = base64.b64decode(viewer.validation_picture(tmp_path / "big.png").partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (640, 1000)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert viewer.validation_picture(tmp_path / "bad.png") == ""


def test_the_page_names_the_model_of_a_dataset_that_has_another(tmp_path: Path) -> None:
    paths = made.write_all(tmp_path, made.with_model_per_dataset())
    text = page.html(paths)
    said = (
        "StableVSR: with the model vimeo_unet (made by this study: tiny, its UNet fine-tuned on Septuplets) and a TCM "
        "trained on Septuplets, not tiny."
    )
    assert said in text
    assert text.index("Vimeo (made up)</caption>") < text.index(said)
    form = paths.study.methods["stablevsr"].on("vimeo")
    row = text[text.index("<td>stablevsr on vimeo, run 0</td>") :][:400]
    assert form.digest in row and str(paths.training(form.base.training)) in row


def test_what_a_variant_changes_names_its_model() -> None:
    assert changed(parse(Variant, {"label": "x", "model": "reds_unet"}, "x.yaml")) == '{"model": "reds_unet"}'


def test_statements_stand_under_their_question_and_every_interval_is_drawn(paths: made.Paths) -> None:
    text = page.html(paths)
    claims = text[text.index('id="claims"') : text.index('id="trainings"')]
    own, sampling = claims.index('id="question-table1"'), claims.index('id="question-sampling"')
    assert own < claims.index("StableVSR has lower tOF") < sampling < claims.index("Bidirectional has lower tOF")
    assert claims.count("not testable here</span>") == 4
    bars = re.findall(r"--low:([\d.]+)%; --mean:([\d.]+)%; --high:([\d.]+)%", claims)
    assert len(bars) == claims.count(">3 scenes, 2 runs<") == 4
    assert all(2 <= float(low) <= float(mean) <= float(high) <= 98 for low, mean, high in bars)
    assert "Without scores that can be compared: 1 statement, in LPIPS." in claims


@pytest.mark.parametrize(
    ("paper", "section"),
    [("section 4", "claims"), ("", "beyond"), ("not in the paper: our own", "beyond"), ("argued for", "claims")],
)
def test_questions_that_are_not_the_papers_stand_apart(tmp_path: Path, paper: str, section: str) -> None:
    paths = made.write_all(tmp_path, sampling=made.SAMPLING | {"paper": paper})
    text = page.html(paths)
    place = text.index('id="question-sampling"')
    assert re.findall(r'<section id="(\w+)"', text[:place])[-1] == section


def test_a_study_without_the_papers_questions_opens_with_its_own_answers(tmp_path: Path) -> None:
    spec = {key: value for key, value in made.SPEC.items() if key != "claims"}
    claim = {"metric": "tof_dis", "same": "bidirectional", "as": "single_frame", "source": "our own"}
    text = page.html(made.write_all(tmp_path, spec, sampling=made.SAMPLING | {"paper": "", "claims": [claim]}))
    opening = text[text.index('id="findings"') : text.index('<nav aria-label="Sections"')]
    assert '<a href="#question-sampling">' in opening and "Does it help to go both ways?" in opening
    assert "Bidirectional has the same tOF (DIS) as Single-frame on REDS4 (made up)." in opening
    assert "scores that findings are made of" not in opening


def made_tables(paths: made.Paths) -> dict[str, Table]:
    return build_tables(ScoreBook(paths))


def test_a_metric_without_a_value_has_no_column_and_one_reason_at_the_end(paths: made.Paths) -> None:
    text = page.html(paths)
    assert "LPIPS</button>" not in text and "LPIPS <span" not in text
    reason = "LPIPS of every method on REDS4 (made up): the weights alexnet are not in the cache"
    assert text.count("the weights alexnet") == 1
    assert text.index(reason) > text.index('id="missing"') > text.index('id="provenance"')


def test_a_value_that_one_method_lacks_leaves_a_dash_and_a_reason(tmp_path: Path) -> None:
    paths = made.write_all(tmp_path)
    table = pd.read_csv(paths.table("reds4", "bicubic")).drop(columns="tof_dis")
    table.to_csv(paths.table("reds4", "bicubic"), index=False)
    text = page.html(paths)
    row = text[text.index('data-value="Bicubic"') :]
    assert "–</span>" in row[: row.index("</tr>")]
    assert "tOF (DIS) of Bicubic on REDS4 (made up): it was not among the metrics" in text[text.index('id="missing"') :]


def test_tables_on_the_page_show_seconds_a_frame(paths: made.Paths) -> None:
    text = page.html(paths)
    own = text[text.index('<tr class="reference">') :]
    assert '<td class="num" data-value="2.0">2.0</td>' in own[: own.index("</tr>")]
    assert text.count("s a frame</button>") == sum(len(t.blocks) for t in made_tables(paths).values())


def test_a_strip_holds_every_frame_in_order(paths: made.Paths) -> None:
    [first, *_] = viewer.viewers(ScoreBook(paths))
    assert first.frames == [f"{i:08d}" for i in range(made.FRAMES)]
    data = base64.b64decode(first.strips["Ground truth"].partition(",")[2])
    strip = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert strip.shape == (made.FRAMES * made.SIZE, made.SIZE, 3)
    clip = find_clips(paths, "reds4", 1)[0]
    truth = np.concatenate([np.asarray(Image.open(path)) for path in clip.gt_files]).astype(int)
    assert np.abs(strip - truth).mean() < 12  # JPEG of noise; a wrong order differs by about 85


def test_strips_keep_within_the_budget(paths: made.Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def size() -> int:
        return sum(len(uri) for shown in viewer.viewers(ScoreBook(paths)) for uri in shown.strips.values())

    full = size()
    monkeypatch.setattr(viewer, "BUDGET", full // 3)
    assert size() <= full // 3 * 4 / 3


def test_of_a_long_clip_only_the_shown_frames_are_read(paths: made.Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "QUALITIES", ((92, 640, 2),))
    hidden = find_clips(paths, "reds4", 1)[0].gt_files[1:-1]
    for file in hidden:
        file.write_bytes(b"")
    [first, *_] = viewer.viewers(ScoreBook(paths))
    assert hidden and first.frames == ["00000000", f"{made.FRAMES - 1:08d}"]


def test_the_moving_row_and_the_detailed_box_are_found() -> None:
    video = np.full((4, 40, 60, 3), 100, np.uint8)
    for t in range(4):
        video[t, 25:28, 10 + 5 * t : 14 + 5 * t] = 255
    assert 24 <= moving_row(video) <= 28
    frame = np.full((64, 96, 3), 50, np.uint8)
    frame[40:56, 70:86] = np.random.default_rng(0).integers(0, 255, (16, 16, 3))
    top, left, height, width = detailed_box(frame, 32)
    assert top <= 40 and top + height >= 56 and left <= 70 and left + width >= 86


def test_frames_of_another_size_are_not_shown(tmp_path: Path) -> None:
    paths = made.write_all(tmp_path)
    own = paths.study.methods["stablevsr"]
    clip = find_clips(paths, "reds4", 1)[0]
    assert clip.output(own) is not None
    for path in (paths.frames("reds4", own.digest, 0) / clip.name).iterdir():
        Image.new("RGB", (16, 16)).save(path)
    assert clip.output(own) is None


def test_notes_become_html_and_nothing_else() -> None:
    table = "| paper | code |\n|---|---|\n| `lr 1e-5` | **5e-5** <i> |\n"
    html = str(to_html(f"# Ledger\n\n<!-- a mark -->\n\n{table}\n- one\n  more\n- two\n\n```\na < b\n```\n"))
    assert "<h3>Ledger</h3>" in html and "mark" not in html
    assert '<div class="scroll" tabindex="0"><table class="stack">' in html and '<th scope="col">paper</th>' in html
    assert "<td><code>lr 1e-5</code></td>\n<td><strong>5e-5</strong> &lt;i&gt;</td>" in html
    assert "<li>one\nmore</li>\n<li>two</li>" in html
    assert "<pre><code>a &lt; b\n</code></pre>" in html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a [b](https://x.org/y) c", 'a <a href="https://x.org/y">b</a> c'),
        ("[b](docs/data.md) [**c**](https://x.org)", 'b <a href="https://x.org"><strong>c</strong></a>'),
        ('[b](https://x"onclick=y)', '<a href="https://x%22onclick=y">b</a>'),
        ("![b](https://x.org/y.png)", '!<a href="https://x.org/y.png">b</a>'),
        (r"2 \* 3 \_x", "2 * 3 _x"),
        ("`**a**` & *b*", "<code>**a**</code> &amp; <em>b</em>"),
    ],
)
def test_links_and_emphasis_in_notes(text: str, html: str) -> None:
    assert str(to_html(text)) == f"<p>{html}</p>\n"


def test_a_note_cannot_bring_markup_or_scripts() -> None:
    html = str(to_html("<table><script>alert(1)</script>\n\n[b](javascript:alert)\n"))
    assert "<script" not in html and "<table" not in html and "href" not in html


def test_deviations_and_cards_are_shown_if_they_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = made.write_all(tmp_path)
    assert 'id="deviations"' not in page.html(paths)
    for file, text in (
        ("docs/deviations.md", "| a | b |\n|-|-|\n| learning rate | x |\n"),
        ("data/CARD.md", "# Clips\n"),
    ):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).write_text(text)
    html = page.html(paths)
    assert "<td>learning rate</td>" in html and "<h3>Clips</h3>" in html


def test_provenance_ties_cells_to_files(paths: made.Paths) -> None:
    content = json.loads(provenance.write(paths).read_text())
    assert content["cells"]["table1"]["reds4"] == ["bicubic", "sampling.single_frame", "stablevsr"]
    own = content["methods"]["stablevsr"]
    assert own["scores"]["reds4"]["file"] == str(paths.table("reds4", "stablevsr"))
    assert re.fullmatch("[0-9a-f]{64}", own["scores"]["reds4"]["sha256"])
    run = paths.study.trainings()[own["settings"]["training"]]
    assert own["checkpoint"] == str(paths.training(run))
    second = own["runs"]["reds4"]["1"]
    assert len(second["manifests"]) == 2 and second["checkpoint"] != own["checkpoint"]
    assert content["runs"]["1"] == {"sampling_seed": 1, "training_seed": 1}
    assert content["versions"]["numpy"] == np.__version__ and content["machine"].endswith(" cores")


def test_provenance_without_git_or_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.git_state() == {"commit": None, "clean": None}
    paths = made.make_paths(tmp_path, made.make(tmp_path))
    content = json.loads(provenance.write(paths).read_text())
    assert content["methods"]["stablevsr"]["scores"]["reds4"]["sha256"] is None
