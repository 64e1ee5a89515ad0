"""The figures: all are drawn for a complete study, none where results are missing, and a method has one look."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import report_study as made
from PIL import Image

from stablevsr.report import figures
from stablevsr.report.clip_frames import find_clips
from stablevsr.report.figures.crops_and_profiles import cuts, profile
from stablevsr.report.figures.guidance import dis_flow, flow_picture, warped
from stablevsr.report.figures.style import legend, looks
from stablevsr.report.figures.tradeoffs import _plain_log, lines
from stablevsr.report.inference_cost import cost
from stablevsr.report.scores import ScoreBook
from stablevsr.report.text import format_cost
from stablevsr.report.training_history import histories
from stablevsr.study.methods import ResolvedStudy
from stablevsr.study.resolve import load_study

ALL = {
    "perception_distortion", "per_frame_curves_reds4", "temporal_profile_reds4", "crops_reds4", "ablation_sampling",
    "guidance_reds4", "training_curves", "cost", "quality_over_seconds", "quality_over_steps", "ablation_steps",
}  # fmt: skip


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> made.Paths:
    return made.write_all(tmp_path_factory.mktemp("study"), steps=made.STEPS)


def test_all_figures_are_drawn_as_png_and_pdf_and_the_same_twice(paths: made.Paths) -> None:
    files = figures.render(paths)
    assert {file.name for file in files} == {f"{name}.{kind}" for name in ALL for kind in ("png", "pdf")}
    first = {file: file.read_bytes() for file in files}
    for file in files:
        if file.suffix == ".png":
            levels = np.asarray(Image.open(file).convert("L"))
            assert levels.std() > 5, f"{file.name} is blank"
    (paths.results / "figures" / "old.png").write_bytes(b"of an earlier run")
    figures.render(paths)
    assert {file: file.read_bytes() for file in files} == first
    assert not (paths.results / "figures" / "old.png").exists()


def test_a_study_without_results_has_no_figures(tmp_path: Path) -> None:
    paths = made.make_paths(tmp_path, made.make(tmp_path))
    assert figures.render(paths) == []


def test_scores_without_frames_and_frames_without_scores(tmp_path: Path) -> None:
    scored = made.make_paths(tmp_path / "a", made.make(tmp_path / "a"))
    for method in scored.study.methods.values():
        made.write_scores(scored, method)
    drawn = {file.stem for file in figures.render(scored)}
    assert drawn == {"perception_distortion", "per_frame_curves_reds4"}
    framed = made.make_paths(tmp_path / "b", made.make(tmp_path / "b"))
    made.write_frames(framed)
    drawn = {file.stem for file in figures.render(framed)}
    assert drawn == {"temporal_profile_reds4", "crops_reds4", "ablation_sampling", "guidance_reds4", "cost"}


def test_a_method_looks_the_same_under_all_its_names(paths: made.Paths) -> None:
    style, methods = looks(ScoreBook(paths)), paths.study.methods
    assert style[methods["stablevsr"].digest] is style[methods["sampling.bidirectional"].digest]
    assert len({tuple(look.values()) for look in style.values()}) == len(style)


def test_seconds_and_memory_come_from_the_manifests(paths: made.Paths) -> None:
    book = ScoreBook(paths)
    found = cost(book, "reds4", paths.study.methods["stablevsr"])
    assert found is not None
    assert found.frames == 2 * 3 * made.FRAMES  # two runs, three clips in two shards
    assert found.per_frame == pytest.approx(2.0)
    assert found.stages == {"UNet": pytest.approx(found.seconds / 2)}
    assert found.memory == 2 * 2**30
    given = replace(paths.study.methods["stablevsr"], kind="frames", forms={})
    assert cost(book, "reds4", given) is None  # what copying took is not the method's cost


@pytest.mark.parametrize("amount,text", [(0.00394, "0.0039"), (1.0, "1.0"), (1.74, "1.7"), (123.4, "123")])
def test_amounts_are_never_written_in_powers_of_ten(amount: float, text: str) -> None:
    assert format_cost(amount) == text


def test_each_solver_has_its_line_over_steps(paths: made.Paths) -> None:
    found = {line.label: [m.name for m in line.methods] for line in lines(ScoreBook(paths))}
    # fewest steps first; single-frame has no relative with other steps
    assert found == {"StableVSR, DDPM": ["steps.two", "stablevsr"], "StableVSR, DDIM": ["steps.ddim"]}


def test_the_studies_of_this_repository_have_lines_of_steps_and_no_two_methods_alike() -> None:
    root = Path(__file__).parents[2]
    faster, paper = (load_study(name, root) for name in ("faster", "paper"))
    steps = {line.label: [m.sampling.steps for m in line.methods if m.sampling] for line in lines(book_of(faster))}
    assert steps["StableVSR, DDPM"] == [3, 6, 50] and steps["StableVSR, UniPC"] == [3]
    steps = {line.label: [m.sampling.steps for m in line.methods if m.sampling] for line in lines(book_of(paper))}
    assert steps["StableVSR, DDPM"] == [5, 10, 20, 50, 100]
    assert steps["StableVSR, DDIM"] == [10, 50] and steps["StableVSR, UniPC"] == [10]
    for study in (load_study("mini", root), faster, paper):
        style = looks(book_of(study))
        assert len({tuple(look.values()) for look in style.values()}) == len(style)


def book_of(study: ResolvedStudy) -> ScoreBook:
    return ScoreBook(made.make_paths(Path(), study))


def test_no_label_of_an_axis_is_left_as_mathematics(paths: made.Paths, tmp_path: Path) -> None:
    figure, axis = plt.subplots()
    for low, high in ((0.5, 0.9), (0.03, 40.0)):  # within a decade only minor ticks have labels
        axis.set_xlim(low, high)
        _plain_log(axis)
        figure.canvas.draw()
        texts = [t.get_text() for t in axis.get_xticklabels(which="both")]
        assert any(texts) and not any("$" in text for text in texts)
    plt.close(figure)


def test_a_legend_keeps_within_its_figure(tmp_path: Path) -> None:
    figure, axis = plt.subplots(figsize=(3, 2), layout="constrained")
    for number in range(4):
        axis.plot([0, 1], label=f"A method with a rather long label, the {number}th")
    legend(figure, [axis])
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and figure.get_size_inches()[1] > 2
    plt.close(figure)


def test_finetunings_have_curves_and_datasets_of_one_ablation_no_figures(tmp_path: Path) -> None:
    spec = made.with_model_per_dataset()
    spec["datasets"]["reds4_short"] = spec["datasets"]["reds4"] | {"frames": 5, "used_by": []}
    paths = made.write_all(tmp_path, spec)
    drawn = {file.stem for file in figures.render(paths)}
    assert {"finetuning_curves", "training_curves", "crops_vimeo", "per_frame_curves_vimeo"} <= drawn
    assert not any("short" in name for name in drawn)


def test_a_small_decoder_has_curves_and_a_title(tmp_path: Path) -> None:
    spec = made.SPEC | {"distillation": {"steps": 100}}
    small = {"label": "Small decoder", "sampling": {"guidance_decoder": "small"}}
    ablation = {"title": "Decoder", "question": "Is it enough?", "variants": {"small": small}}
    paths = made.write_all(tmp_path, spec, cheaper=ablation)
    decoder, again = histories(paths)[-2:]
    assert again.title == "distilled from tiny, seed 1"
    assert (decoder.kind.noun, decoder.title, decoder.users) == (
        "small decoder", "distilled from tiny", ["cheaper.small"],
    )  # fmt: skip
    assert decoder.validated == "PSNR to the VAE, dB: low noise 0.9, high noise 0.9"
    assert "distillation_curves" in {file.stem for file in figures.render(paths)}


def test_every_training_has_a_different_title(tmp_path: Path) -> None:
    paths = made.make_paths(tmp_path, made.make(tmp_path, made.with_model_per_dataset()))
    assert {(h.kind.noun, h.title) for h in histories(paths)} == {
        (noun, title + seed)
        for seed in ("", ", seed 1")
        for noun, title in (
            ("UNet", "vimeo_unet: tiny on Septuplets"),
            ("TCM", "past or future frame"),
            ("TCM", "past or future frame, from vimeo_unet, on Septuplets"),
        )
    }
    paper = load_study("paper", Path(__file__).parents[2])
    titles = [h.title for h in histories(made.make_paths(tmp_path, paper))]
    assert len(set(titles)) == len(titles)


def test_what_is_shown_of_a_clip_does_not_hold_its_frames(paths: made.Paths) -> None:
    """An array that is a view of a video keeps all of it in memory: gigabytes in the paper study."""
    clip = find_clips(paths, "reds4", 1)[0]
    made_of = cuts(clip, [paths.study.methods["stablevsr"]])
    assert made_of is not None and made_of.methods == ["StableVSR"]
    for array in (made_of.middle, *made_of.crops.values(), *made_of.profiles.values()):
        assert array.base is None or array.base.size <= array.size


def test_the_middle_of_a_clip(paths: made.Paths) -> None:
    clip = find_clips(paths, "reds4", 1)[0]
    names = [file.stem for file in clip.gt_files]
    assert [file.stem for file in clip.middle(2).gt_files] == names[len(names) // 2 - 1 : len(names) // 2 + 1]
    assert replace(clip, gt_files=clip.gt_files[:1]).middle(2).gt_files == clip.gt_files[:1]


def test_a_profile_shows_time_downwards() -> None:
    video = np.zeros((4, 6, 5, 3), np.uint8)
    video[:, 2] = np.arange(4)[:, None, None] * 10
    shown = profile(video, 2)
    assert shown.shape == (48, 5, 3)
    assert shown[0, 0, 0] == 0 and shown[-1, 0, 0] == 30 and shown[12, 0, 0] == 10


def test_a_frame_warped_along_the_flow_resembles_the_next() -> None:
    texture = np.kron(np.random.default_rng(1).integers(0, 255, (16, 20, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    before, after = texture[:, :64], texture[:, 2:66]  # the content moves two pixels to the left
    flow = dis_flow(after, before)
    assert np.median(flow[16:48, 16:48, 0]) == pytest.approx(2.0, abs=0.2)
    error = np.abs(warped(before, flow)[16:48, 16:48].astype(int) - after[16:48, 16:48]).mean()
    assert error < 0.5 * np.abs(before[16:48, 16:48].astype(int) - after[16:48, 16:48]).mean()


def test_no_motion_is_white_and_directions_differ() -> None:
    flow = np.zeros((1, 3, 2), np.float32)
    flow[0, 1] = (2, 0)
    flow[0, 2] = (-2, 0)
    still, right, left = flow_picture(flow, 2.0)[0]
    assert still.tolist() == [255, 255, 255]
    assert right.tolist() == [255, 0, 0] and left.tolist() == [0, 255, 255]
