"""What a token says of itself and of a key in it: on cards and screens always as its own words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tpmhsm.errors import ParseError
from tpmhsm.policy.documents import Fields
from tpmhsm.policy.visible import escape

MOST, LONGEST = 8, 200
"""Cautions of one key, and characters of one text."""


@dataclass(frozen=True)
class TokenInfo:
    """Texts as the token gives them; nothing of it is proven. `cautions`: words on its key."""

    label: str
    manufacturer: str
    model: str
    serial: str
    cautions: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """'token "work" (SoftHSM v2, 9f3a61c077be0d12)', safe to show."""
        of = ", ".join(part for part in (self.model, self.serial) if part)
        return escape(f'token "{self.label}"' + (f" ({of})" if of else ""))

    @property
    def unproven(self) -> str:
        """What a card's reader must know: 'not proven: token … says so of itself; software: …'."""
        return escape("; ".join([f"not proven: {self.words} says so of itself", *self.cautions]))

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object of a card."""
        return {
            "label": self.label,
            "manufacturer": self.manufacturer,
            "model": self.model,
            "serial": self.serial,
            "cautions": list(self.cautions),
        }


def read_token(fields: Fields) -> TokenInfo:
    """Read what `TokenInfo.document` gives. ParseError for anything else."""
    cautions = fields.list("cautions")
    if len(cautions) > MOST or not all(isinstance(c, str) for c in cautions):
        raise ParseError(f"card: token: cautions are not at most {MOST} texts")
    info = TokenInfo(
        fields.text("label"),
        fields.text("manufacturer"),
        fields.text("model"),
        fields.text("serial"),
        tuple(cautions),
    )
    fields.done()
    if max(map(len, (info.label, info.manufacturer, info.model, info.serial, *cautions))) > LONGEST:
        raise ParseError(f"card: token: a text is longer than {LONGEST} characters")
    return info
