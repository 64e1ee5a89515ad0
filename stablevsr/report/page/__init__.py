"""The page of a study: one HTML file that includes style, script, figures and frames, and needs no network.

Jinja2 fills ``templates/page.html`` with escaping on, so labels from study files stay text.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from markupsafe import Markup

from stablevsr.report import answers, provenance
from stablevsr.report.calibration import calibrate
from stablevsr.report.calibration import summary as calibration_summary
from stablevsr.report.claims import check
from stablevsr.report.cost_table import cost_rows
from stablevsr.report.findings import findings
from stablevsr.report.inference_cost import cost
from stablevsr.report.page.captions import load_figures
from stablevsr.report.page.gaps import missing
from stablevsr.report.page.markdown import to_html
from stablevsr.report.page.questions import questions
from stablevsr.report.page.viewer import validation_picture, viewers
from stablevsr.report.scores import ScoreBook
from stablevsr.report.tables.build import build_tables
from stablevsr.report.tables.formats import NOTES
from stablevsr.report.tables.reproduction import REPRODUCTION_NOTE, by_dataset, reproductions
from stablevsr.report.tables.reproduction import summary as reproduction_summary
from stablevsr.report.text import ARROWS, HTML, format_cost
from stablevsr.report.training_history import histories
from stablevsr.runtime.io import write_text
from stablevsr.study.methods import REFERENCE
from stablevsr.study.paths import Paths


def render(paths: Paths) -> Path:
    """Write ``results/<study>/report.html`` and return it.

    Figures are taken from ``results/<study>/figures`` (draw them first); what is missing is listed on the page.
    """
    file = paths.results / "report.html"
    write_text(file, html(paths))
    return file


def html(paths: Paths) -> str:
    """The page as text."""
    book = ScoreBook(paths)
    results = check(book)
    figures = load_figures(paths)
    clips = viewers(book)
    tables = build_tables(book)
    asked = questions(paths.study, results, tables)
    of_paper = [question for question in asked if not question.beyond_paper]
    trainings = histories(paths)
    return HTML.get_template("page.html").render(
        spec=paths.study.spec,
        reference=REFERENCE,
        viewers=[vars(viewer) for viewer in clips],
        findings=findings(book, results),
        summary=answers.summary([r for question in of_paper for r in (*question.tested, *question.untested)]),
        warnings=[sentence for history in trainings for sentence in history.warnings()],
        calibration=(calibrated := calibrate(book)),
        calibrated=calibration_summary(calibrated),
        reproduction=by_dataset(cells := reproductions(book)),
        reproduced=reproduction_summary(cells),
        reproduction_note=REPRODUCTION_NOTE,
        missing=missing(book, clips, drawn=bool(figures)),
        table1=tables["table1"],
        arrows=ARROWS,
        **NOTES,
        seconds=_seconds(book),
        costs=cost_rows(book),
        format_cost=format_cost,
        of_paper=of_paper,
        beyond_paper=[question for question in asked if question.beyond_paper],
        figures=figures,
        trainings=[(history, validation_picture(history.picture)) for history in trainings],
        deviations=_notes([paths.results_root.parent / "docs" / "deviations.md"]),
        cards=_notes(spec.root.parent / "CARD.md" for spec in paths.study.spec.datasets.values()),
        provenance=provenance.collect(paths),
    )


def _seconds(book: ScoreBook) -> dict[str, dict[str, float]]:
    """Seconds a frame by dataset and method; not in the tables' files, because timings differ from run to run."""
    seconds: dict[str, dict[str, float]] = {dataset: {} for dataset in book.study.spec.datasets}
    for method in book.study.methods.values():
        for dataset in method.datasets:
            if spent := cost(book, dataset, method):
                seconds[dataset][method.name] = spent.per_frame
    return seconds


def _notes(files: Iterable[Path]) -> list[Markup]:
    """The notes that exist, as HTML, each file once."""
    return [to_html(file.read_text(encoding="utf-8")) for file in dict.fromkeys(files) if file.exists()]
