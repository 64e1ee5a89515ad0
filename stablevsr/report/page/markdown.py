"""A little Markdown, enough for this project's own notes (the deviations ledger, dataset cards), as safe HTML.

Headings, paragraphs, lists, pipe tables, code and emphasis. Everything is escaped first, so a note can hold no markup
of its own; links keep their text and, where they lead to a web address, their target.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from markupsafe import Markup, escape


def to_html(text: str, lowest_heading: int = 3) -> Markup:
    """Convert Markdown; its top heading becomes ``h<lowest_heading>``, so that it fits below the page's own."""
    shown = re.sub(r"^<!-- .* -->$", "", text, flags=re.M)  # comments of a line: marks of what `make readme` writes
    return Markup("\n".join(_block(lines, lowest_heading) for lines in _blocks(shown)))


def _blocks(text: str) -> Iterator[list[str]]:
    """Groups of lines that belong together: fenced code whole, others between empty lines or headings."""
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            if fenced:
                yield [*lines, line]
            elif lines:
                yield lines
            lines = [] if fenced else [line]
            fenced = not fenced
        elif fenced:
            lines.append(line)
        elif not line.strip() or line.startswith("#"):
            if lines:
                yield lines
            lines = []
            if line.strip():
                yield [line]
        else:
            lines.append(line)
    if lines:
        yield lines


def _block(lines: list[str], lowest: int) -> str:
    first = lines[0]
    if first.startswith("```"):
        body = "\n".join(line for line in lines[1:] if not line.startswith("```"))
        return f"<pre><code>{escape(body)}</code></pre>"
    heading = re.match(r"(#+)\s*(.*)", first)
    if heading:
        level = min(6, lowest + len(heading[1]) - 1)
        return f"<h{level}>{inline(heading[2])}</h{level}>"
    if first.lstrip().startswith("|") and len(lines) > 1 and re.fullmatch(r"[\s|:-]+", lines[1]):
        return _table(lines)
    item = re.match(r"\s*([-*]|\d+\.)\s+", first)
    if item:
        return _list(lines, "ol" if item[1][0].isdigit() else "ul")
    return f"<p>{inline(' '.join(line.strip() for line in lines))}</p>"


def _table(lines: list[str]) -> str:
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in lines]
    head = "".join(f'<th scope="col">{inline(cell)}</th>' for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{inline(cell)}</td>" for cell in row) + "</tr>" for row in rows[2:])
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _list(lines: list[str], tag: str) -> str:
    items: list[str] = []
    for line in lines:
        start = re.match(r"\s*([-*]|\d+\.)\s+(.*)", line)
        if start:
            items.append(start[2])
        elif items:
            items[-1] += " " + line.strip()
    return f"<{tag}>" + "".join(f"<li>{inline(item)}</li>" for item in items) + f"</{tag}>"


def inline(text: str) -> str:
    """Code, bold, emphasis and links inside a line; code is left alone by the rest."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(f"<code>{escape(p[1:-1])}</code>" if p.startswith("`") and len(p) > 2 else _styled(p) for p in parts)


def _styled(text: str) -> str:
    safe = str(escape(re.sub(r"\\([\\`*_{}\[\]<>|#~&$])", lambda m: f"&#{ord(m[1])};", text))).replace("&amp;#", "&#")
    safe = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", safe)
    safe = re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*", r"<em>\1</em>", safe)
    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", _link, safe)


def _link(match: re.Match[str]) -> str:
    label, target = match[1], match[2]
    return f'<a href="{target}">{label}</a>' if re.match(r"https?://", target) else label
