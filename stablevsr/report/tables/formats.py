"""Tables as text: CSV for programs, Markdown for a repository, LaTeX (booktabs) for a paper.

Each format escapes labels and titles, which come from study files. The same scores give the same bytes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import pandas as pd

from stablevsr.report.claims import ClaimResult
from stablevsr.report.tables.build import Cell, Table
from stablevsr.report.text import PLAIN, csv_text, metric_head

#: Below tables, in every format.
NOTES = {
    "deviation_note": "Mean ± standard deviation over scenes; the value of a scene is the mean over its frames, "
    "clips and runs.",
    "rank_note": "Best in bold, second underlined, among the rows with values.",
    "published_note": "'paper' is the published value, second hand where results/published says so; in parentheses "
    "reproduced minus published.",
}


def table_csv(table: Table) -> str:
    """One line a dataset and method: shown means, standard deviations, published values, differences, counts.

    The columns are those of all the study's metrics, for programs; the other formats leave out what was not measured.
    """
    suffixes = ["", "_sd", *(["_published", "_difference"] if table.has_published else [])]
    columns = [metric.name + suffix for metric in table.metrics for suffix in suffixes]
    header = ["dataset", "name", "label", *columns, "frames", "scenes", "runs", "protocol", "empty_because"]
    rows = []
    for block in table.blocks:
        for row in block.rows:
            texts = ((c.text, c.shown(c.deviation), c.published_text, c.difference) for c in row.cells)
            values = [text for cell in texts for text in cell[: len(suffixes)]]
            reasons = "; ".join(f"{cell.metric.name}: {cell.reason}" for cell in row.cells if cell.reason)
            counts = [row.frames, row.scenes, row.runs]
            protocol = block.protocol if row.frames else ""  # a row with published values alone has none
            rows.append([block.dataset, row.name, row.label, *values, *counts, protocol, reasons])
    return csv_text(pd.DataFrame(rows, columns=header))


def claims_csv(claims: Iterable[ClaimResult]) -> str:
    """One line a statement; numbers are unrounded, empty where there is none.

    ``better`` and ``than`` hold the two methods also where a statement says that they are the same; such a statement
    has no ``p_adjusted``.
    """
    header = [
        "question", "dataset", "metric", "better", "than", "mean", "low", "high", "p", "p_adjusted", "n_scenes",
        "n_runs", "same_sign", "sharpness_ratio", "verdict", "reason",
    ]  # fmt: skip
    return csv_text(pd.DataFrame(map(_claim_row, claims), columns=header))


def _claim_row(claim: ClaimResult) -> list[object]:
    s, c = claim.statement, claim.comparison
    numbers = [*claim.numbers, claim.p, claim.p_adjusted] if claim.numbers else [None] * 5
    counts = [str(c.n_scenes), str(c.n_runs), str(c.same_sign)] if c else [""] * 3
    return [
        s.question, s.dataset, s.metric, s.better.name, s.than.name, *numbers, *counts, claim.sharpness_ratio,
        claim.verdict, claim.reason,
    ]  # fmt: skip


def table_text(table: Table, suffix: str) -> str:
    """The table in Markdown (``md``) or LaTeX (``tex``), which needs only the package booktabs."""
    label = re.sub("[^A-Za-z0-9]+", "-", table.name)
    template = PLAIN.get_template(f"table.{suffix}")
    return template.render(table=table, label=label, footnotes=table.footnotes(), **NOTES)


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, also inside a table; underscores and brackets are escaped only if needed."""
    one_line = " ".join(text.split())
    escaped = re.sub(r"[\\`*|<~$]|&(?=[#\w])|(?<!\w)_|_(?!\w)", lambda match: f"\\{match[0]}", one_line)
    return escaped.replace("](", "]\\(")


def _markdown_cell(cell: Cell, footnotes: list[str]) -> str:
    shown = f"– [{footnotes.index(cell.reason) + 1}]" if cell.reason else cell.text
    shown = {1: f"**{shown}**", 2: f"<u>{shown}</u>"}.get(cell.rank, shown)
    return " ".join(part for part in (shown, cell.deviation_text, cell.paper) if part)


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_"}, "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "→": r"$\rightarrow$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "×": r"$\times$", "≤": r"$\leq$",
    "≥": r"$\geq$", "±": r"$\pm$", "∞": r"$\infty$", "–": "--",
}  # fmt: skip
_TEX_ACCENTS = {"\u0302": "hat", "\u0303": "tilde", "\u0304": "bar"}


def escape_tex(text: str) -> str:
    """Text that LaTeX prints as it is; accents that pdflatex does not know become mathematics (x with a hat)."""
    out: list[str] = []
    for char in unicodedata.normalize("NFC", " ".join(text.split())):
        if char in _TEX_ACCENTS and out:
            out.append(f"$\\{_TEX_ACCENTS[char]}{{{out.pop()}}}$")
        elif not unicodedata.category(char).startswith("C"):
            out.append(_TEX.get(char, char))
    return "".join(out)


def _tex_cell(cell: Cell, footnotes: list[str]) -> str:
    if cell.reason:  # without a footnote where the whole block lacks the metric: a note on the table says why
        shown = f"--$^{{{footnotes.index(cell.reason) + 1}}}$" if cell.reason in footnotes else "--"
    else:
        shown = escape_tex(cell.text.replace("inf", "∞"))
        shown = {1: f"\\textbf{{{shown}}}", 2: f"\\underline{{{shown}}}"}.get(cell.rank, shown)
    below = [f"\\\\{{\\tiny {escape_tex(text)}}}" for text in (cell.deviation_text, cell.paper) if text]
    return f"\\shortstack{{{' '.join([shown, *below])}}}" if below else shown


PLAIN.filters |= {
    "markdown": escape_markdown, "markdown_cell": _markdown_cell, "tex": escape_tex, "tex_cell": _tex_cell,
    "head": metric_head,
}  # fmt: skip
