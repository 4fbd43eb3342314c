"""Minutes as one HTML page that carries their document, in the look of a report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tpmhsm.approval.minutes_words import Cell, Lines, Picture, Span, Table, words_of
from tpmhsm.attest.page import BADGES, carried_in, html_page
from tpmhsm.attest.report_picture import picture
from tpmhsm.policy.visible import in_html

if TYPE_CHECKING:
    from tpmhsm.approval.minutes_check import CheckedMinutes
    from tpmhsm.approval.minutes_words import Block


def minutes_in(page: bytes) -> bytes:
    """Return the document that a page of minutes carries. ParseError unless there is one."""
    return carried_in(page, "minutes", "tpmhsm minutes print")


def render_minutes(checked: CheckedMinutes) -> str:
    """Return minutes as an HTML page; the same minutes give the same bytes."""
    words = words_of(checked)
    parts = [
        f"<h1>{in_html(words.title)}</h1>",
        f'<p class="sentence {words.sentence.style}">{in_html(words.sentence.text)}</p>',
        f'<p class="facts">{in_html(words.facts)}</p>',
    ]
    for section in words.sections:
        parts.append(f"<section><h2>{in_html(section.title)}</h2>")
        parts += [_block(block) for block in section.blocks]
        parts.append("</section>")
    return html_page(words.title[:120], parts, "minutes", checked.minutes.data)


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return "\n".join(_table(block))
    if isinstance(block, Picture):
        return picture(block.boxes, block.title)
    if isinstance(block, Lines):
        return "\n".join(_lines(block))
    if block.style == "mono":
        return f"<pre>{in_html(block.text)}</pre>"
    return f"<p>{_span(block)}</p>"


def _table(table: Table) -> Iterator[str]:
    yield '<table class="fixed"><colgroup>'
    whole = sum(table.widths)
    yield from (f'<col style="width:{100 * one / whole:.1f}%">' for one in table.widths)
    yield "</colgroup>"
    if table.heads:
        heads = "".join(f"<th>{in_html(head)}</th>" for head in table.heads)
        yield f"<thead><tr>{heads}</tr></thead>"
    for row in table.rows:
        yield f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>"
    yield "</table>"


def _cell(cell: Cell) -> str:
    return "<br>".join(_span(span) for span in cell)


def _span(span: Span) -> str:
    text = in_html(span.text)
    if span.style == "mono":
        return f'<span class="hex">{text}</span>'
    if span.style == "strong":
        return f"<strong>{text}</strong>"
    if span.style == "soft":
        return f'<span class="why">{text}</span>'
    if span.style == "plain":
        return text
    badge = "badge " if span.text in (*BADGES.values(), "✓") else ""
    return f'<span class="{badge}{span.style}">{text}</span>'


def _lines(lines: Lines) -> Iterator[str]:
    yield '<table class="fixed ink"><thead><tr><th>Name</th><th>Date</th><th>Signature</th></tr>'
    yield "</thead>"
    for name, role in lines.signers:
        told = f'<strong>{in_html(name)}</strong><br><span class="why">{in_html(role)}</span>'
        yield f"<tr><td>{told if name else ''}</td><td></td><td></td></tr>"
    yield "</table>"
