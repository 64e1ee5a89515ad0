"""Tables as text: CSV for programs, Markdown for a repository, LaTeX (booktabs) for a paper.

Labels come from other people's files, so each format escapes them. No time stamps: the same scores give the same bytes.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence

from stablevsr.report.scores import format_value
from stablevsr.report.tables.tabular import ARROWS, Block, Cell, Row, Table

INTERVAL_NOTE = (
    "Means over frames, then clips, then seeds; in brackets 95 % bootstrap intervals over windows of four frames, "
    "clips and seeds."
)
RANK_NOTE = "Best in bold, second underlined, among the rows with values."
PUBLISHED_NOTE = (
    "'paper' is the published value, second hand where results/published says so; in parentheses reproduced minus "
    "published."
)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV with a header line; fields are quoted only where they must be, lines end in a line feed."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def table_csv(table: Table) -> str:
    """One line a dataset and method: shown values, bounds, published values, differences, counts."""
    header = ["dataset", "name", "label"]
    for metric in table.metrics:
        header += [metric.name, f"{metric.name}_low", f"{metric.name}_high"]
        if table.has_published:
            header += [f"{metric.name}_published", f"{metric.name}_difference"]
    return csv_text([*header, "frames", "clips", "seeds", "empty_because"], _csv_rows(table))


def _csv_rows(table: Table) -> Iterable[list[object]]:
    for block in table.blocks:
        for row in block.rows:
            values: list[object] = []
            for cell in row.cells:
                name = cell.metric.name
                values += [cell.text, format_value(name, cell.low), format_value(name, cell.high)]
                if table.has_published:
                    values += [cell.published_text, cell.difference]
            reasons = "; ".join(f"{cell.metric.name}: {cell.reason}" for cell in row.cells if cell.reason)
            yield [block.dataset, row.name, row.label, *values, row.frames, row.clips, row.seeds, reasons]


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, also inside a table; an underscore or bracket is left alone where harmless."""
    one_line = " ".join(text.split())
    escaped = re.sub(r"[\\`*|<~$]|&(?=[#\w])|(?<!\w)_|_(?!\w)", lambda match: f"\\{match[0]}", one_line)
    return escaped.replace("](", "]\\(")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A pipe table; the cells are Markdown already."""
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    return "".join(f"| {line} |\n" for line in [*lines, *(" | ".join(row) for row in rows)])


def table_markdown(table: Table) -> str:
    """The table for people: one part a dataset, then the footnotes and what the metrics mean."""
    notes = table.footnotes()
    parts = [f"# {escape_markdown(table.title)}\n"]
    if table.question:
        parts.append(f"{escape_markdown(table.question)}\n")
    header = ["Method", *(f"{m.label} {ARROWS[m.direction]}".strip() for m in table.metrics), "n"]
    for block in table.blocks:
        rows = [_markdown_row(row, notes) for row in block.rows]
        parts.append(f"## {escape_markdown(block.title)}\n\n{markdown_table(header, rows)}")
        parts += [f"{escape_markdown(note)}\n" for note in block.notes]
    parts += [f"{INTERVAL_NOTE} {RANK_NOTE} n: frames x clips x seeds as counted, not multiplied.\n"]
    if table.has_published:
        parts.append(f"{PUBLISHED_NOTE}\n")
    parts.append("".join(f"[{i}] {escape_markdown(note)}\n\n" for i, note in enumerate(notes, 1)).rstrip("\n") + "\n")
    parts.append("".join(f"- **{m.label}**: {escape_markdown(m.convention)}\n" for m in table.metrics))
    return "\n".join(part for part in parts if part.strip())


def _markdown_row(row: Row, notes: list[str]) -> list[str]:
    cells = [_markdown_cell(cell, notes) for cell in row.cells]
    return [escape_markdown(row.label), *cells, counts_text(row)]


def counts_text(row: Row) -> str:
    """How many frames, clips and seeds a row rests on."""
    return counted(frame=row.frames, clip=row.clips, seed=row.seeds) if row.frames else ""


def counted(**numbers: int) -> str:
    """Numbers with their nouns: ``counted(frame=8, seed=1)`` is '8 frames, 1 seed'."""
    return ", ".join(f"{number} {noun}{'' if number == 1 else 's'}" for noun, number in numbers.items())


def _markdown_cell(cell: Cell, notes: list[str]) -> str:
    shown = f"– [{notes.index(cell.reason) + 1}]" if cell.reason else cell.text
    if cell.rank == 1:
        shown = f"**{shown}**"
    elif cell.rank == 2:
        shown = f"<u>{shown}</u>"
    published = f"paper {cell.published_text}" if cell.published else ""
    difference = f"({cell.difference})" if cell.difference else ""
    return " ".join(part for part in (shown, cell.interval, published, difference) if part)


_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "→": r"$\rightarrow$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "∞": r"$\infty$",
    "–": "--",
}
_TEX_ACCENTS = {"\u0302": "hat", "\u0303": "tilde", "\u0304": "bar"}


def escape_tex(text: str) -> str:
    """Text that LaTeX sets as it is; accents that pdflatex does not know become mathematics (x with a hat)."""
    out: list[str] = []
    for char in unicodedata.normalize("NFC", " ".join(text.split())):
        if char in _TEX_ACCENTS and out:
            out.append(f"$\\{_TEX_ACCENTS[char]}{{{out.pop()}}}$")
        elif not unicodedata.category(char).startswith("C"):
            out.append(_TEX.get(char, char))
    return "".join(out)


def table_tex(table: Table) -> str:
    """The table for a paper; it needs the package booktabs and nothing else."""
    notes = table.footnotes()
    columns = len(table.metrics) + 1
    arrows = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", "none": ""}
    head = " & ".join(["Method", *(escape_tex(m.label) + arrows[m.direction] for m in table.metrics)])
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        f"\\caption{{{escape_tex(table.title)}. {escape_tex(f'{INTERVAL_NOTE} {RANK_NOTE}')}}}",
        f"\\label{{tab:{re.sub('[^A-Za-z0-9]+', '-', table.name)}}}",
        f"\\begin{{tabular}}{{l{'c' * len(table.metrics)}}}",
        r"\toprule",
        head + r" \\",
    ]
    for block in table.blocks:
        lines += [r"\midrule", f"\\multicolumn{{{columns}}}{{l}}{{\\emph{{{escape_tex(block.title)}}}}} \\\\"]
        lines += _tex_rows(block, notes)
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [f"\\par\\footnotesize $^{{{i}}}$ {escape_tex(note)}" for i, note in enumerate(notes, 1)]
    plain = [f"{block.title}: {note}" for block in table.blocks for note in block.notes]
    plain += [PUBLISHED_NOTE] if table.has_published else []
    lines += [f"\\par\\footnotesize {escape_tex(note)}" for note in plain]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _tex_rows(block: Block, notes: list[str]) -> list[str]:
    return [
        " & ".join([escape_tex(row.label), *(_tex_cell(c, notes) for c in row.cells)]) + r" \\" for row in block.rows
    ]


def _tex_cell(cell: Cell, notes: list[str]) -> str:
    if cell.reason:
        shown = f"--$^{{{notes.index(cell.reason) + 1}}}$"
    else:
        shown = escape_tex(cell.text.replace("inf", "∞"))
        shown = {1: f"\\textbf{{{shown}}}", 2: f"\\underline{{{shown}}}"}.get(cell.rank, shown)
    below = [f"{{\\tiny {text}}}" for text in (cell.interval, _tex_published(cell)) if text]
    return f"\\shortstack{{{' '.join([shown, *(chr(92) * 2 + b for b in below)])}}}" if below else shown


def _tex_published(cell: Cell) -> str:
    if not cell.published:
        return ""
    return f"paper {cell.published_text}" + (f" ({cell.difference})" if cell.difference else "")
