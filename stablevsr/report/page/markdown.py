"""The project's notes (deviations, dataset cards) as HTML that is safe to put into the page.

Raw HTML in a note is shown as text. Only links to web addresses stay links, because the page is a single file; images
become links.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

#: Headings of a note start at this level, below the page's own.
TOP_HEADING = 3
PARSER = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def to_html(text: str) -> Markup:
    """Markdown (CommonMark and tables) as HTML."""
    text = re.sub(r"^<!-- .* -->$", "", text, flags=re.M)  # the marks of docs/render_tables.py
    tokens = PARSER.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, TOP_HEADING - 1 + int(token.tag[1:]))}"
        elif token.type == "th_open":
            token.attrSet("scope", "col")
        elif token.type == "inline":
            token.children = _web_links(token.children or [])
    html = PARSER.renderer.render(tokens, PARSER.options, {})
    # raw HTML is escaped, so these tags can only be the renderer's
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table class="stack">')
    html = html.replace("</table>", "</table></div>")
    return Markup(html)


def _web_links(tokens: list[Token]) -> list[Token]:
    """The tokens of a line without links that do not lead to a web address; their text stays."""
    kept: list[Token] = []
    web = True
    for token in tokens:
        if token.type == "link_open":
            web = str(token.attrGet("href")).startswith(("https://", "http://"))
        if web or token.type not in ("link_open", "link_close"):
            kept.append(token)
    return kept
