"""A4 pages for minutes: paragraphs, tables that go on over pages, a picture, lines to sign on."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from fontTools.ttLib import TTFont, TTLibError
from fpdf import FPDF
from fpdf.enums import MethodReturnValue, XPos, YPos
from fpdf.errors import FPDFException

from tpmhsm.approval.minutes_words import Block, Cell, Lines, Picture, Span, Style, Table, Words
from tpmhsm.attest.report_picture import Placed, arranged
from tpmhsm.errors import UsageError
from tpmhsm.policy.visible import escape

_MARGIN, _FOOT = 18.0, 16.0  # mm
_LEADING = 1.35
_SIZES = {"mono": 8.0, "soft": 8.5}
_SIZE = 9.5
_WHOLE, _PART = 60.0, 25.0  # mm: rows up to this stay whole, of others so much stands together
_PAD = 1.6  # mm above and below a row
_GUTTER = 3.0  # mm between columns
_POINT = 0.3528  # mm

_INK, _SOFT, _LINE = (27, 31, 36), (87, 96, 106), (208, 215, 222)
_TONES = {
    "proven": ((17, 99, 41), (230, 244, 234)),
    "refuted": ((164, 14, 38), (253, 234, 234)),
    "not-proven": ((125, 78, 0), (255, 244, 214)),
}

_INK_LINE = 13.0  # mm of height to sign in
_BOX, _STEP, _BOX_HEIGHT, _BOX_GAP = 92.0, 6.0, 10.5, 3.0  # mm

_INSTEAD = {"✓": "yes", "✗": "NO", "…": "...", "–": "-"}
"""For signs of our own in the standard fonts."""

_FONT_ERRORS = (
    *(FPDFException, TTLibError, struct.error),
    *(OSError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError),
)
"""What the library raises for files that only look like fonts."""

UNWRITTEN = (
    "Some letters are in no font of the machine that wrote this, and stand here as \\u{...}, their "
    "numbers in Unicode. The page in HTML and the attached document have them."
)


class _Text(NamedTuple):
    text: str
    style: Style


class Paper(FPDF):
    """Pages with a title above and their number below."""

    def __init__(
        self, faces: Sequence[Path], further: Sequence[Path], words: Words, digest: bytes
    ) -> None:
        super().__init__("portrait", "mm", "A4")
        self._words = words
        self._digest = digest.hex()
        self._unwritten = False
        self.set_margins(_MARGIN, _MARGIN, _MARGIN)
        self.set_auto_page_break(False)
        self.c_margin = 0
        self.alias_nb_pages("{pages}")
        self._text_face, self._mono_face = "helvetica", "courier"
        self._add_fonts(faces, further)
        self._known = self._letters(bool(faces))

    def _add_fonts(self, faces: Sequence[Path], further: Sequence[Path]) -> None:
        try:
            for path in further:
                _check_font(path)
            if faces:
                upright, bold, mono = faces
                self.add_font("text", "", upright)
                self.add_font("text", "B", bold)
                self.add_font("mono", "", mono)
                self._text_face, self._mono_face = "text", "mono"
            names = [f"further{number}" for number in range(len(further))]
            for name, path in zip(names, further, strict=True):
                self.add_font(name, "", path)
            if names:
                self.set_fallback_fonts(names, exact_match=False)
        except _FONT_ERRORS as e:
            raise UsageError(f"a font cannot be used: {e}", code="bad-font") from None

    def _letters(self, embedded: bool) -> set[int] | None:
        """The letters that can be written; None for those of the standard fonts."""
        held = [font.cmap for font in self.fonts.values() if hasattr(font, "cmap")]
        if not embedded and not held:
            return None
        return {letter for cmap in held for letter in cmap}

    # ── text ─────────────────────────────────────────────────────────────────

    def seen(self, text: str) -> str:
        """Text as it can be written: what is hidden is shown, what no font has is its number."""
        shown = escape(text)
        if all(map(self._has, shown)):
            return shown
        return "".join(c if self._has(c) else self._instead(c) for c in shown)

    def _instead(self, letter: str) -> str:
        if letter in _INSTEAD:
            return _INSTEAD[letter]
        self._unwritten = True
        return f"\\u{{{ord(letter):x}}}"

    def _has(self, letter: str) -> bool:
        if self._known is not None and ord(letter) in self._known:
            return True
        if self._text_face != "helvetica":
            return False
        try:
            return bool(letter.encode("latin-1"))
        except UnicodeEncodeError:
            return False

    def _use(self, style: Style, size: float | None = None) -> float:
        """Set the font of a style; gives the height of a line in mm."""
        points = size or _SIZES.get(style, _SIZE)
        bold = "B" if style in ("strong", "proven", "refuted", "not-proven") else ""
        mono = style == "mono"
        self.set_font(self._mono_face if mono else self._text_face, "" if mono else bold, points)
        colour = _TONES[style][0] if style in _TONES else _SOFT if style == "soft" else _INK
        self.set_text_color(*colour)
        return points * _POINT * _LEADING

    def _wrapped(self, span: Span, width: float, size: float | None = None) -> list[_Text]:
        self._use(span.style, size)
        lines = self.multi_cell(
            width,
            text=self.seen(span.text),
            dry_run=True,
            output=MethodReturnValue.LINES,
            align="L",
        )
        assert isinstance(lines, list)  # noqa: S101 - what was asked for with LINES
        return [_Text(line, span.style) for line in lines] or [_Text("", span.style)]

    def _line(
        self, line: _Text, x: float, y: float, width: float, size: float | None = None
    ) -> float:
        height = self._use(line.style, size)
        self.set_xy(x, y)
        self.cell(width, height, line.text, new_x=XPos.LEFT, new_y=YPos.TOP)
        return height

    # ── pages ────────────────────────────────────────────────────────────────

    @property
    def _bottom(self) -> float:
        return float(self.h) - _MARGIN - _FOOT / 2

    @property
    def _width(self) -> float:
        return float(self.w) - 2 * _MARGIN

    def header(self) -> None:
        """Nothing on the first page, the title on all others."""
        if self.page_no() == 1:
            return
        title = self.seen(self._words.title)
        self._use("soft", 7.5)
        self.set_xy(_MARGIN, 9)
        self.cell(self._width, 4, self._clipped(title, self._width))
        self.set_y(_MARGIN)

    def footer(self) -> None:
        """The number of the page, and what it is a page of."""
        self._use("soft", 7.5)
        self.set_xy(_MARGIN, -_FOOT)
        self.cell(self._width, 4, f"SHA-256 of the document {self._digest}")
        # right-aligned it would be measured with the letters that stand for the number of pages
        self.set_xy(float(self.w) - _MARGIN - 20, -_FOOT)
        self.cell(20, 4, f"Page {self.page_no()} of {{pages}}")

    def _room(self, height: float) -> bool:
        """Begin a new page unless there is so much room; whether one was begun."""
        if self.get_y() + height <= self._bottom:
            return False
        self.add_page()
        self.set_y(_MARGIN)
        return True

    def _clipped(self, text: str, width: float) -> str:
        if self.get_string_width(text) <= width:
            return text
        dots = self.seen("…")
        while text and self.get_string_width(text + dots) > width:
            text = text[:-1]
        return text + dots

    def write_all(self) -> None:
        """Write all sections."""
        # which letters are missing is known only when all was looked at: once for that
        for span in _spans(self._words):
            self.seen(span.text)
        self.add_page()
        self.set_y(_MARGIN)
        words = self._words
        self._paragraph(Span(words.title, "strong"), 15)
        self._tone(words.sentence)
        self._paragraph(Span(words.facts, "soft"))
        if self._unwritten:
            self._paragraph(Span(UNWRITTEN, "not-proven"))
        for section in words.sections:
            self._room(48)
            self.set_y(self.get_y() + 5)
            self._paragraph(Span(section.title, "strong"), 12.5)
            for block in section.blocks:
                self._block(block)

    def _block(self, block: Block) -> None:
        if isinstance(block, Table):
            self._table(block)
        elif isinstance(block, Picture):
            self._picture(block)
        elif isinstance(block, Lines):
            self._ink(block)
        else:
            self._paragraph(block)

    def _paragraph(self, span: Span, size: float | None = None) -> None:
        for line in self._wrapped(span, self._width, size):
            self._room(5)
            y = self.get_y()
            self.set_y(y + self._line(line, _MARGIN, y, self._width, size))
        self.set_y(self.get_y() + 1.2)

    def _tone(self, span: Span) -> None:
        """The sentence on a ground of its colour."""
        lines = self._wrapped(Span(span.text, span.style), self._width - 10, 12)
        step = self._use(span.style, 12)
        y, height = self.get_y() + 1, step * len(lines) + 6
        if span.style in _TONES:
            ink, ground = _TONES[span.style]
            self.set_fill_color(*ground)
            self.rect(_MARGIN, y, self._width, height, style="F")
            self.set_fill_color(*ink)
            self.rect(_MARGIN, y, 2, height, style="F")
        for number, line in enumerate(lines):
            self._line(line, _MARGIN + 6, y + 3 + number * step, self._width - 10, 12)
        self.set_y(y + height + 2)

    # ── tables ───────────────────────────────────────────────────────────────

    def _table(self, table: Table) -> None:
        whole = sum(table.widths)
        widths = [self._width * one / whole for one in table.widths]
        if table.heads:
            self._room(22)
        self._heads(table, widths)
        for row in table.rows:
            cells = [
                [line for span in cell for line in self._wrapped(span, width - _GUTTER)]
                for cell, width in zip(row, widths, strict=True)
            ]
            self._row(table, widths, cells)
        self._rule()
        self.set_y(self.get_y() + 2)

    def _heads(self, table: Table, widths: Sequence[float]) -> None:
        if not table.heads:
            return
        x, y, lowest = _MARGIN, self.get_y(), 0.0
        for head, width in zip(table.heads, widths, strict=True):
            down = 0.0
            for line in self._wrapped(Span(head, "strong"), width - _GUTTER, 8.5):
                down += self._line(line, x, y + _PAD + down, width - _GUTTER, 8.5)
            lowest = max(lowest, down)
            x += width
        self.set_y(y + lowest + 2 * _PAD)

    def _rule(self) -> None:
        self.set_draw_color(*_LINE)
        self.set_line_width(0.2)
        self.line(_MARGIN, self.get_y(), _MARGIN + self._width, self.get_y())

    def _row(self, table: Table, widths: Sequence[float], cells: list[list[_Text]]) -> None:
        """One row, on one page unless it is long; a long one goes on over pages."""
        tallest = max(self._height(cell) for cell in cells) + 2 * _PAD
        if self._room(tallest if tallest <= _WHOLE else _PART):
            self._heads(table, widths)
        while any(cells):
            self._rule()
            y, x, lowest = self.get_y() + _PAD, _MARGIN, 0.0
            for cell, width in zip(cells, widths, strict=True):
                down = 0.0
                while cell and y + down + self._use(cell[0].style) <= self._bottom:
                    down += self._line(cell.pop(0), x, y + down, width - _GUTTER)
                lowest = max(lowest, down)
                x += width
            self.set_y(y + lowest + _PAD)
            if any(cells):
                self._room(self._bottom)
                self._heads(table, widths)

    def _height(self, lines: Sequence[_Text]) -> float:
        return sum(self._use(line.style) for line in lines)

    # ── lines to sign on, and the picture ────────────────────────────────────

    def _ink(self, lines: Lines) -> None:
        parts = (0.36, 0.2, 0.44)
        heads = Table(("Name", "Date", "Signature"), (36, 20, 44), ())
        widths = [self._width * part for part in parts]
        self._room(10 + 2 * _INK_LINE)
        self._heads(heads, widths)
        for name, role in lines.signers:
            told: Cell = (Span(name, "strong"), Span(role, "soft")) if name else ()
            texts = [line for span in told for line in self._wrapped(span, widths[0] - _GUTTER)]
            height = max(_INK_LINE, self._height(texts) + 2 * _PAD)
            if self._room(height + 1):
                self._heads(heads, widths)
            y = self.get_y()
            down = height - self._height(texts) - 1
            for line in texts:
                down += self._line(line, _MARGIN, y + down, widths[0] - _GUTTER)
            self.set_draw_color(*_INK)
            x = _MARGIN
            for width in widths:
                self.line(x, y + height, x + width - _GUTTER, y + height)
                x += width
            self.set_y(y + height + 0.5)

    def _picture(self, picture: Picture) -> None:
        rows, more = arranged(picture.boxes)
        tops: dict[int, tuple[int, float]] = {}
        for number, row in enumerate(rows):
            self._room(_BOX_HEIGHT + _BOX_GAP)
            y = self.get_y()
            x = _MARGIN + row.depth * _STEP
            self._joined(row, tops.get(row.above), x, y)
            self._box(row, x, y)
            tops[number] = (self.page_no(), y)
            self.set_y(y + _BOX_HEIGHT + _BOX_GAP)
        if more:
            self._paragraph(Span(f"{more} more are in the document.", "soft"))

    def _joined(self, row: Placed, above: tuple[int, float] | None, x: float, y: float) -> None:
        """The line from a box to the one above it, from the top of the page if that is before."""
        if above is None:
            return
        page, top = above
        start = top + _BOX_HEIGHT if page == self.page_no() else _MARGIN - 2
        left = x - _STEP / 2
        self.set_draw_color(*_SOFT)
        self.set_line_width(0.3)
        self.line(left, start, left, y + _BOX_HEIGHT / 2)
        self.line(left, y + _BOX_HEIGHT / 2, x, y + _BOX_HEIGHT / 2)

    def _box(self, row: Placed, x: float, y: float) -> None:
        ink, ground = _TONES[row.holds]
        self.set_draw_color(*ink)
        self.set_fill_color(*ground)
        if row.holds == "not-proven":
            self.set_dash_pattern(dash=1.5, gap=1)
        self.rect(x, y, _BOX, _BOX_HEIGHT, style="DF", round_corners=True, corner_radius=1.5)
        self.set_dash_pattern()
        inner = _BOX - 5
        self._use("soft", 7)
        kind = self._clipped(self.seen(row.words), inner)
        self._line(_Text(kind, "soft"), x + 2.5, y + 0.9, inner, 7)
        self._use("plain", 8.5)
        label = self._clipped(self.seen(row.link.label), inner)
        self._line(_Text(label, "plain"), x + 2.5, y + 4.8, inner, 8.5)
        beside = x + _BOX + 4
        room = _MARGIN + self._width - beside
        told = self._wrapped(Span(row.link.how, "soft"), room, 7)[:3]
        step = self._use("soft", 7)
        top = y + (_BOX_HEIGHT - step * len(told)) / 2
        for number, line in enumerate(told):
            self._line(line, beside, top + number * step, room, 7)


def _check_font(path: Path) -> None:
    """Read a font's tables from memory: of a file that is none, fpdf2 would leave it open."""
    with TTFont(BytesIO(path.read_bytes()), fontNumber=0) as font:
        for table in ("cmap", "head", "hhea", "hmtx", "maxp", "name", "OS/2"):
            font[table]


def _spans(words: Words) -> list[Span]:
    """All texts that are shown."""
    found = [Span(words.title), words.sentence, Span(words.facts)]
    for section in words.sections:
        found.append(Span(section.title))
        for block in section.blocks:
            if isinstance(block, Table):
                found += [Span(head) for head in block.heads]
                found += [span for row in block.rows for cell in row for span in cell]
            elif isinstance(block, Picture):
                found += [Span(f"{one.kind} {one.label} {one.how}") for one in block.boxes]
            elif isinstance(block, Lines):
                found += [Span(f"{name} {role}") for name, role in block.signers]
            else:
                found.append(block)
    return found
