"""The page in a real browser: sorting, slider, scrubber, keyboard, every width and scheme, no errors, no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import pytest
import report_study as made

from stablevsr.report import figures, page, tables

pytestmark = pytest.mark.system

HOSTILE = "</script><script>console.error('escaped')</script><img src=x onerror=console.error(1)>"
TABLE = "#table-table1-reds4"
PSNR, TOF = 2, 3  # columns, after the method and what a frame of it took


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the made-up study, with a label that tries to break out of it."""
    spec = made.with_model_per_dataset()
    spec["methods"]["bicubic"]["label"] = HOSTILE
    spec["runs"] = 5  # enough for verdicts on its three clips
    paths = made.write_all(tmp_path_factory.mktemp("study"), spec, steps=made.STEPS)
    tables.render(paths)
    figures.render(paths)
    return page.render(paths)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    program = chromium.find()
    if program is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    with chromium.browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def opened(tab: chromium.Page, report: Path) -> chromium.Page:
    tab.size(1280, 900)
    tab.open(report)
    return tab


def column(opened: chromium.Page, index: int) -> list[Any]:
    return list(
        opened.run(f"[...document.querySelectorAll('{TABLE} tbody tr')].map(r => r.cells[{index}].dataset.value)")
    )


def test_a_click_sorts_best_first_and_a_second_turns_it_round(opened: chromium.Page) -> None:
    before = column(opened, PSNR)
    opened.run(f"document.querySelectorAll('{TABLE} thead button')[{PSNR}].click()")
    assert column(opened, PSNR) == sorted(before, key=float, reverse=True)  # PSNR: higher is better
    assert opened.run(f"document.querySelectorAll('{TABLE} thead th')[{PSNR}].ariaSort") == "descending"
    opened.run(f"document.querySelectorAll('{TABLE} thead button')[{PSNR}].click()")
    assert column(opened, PSNR) == sorted(before, key=float)
    opened.run(f"document.querySelectorAll('{TABLE} thead button')[{TOF}].click()")
    assert column(opened, TOF) == sorted(column(opened, TOF), key=float)  # tOF: lower is better
    assert opened.run(f"document.querySelectorAll('{TABLE} [aria-sort]').length") == 1


def test_the_keyboard_sorts(opened: chromium.Page) -> None:
    opened.run(f"document.querySelectorAll('{TABLE} thead button')[{PSNR}].focus()")
    opened.press("Enter", 13)
    assert opened.run(f"document.querySelectorAll('{TABLE} thead th')[{PSNR}].ariaSort") == "descending"


def test_empty_cells_stay_at_the_end(opened: chromium.Page) -> None:
    opened.run(f"document.querySelector('{TABLE} tbody tr').cells[{PSNR}].dataset.value = ''")
    for _ in range(2):
        opened.run(f"document.querySelectorAll('{TABLE} thead button')[{PSNR}].click()")
        assert column(opened, PSNR)[-1] == ""


def test_the_line_follows_slider_key_and_mouse(opened: chromium.Page) -> None:
    clip = "document.querySelector('.viewer .layer.right').style.clipPath"
    assert "50%" in opened.run(clip)
    opened.run("document.querySelector('.split').focus()")
    opened.press("ArrowRight", 39)
    assert "51%" in opened.run(clip)
    opened.run("document.querySelector('.stage').scrollIntoView({block: 'center'})")
    box = opened.run(
        "(b => [b.left, b.top, b.width, b.height])(document.querySelector('.stage').getBoundingClientRect())"
    )
    middle = box[1] + box[3] / 2
    opened.drag((box[0] + box[2] * 0.5, middle), (box[0] + box[2] * 0.25, middle))
    assert "25%" in opened.run(clip)


def test_the_scrubber_moves_both_sides_through_time(opened: chromium.Page) -> None:
    moved = "[...document.querySelectorAll('.viewer')[0].querySelectorAll('.layer img')].map(i => i.style.transform)"
    opened.run("document.querySelector('.scrub').focus()")
    for _ in range(2):
        opened.press("ArrowRight", 39)
    assert opened.run(moved) == ["translateY(-25%)"] * 2  # the third of eight frames
    assert opened.run("document.querySelector('.viewer output').textContent") == "00000002"


def test_play_runs_and_stops(opened: chromium.Page) -> None:
    opened.run("document.querySelector('.play').click()")
    assert opened.run("document.querySelector('.play').textContent") == "Pause"
    frame = opened.run("new Promise(r => setTimeout(() => r(document.querySelector('.scrub').value), 1500))")
    opened.run("document.querySelector('.play').click()")
    stopped = opened.run("document.querySelector('.scrub').value")
    later = opened.run("new Promise(r => setTimeout(() => r(document.querySelector('.scrub').value), 500))")
    assert later == stopped and (frame != "0" or stopped != "0")


