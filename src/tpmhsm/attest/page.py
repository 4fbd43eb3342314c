"""Pages that carry what they are about: HTML with a file of ours inside, as base64.

Without script, pictures from elsewhere or a network, and with a policy that says so to browsers.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from importlib.resources import files
from textwrap import wrap
from typing import TYPE_CHECKING, Literal

from tpmhsm.errors import ParseError
from tpmhsm.policy.visible import in_html

if TYPE_CHECKING:
    from tpmhsm.attest.verdicts import Answer

Carried = Literal["evidence", "minutes"]

BADGES: dict[Answer, str] = {
    "proven": "✓ proven",
    "refuted": "✗ refuted",
    "not-proven": "? not proven",
}

_CLOSES = "</script>"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def is_page(data: bytes) -> bool:
    """Whether a file is an HTML page, such as `html_page` writes."""
    return data[:15].lower() == b"<!doctype html>"


def carries(page: bytes, kind: Carried) -> bool:
    """Whether a page says that it carries such a file."""
    return is_page(page) and _opens(kind).encode() in page


def carried_in(page: bytes, kind: Carried, command: str) -> bytes:
    """Return the file that a page carries. ParseError unless there is exactly one; `command` makes
    such pages.
    """
    wanted = re.escape(_opens(kind).encode()) + rb"([A-Za-z0-9+/=\s]*)</script>"
    found = re.findall(wanted, page)
    if len(found) != 1:
        raise ParseError(
            f"the page carries {len(found)} files of {kind}, not one",
            hint=f"{command} makes a page that carries its {kind}",
        )
    try:
        return b64decode(b"".join(found[0].split()), validate=True)
    except ValueError:
        raise ParseError(f"the {kind} in the page is no base64: the page was damaged") from None


def html_page(title: str, parts: Iterable[str], kind: Carried, data: bytes) -> str:
    """Return a page of `parts`, which are HTML, with `data` inside."""
    style = files(__package__).joinpath("report.css").read_text()
    return "\n".join(
        (
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{in_html(title)}</title>',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>\n{style}</style></head><body>",
            *parts,
            _opens(kind),
            *wrap(b64encode(data).decode(), 100),
            _CLOSES,
            "</body></html>\n",
        )
    )


def _opens(kind: Carried) -> str:
    return f'<script type="application/octet-stream" id="tpmhsm-{kind}">'
