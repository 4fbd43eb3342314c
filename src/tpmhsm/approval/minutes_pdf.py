"""Minutes on paper: A4 as PDF, of real text, with page numbers and the document attached.

Needs fpdf2 (the extra `pdf`). Fonts are embedded: DejaVu Sans, where the machine has it, and others
that are named; without, the standard fonts of PDF, which have Western letters alone. A letter that
no font has is written as its number, and the first page says so. The same minutes, with the same
program and fonts, give the same bytes, so that a changed page can be told by writing it anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from tpmhsm.approval.minutes_words import words_of
from tpmhsm.errors import ParseError, UsageError
from tpmhsm.policy.visible import escape

if TYPE_CHECKING:
    from tpmhsm.approval.minutes_check import CheckedMinutes

ATTACHED = "minutes.json"

FONT_FOLDERS = (
    "/usr/share/fonts/truetype/dejavu",  # Debian, Ubuntu
    "/usr/share/fonts/dejavu-sans-fonts",  # Fedora
    "/usr/share/fonts/dejavu",
    "/usr/share/fonts/TTF",  # Arch
)
FACES = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf")
"""Upright, bold and of one width."""

MAX_FONT = 64 << 20

_DOCUMENT = re.compile(rb'stream\r?\n(\{"acts":[^\n]*\}\n)\r?\n?endstream')
_STANDARD = "standard fonts"


@dataclass(frozen=True)
class Fonts:
    """The fonts to write with: three faces of one family, none for those that every reader of PDF
    has, and `further` ones for the letters that these lack.
    """

    faces: tuple[Path, ...] = ()
    further: tuple[Path, ...] = ()

    @cached_property
    def words(self) -> str:
        """Which they are, by the SHA-256 of their files."""
        if not (files := (*self.faces, *self.further)):
            return _STANDARD
        return ", ".join(f"{one.stem} {sha256(_read(one)).hexdigest()[:16]}" for one in files)


def find_fonts(further: Sequence[Path] = ()) -> Fonts:
    """The fonts of this machine, and `further` ones that were named. UsageError for a font that
    cannot be read.
    """
    for one in further:
        _read(one)
    for folder in FONT_FOLDERS:
        faces = tuple(Path(folder) / name for name in FACES)
        if all(face.is_file() for face in faces):
            return Fonts(faces, tuple(further))
    return Fonts((), tuple(further))


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FONT:
            raise UsageError(f"{path} is too large for a font")
        return path.read_bytes()
    except OSError as e:
        raise UsageError(f"cannot read the font {path}: {e.strerror or e}") from None


def can_write_pdf() -> bool:
    """Whether the library is installed."""
    from importlib.util import find_spec

    return find_spec("fpdf") is not None


def write_pdf(checked: CheckedMinutes, fonts: Fonts) -> bytes:
    """Return minutes as a PDF file. UsageError without fpdf2, or for a font that is none."""
    if not can_write_pdf():
        raise UsageError(
            "writing PDF needs fpdf2, which is not installed",
            code="no-pdf",
            hint="pip install 'tpmhsm[pdf]'; or print the HTML page",
        )
    from tpmhsm.approval.minutes_paper import Paper

    minutes = checked.minutes
    paper = Paper(fonts.faces, fonts.further, words_of(checked), minutes.digest)
    paper.set_creation_date(minutes.ended)
    paper.set_title(escape(f"Minutes: {minutes.title}"))
    paper.set_producer(producer(fonts))
    paper.set_creator(escape(minutes.program))
    paper.write_all()
    paper.embed_file(
        bytes=minutes.data,
        basename=ATTACHED,
        desc="the document that these pages show",
        mime_type="application/json",
        creation_date=minutes.ended,
        modification_date=minutes.ended,
        compress=False,
    )
    return bytes(paper.output())


def producer(fonts: Fonts) -> str:
    """What writes the file: two that name the same write the same."""
    from importlib.metadata import version

    from tpmhsm import __version__

    return f"tpmhsm {__version__}; fpdf2 {version('fpdf2')}; {fonts.words}"


def is_pdf(data: bytes) -> bool:
    """Whether a file is a PDF."""
    return data[:5] == b"%PDF-"


def carries_minutes(data: bytes) -> bool:
    """Whether a file is a PDF with something attached that may be minutes."""
    return is_pdf(data) and _DOCUMENT.search(data) is not None


def attached_in(data: bytes) -> bytes:
    """Return the document that a PDF of minutes carries. ParseError unless there is exactly one."""
    found = _DOCUMENT.findall(data)
    if len(found) != 1:
        raise ParseError(
            f"the PDF carries {len(found)} documents of minutes, not one",
            hint="programs that save a PDF anew may drop or pack what is attached: "
            f"save the attachment {ATTACHED} and give that",
        )
    return bytes(found[0])
