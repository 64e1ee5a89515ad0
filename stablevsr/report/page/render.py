"""The page of a study: one HTML file with everything in it, which opens from a disk and needs no network.

The text is filled into ``templates/page.html`` by Jinja2 with escaping on, so labels from study files stay text. Style,
script, figures and frames are put into the file itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from stablevsr.metrics.registry import METRICS
from stablevsr.report import claims, provenance
from stablevsr.report.costs import amount_text, cost
from stablevsr.report.history import histories
from stablevsr.report.page import answers, strips
from stablevsr.report.page.captions import load_figures
from stablevsr.report.page.markdown import to_html
from stablevsr.report.published import published_rows
from stablevsr.report.scores import ScoreBook
from stablevsr.report.tables import markup
from stablevsr.report.tables.tabular import ARROWS, build_tables
from stablevsr.runtime.io import write_text
from stablevsr.study.methods import ResolvedStudy
from stablevsr.study.paths import Paths

TEMPLATES = Path(__file__).parent / "templates"
CHANGES = ("guidance", "sampling", "training", "model", "checkpoint", "frames")
BADGES = {"holds": "✓", "does not hold": "✗", "undecided": "?", "cannot be checked": "–"}


def render(study: ResolvedStudy, paths: Paths) -> Path:
    """Write ``results/<study>/report.html`` and return it.

    Figures are taken from ``results/<study>/figures`` (draw them first); what is missing is listed on the page.
    """
    file = paths.results / "report.html"
    write_text(file, html(study, paths))
    return file


def html(study: ResolvedStudy, paths: Paths) -> str:
    """The page as text."""
    book = ScoreBook(study, paths)
    results = claims.check_with(book)
    figures = load_figures(study, paths.results / "figures")
    viewers = strips.viewers(book)
    trainings = histories(study, paths)
    tables = build_tables(study, book, published_rows(study, paths.results_root / "published"))
    return _template().render(
        study=study,
        spec=study.spec,
        summary=answers.summary(results),
        counts=answers.counts(results),
        badges=BADGES,
        clips_used=_clips_used(results),
        warnings=[sentence for history in trainings for sentence in history.warnings()],
        missing=missing(book, [figure.kind for figure in figures], [(v.dataset, v.clip) for v in viewers]),
        claims=_grouped(results),
        tables=tables,
        arrows=ARROWS,
        metrics=METRICS,
        notes=[markup.INTERVAL_NOTE, markup.RANK_NOTE],
        published_note=markup.PUBLISHED_NOTE,
        counts_text=markup.counts_text,
        seconds=_seconds(book),
        amount_text=amount_text,
        figures=figures,
        viewers=viewers,
        viewer_data=_json([vars(viewer) for viewer in viewers]),
        ablations=_ablations(study, results),
        trainings=trainings,
        strips={history.digest: strips.validation_strip(history.strip) for history in trainings if history.strip},
        deviations=_note(paths.results_root.parent / "docs" / "deviations.md"),
        cards=_cards(study),
        provenance=provenance.collect(study, paths),
        css=Markup((TEMPLATES / "page.css").read_text()),
        script=Markup((TEMPLATES / "page.js").read_text()),
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def _grouped(results: list[claims.ClaimResult]) -> list[dict[str, Any]]:
    """Claims as the page lists them: a claim against every other method is one entry with its comparisons inside."""
    groups: dict[tuple[str, str], list[claims.ClaimResult]] = {}
    for result in results:
        groups.setdefault((result.group, result.dataset), []).append(result)
    return [
        {"results": members, "verdict": claims.overall(members), "best_of_all": members[0].best_of_all}
        for members in groups.values()
    ]


def _clips_used(results: list[claims.ClaimResult]) -> dict[str, tuple[tuple[str, ...], str]]:
    """The clips that the claims of each dataset usually rest on, and what was left out: said once, not in every row."""
    found: dict[str, tuple[tuple[str, ...], str]] = {}
    for result in results:
        if result.clips:
            found.setdefault(result.dataset_title, (result.clips, result.focus_note))
    return found


def _seconds(book: ScoreBook) -> dict[str, dict[str, float]]:
    """Seconds a frame by dataset and method; on the page only, as they differ from run to run, unlike the tables."""
    found: dict[str, dict[str, float]] = {dataset: {} for dataset in book.study.spec.datasets}
    for method in book.study.methods.values():
        for dataset in method.datasets:
            spent = cost(book, dataset, method)
            if spent:
                found[dataset][method.name] = spent.per_frame
    return found


def _ablations(study: ResolvedStudy, results: list[claims.ClaimResult]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "spec": ablation,
            "answer": answers.answer([r for r in results if r.ablation == name]),
            "differences": {key: _differs(variant) for key, variant in ablation.variants.items()},
        }
        for name, ablation in study.ablations.items()
    ]


def _differs(variant: Any) -> str:
    """What a variant changes, as in its file."""
    parts = variant.model_dump(mode="json", include=set(CHANGES))
    given = {key: value for key, value in parts.items() if value}
    return json.dumps(given, ensure_ascii=False) if given else "nothing: the study's own settings"


def missing(book: ScoreBook, kinds: list[str], clips: list[tuple[str, str]]) -> list[str]:
    """Everything that the page cannot show, as sentences."""
    found = book.missing()
    for dataset in book.study.main_datasets():
        if not any(name == dataset for name, _ in clips):
            found.append(f"frames of {dataset}: no clip with ground truth and a method's frames was found")
    if not kinds:
        found.append("figures: none were drawn (run the figures part of the report first)")
    return found


def _note(file: Path) -> Markup | None:
    return to_html(file.read_text()) if file.exists() else None


def _cards(study: ResolvedStudy) -> list[Markup]:
    """The dataset cards beside the datasets' roots, each once."""
    files = dict.fromkeys(spec.root.parent / "CARD.md" for spec in study.spec.datasets.values())
    return [to_html(file.read_text()) for file in files if file.exists()]


def _json(content: Any) -> Markup:
    """JSON that is safe inside a script element: no text in it can end the element."""
    text = json.dumps(content, ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
