"""Words for a terminal: what others wrote is shown, and does nothing.

Names, reasons, file names and messages of errors come from requests, approvals, cards and files.
Control, bidi and invisible characters in them are printed as their numbers.
"""

from __future__ import annotations


def one_line(text: str) -> str:
    r"""Return `text` with control, bidi and invisible characters as \u{1b}; newlines too."""
    if text.isascii() and text.isprintable():  # nearly always, and without an import
        return text
    from tpmhsm.approval.screen import escape

    return escape(text)


def lines(text: str) -> str:
    """The same for a text whose newlines are the program's own: they are kept."""
    return "\n".join(one_line(line) for line in text.split("\n"))