def test_sides_can_be_chosen(opened: chromium.Page) -> None:
    left, right = (f"document.querySelector('.layer.{side} img')" for side in ("left", "right"))
    chooser = "document.querySelector('.choose-left')"
    opened.run(f"{chooser}.value = 'Ground truth'; {chooser}.dispatchEvent(new Event('change'))")
    assert opened.run(f"{left}.alt") == "Clip 000 by Ground truth"
    assert opened.run(f"{left}.src !== {right}.src")


def test_intervals_are_drawn_on_the_side_that_the_verdict_says(opened: chromium.Page) -> None:
    drawn = opened.run(
        "[...document.querySelectorAll('.claims tr')].filter(row => row.querySelector('.whisker')).map(row => {"
        "  const bar = row.querySelector('.whisker'), style = getComputedStyle(bar, '::before');"
        "  const from = parseFloat(style.left) / bar.clientWidth;"
        "  return [row.cells[1].textContent, row.querySelector('.badge').textContent.slice(2).trim(), from,"
        "          from + parseFloat(style.width) / bar.clientWidth]; })"
    )
    held = [low for _, verdict, low, _ in drawn if verdict == "holds for these clips"]
    assert held and min(held) > 0.5
    lost = [high for statement, _, _, high in drawn if "StableVSR has higher PSNR than </script>" in statement]
    assert lost and max(lost) < 0.5


def test_a_validation_picture_opens_with_a_key(opened: chromium.Page) -> None:
    strip = "document.querySelector('#trainings details img')"
    assert not opened.run(f"{strip}.checkVisibility()")
    opened.run("document.querySelector('#trainings summary').focus()")
    opened.press("Enter", 13)
    assert opened.run(f"{strip}.checkVisibility()")


def test_another_clip_takes_the_place_of_the_first(opened: chromium.Page) -> None:
    assert opened.run("document.querySelectorAll('.viewer').length") == 1
    image, chooser = "document.querySelector('.layer.right img')", "document.querySelector('.choose-clip')"
    before = opened.run(f"{image}.src")
    opened.run("(box => {box.value = 'Ground truth'; box.dispatchEvent(new Event('change'))})"
               "(document.querySelector('.choose-right'))")  # fmt: skip
    opened.run(f"{chooser}.value = '1'; {chooser}.dispatchEvent(new Event('change'))")
    assert opened.run(f"{image}.alt") == "Clip 011 by Ground truth"
    assert opened.run(f"{image}.src") != before


def test_a_phone_shows_the_player_first_and_scrolls_nothing_sideways(tab: chromium.Page, report: Path) -> None:
    tab.size(390, 844)
    tab.open(report)
    assert tab.run("document.querySelector('.stage').getBoundingClientRect().bottom") < 844
    assert tab.run("document.querySelector('#findings').getBoundingClientRect().top") < 1000
    tab.run("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    wide = tab.run(
        "[...document.querySelectorAll('body *')].filter(part => part.scrollWidth > part.clientWidth + 1 &&"
        " ['auto', 'scroll'].includes(getComputedStyle(part).overflowX)).map(part => part.outerHTML.slice(0, 200))"
    )
    assert wide == []
    tab.run(f"document.querySelectorAll('{TABLE} thead button')[{PSNR}].click()")
    assert column(tab, PSNR) == sorted(column(tab, PSNR), key=float, reverse=True)


def test_tables_keep_their_roles_and_the_cells_of_a_phone_their_heads(opened: chromium.Page) -> None:
    row = f"document.querySelector('{TABLE} tbody tr')"
    assert opened.run(f"[...{row}.children].map(cell => cell.getAttribute('role'))")[:2] == ["rowheader", "cell"]
    assert opened.run(f"{row}.cells[{PSNR}].dataset.label") == "PSNR ↑"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_whole_at_every_width_and_scheme(
    tab: chromium.Page, report: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    tab.errors.clear()
    tab.requests.clear()
    tab.size(width, 900, dark)
    tab.open(report)
    tab.run("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    tab.run("document.querySelectorAll('img').forEach(image => { image.loading = 'eager'; })")
    tab.run("Promise.all([...document.images].map(image => image.decode())).then(() => true)")
    assert tab.run("document.images.length") > 10
    assert tab.run("[...document.images].filter(i => !i.naturalWidth || !i.alt).length") == 0
    assert tab.run("document.documentElement.scrollWidth") <= width  # nothing sticks out to the side
    ground = tab.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(level) for level in ground[4:-1].split(",")) < 200) == dark
    tab.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000
    assert tab.errors == []
    assert [url for url in tab.requests if not url.startswith(("file:", "data:"))] == []


def test_a_hostile_label_is_shown_as_text(opened: chromium.Page) -> None:
    assert opened.run(f"document.querySelector('{TABLE} tbody th').dataset.value") == HOSTILE
    assert opened.run("[...document.querySelectorAll('option')].some(o => o.textContent.startsWith('</script>'))")
    assert opened.run("document.querySelectorAll('img[src=x]').length") == 0
    assert not any("escaped" in error for error in opened.errors)
