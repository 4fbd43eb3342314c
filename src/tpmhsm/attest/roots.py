"""Pinned vendor roots: which makers' certificates a verifier believes, and what they stand for.

Nothing in an EK certificate tells hardware from an emulator but the root that it ends at, so each
root has a kind, given by a person. Intermediates are kept beside and never believed by themselves.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from tpmhsm.errors import NotFoundError, ParseError, UsageError

KINDS: Mapping[str, str] = {
    "discrete": "a chip of its own",
    "firmware": "a part of the processor or chip set that runs the maker's firmware",
    "virtual": "a virtual machine's, kept by whoever runs its host",
    "emulator": "software: whoever has its files has its keys",
}
"""What a root may stand for, with words."""

HARDWARE = ("discrete", "firmware")

FORMAT = "tpmhsm/roots/1"
MAX_CERTIFICATES = 5_000
_SHORTEST = 6


@dataclass(frozen=True)
class PinnedRoot:
    """A trusted root: SHA-256 of its DER in hexadecimal, the DER, its maker, a key of `KINDS`."""

    sha256: str
    der: bytes = field(repr=False)
    maker: str
    kind: str

    @classmethod
    def of(cls, der: bytes, maker: str, kind: str) -> PinnedRoot:
        """From DER. UsageError for a kind that there is not."""
        if kind not in KINDS:
            raise UsageError(
                f"there is no kind {kind!r} of vendor roots", hint=f"choose: {', '.join(KINDS)}"
            )
        return cls(sha256(der).hexdigest(), der, maker, kind)


@dataclass(frozen=True)
class Pins:
    """All that a verifier pinned, and the intermediates that it keeps to build chains."""

    roots: tuple[PinnedRoot, ...] = ()
    intermediates: tuple[bytes, ...] = ()

    def with_more(self, roots: Iterable[PinnedRoot], intermediates: Iterable[bytes]) -> Pins:
        """These and more. A root that is pinned already gets its new kind and maker."""
        pinned = {one.sha256: one for one in (*self.roots, *roots)}
        kept = dict.fromkeys((*self.intermediates, *intermediates))
        believed = {one.der for one in pinned.values()}
        found = Pins(tuple(pinned.values()), tuple(der for der in kept if der not in believed))
        if len(found.roots) + len(found.intermediates) > MAX_CERTIFICATES:
            raise UsageError(f"more than {MAX_CERTIFICATES:,} certificates of vendors are not kept")
        return found

    def find(self, digest: str) -> PinnedRoot:
        """The root whose SHA-256 begins so. NotFoundError for none, UsageError for several."""
        wanted = digest.lower().replace(":", "")
        found = [one for one in self.roots if one.sha256.startswith(wanted)]
        if len(wanted) < _SHORTEST or not found:
            raise NotFoundError(
                f"no pinned root has a SHA-256 that begins with {digest!r}",
                hint="tpmhsm attest roots list; six digits are the least",
            )
        if len(found) > 1:
            raise UsageError(f"{len(found)} pinned roots begin with {digest!r}; give more digits")
        return found[0]

    def without(self, root: PinnedRoot) -> Pins:
        """All but one."""
        rest = tuple(one for one in self.roots if one.sha256 != root.sha256)
        return Pins(rest, self.intermediates)


def format_pins(pins: Pins) -> bytes:
    """The document that a verifier keeps."""
    roots = [
        {"sha256": one.sha256, "kind": one.kind, "maker": one.maker, "der": _text(one.der)}
        for one in pins.roots
    ]
    kept = [_text(der) for der in pins.intermediates]
    document = {"format": FORMAT, "roots": roots, "intermediates": kept}
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def is_pins(data: bytes) -> bool:
    """Whether a file says that it is such a document."""
    return data.lstrip()[:1] == b"{" and FORMAT.encode() in data[:200]


def parse_pins(data: bytes) -> Pins:
    """Read such a document. ParseError, also when a certificate is not the one that was pinned."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"the list of vendor roots is no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ParseError(f"this is no list of vendor roots: it does not say {FORMAT}")
    roots, kept = document.get("roots"), document.get("intermediates")
    if not isinstance(roots, list) or not isinstance(kept, list):
        raise ParseError("the list of vendor roots lacks roots or intermediates")
    if len(roots) + len(kept) > MAX_CERTIFICATES:
        raise ParseError(f"a list of more than {MAX_CERTIFICATES:,} certificates")
    return Pins(tuple(map(_root, roots)), tuple(map(_der, kept)))


def _root(value: Any) -> PinnedRoot:
    if not isinstance(value, dict) or value.get("kind") not in KINDS:
        raise ParseError("the list of vendor roots has a root without a kind")
    maker = value.get("maker")
    if not isinstance(maker, str) or len(maker) > 200:
        raise ParseError("the list of vendor roots has a root without a maker")
    root = PinnedRoot.of(_der(value.get("der")), maker, value["kind"])
    if root.sha256 != value.get("sha256"):
        raise ParseError(
            f"the list of vendor roots was changed: {str(value.get('sha256'))[:80]!r} was pinned, "
            f"and the certificate there is {root.sha256}"
        )
    return root


def _der(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise ParseError("the list of vendor roots has what is no base64") from error


def _text(der: bytes) -> str:
    return base64.b64encode(der).decode()
