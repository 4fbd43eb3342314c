"""What any file is, and what is in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tpmhsm.cli.app import App, facts
from tpmhsm.cli.files import naming
from tpmhsm.cli.words import one_line
from tpmhsm.errors import ParseError, TpmHsmError

if TYPE_CHECKING:
    from tpmhsm.pki.bundle import Bundle, Item

Shown = tuple[dict[str, Any], str]
Ask = Callable[[str], bytes]

_MANY = 200
"""Certificates of a bundle that are shown one by one; of more, a line each."""


def show_bytes(app: App, data: bytes, what: str, ask: Ask | None = None) -> None:
    """Print what a file is; `ask` is for the passphrase of PKCS #12.

    Raises ParseError when it is nothing that is known here, and says what it looks like.
    """
    kind, (found, words) = known(data, what, ask)
    app.emit({"type": kind, **found}, f"{one_line(what)}: {kind}\n{words}")


def show_request_bytes(app: App, data: bytes, what: str) -> None:
    """Print a request file. Raises ParseError."""
    from tpmhsm.approval.request import parse_request

    with naming(what, data, "an approval request"):
        parse_request(data)
    show_bytes(app, data, what)


def known(data: bytes, what: str, ask: Ask | None = None) -> tuple[str, Shown]:
    """The kind of a file, with its facts and words. ParseError."""
    from tpmhsm.attest.page import is_page

    if is_page(data) or data[:5] == b"%PDF-":
        with naming(what):
            data = _carried(data)
    if data.lstrip()[:1] == b"{":
        from tpmhsm.cli.show_ours import show_ours

        with naming(what):
            if (ours := show_ours(data)) is not None:
                return ours
    if data[:1] == b"\x30" or b"-----BEGIN " in data or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return _structures(data, what, ask)
    if data[:1] == b"M":
        from tpmhsm.pki.load import bare_base64

        if bare_base64(data):
            return _structures(data, what, ask)
    if (other := _other(data, what)) is not None:
        return other
    raise _unknown(data, what)


def _carried(page: bytes) -> bytes:
    """The file of ours in a page; the page itself if it says that it carries none."""
    from tpmhsm.approval.minutes_page import minutes_in
    from tpmhsm.approval.minutes_pdf import attached_in, carries_minutes
    from tpmhsm.attest.page import carries
    from tpmhsm.attest.report import evidence_in

    if carries(page, "evidence"):
        return evidence_in(page)
    if carries_minutes(page):
        return attached_in(page)
    return minutes_in(page) if carries(page, "minutes") else page


def _other(data: bytes, what: str) -> tuple[str, Shown] | None:
    from tpmhsm.cli.show_ours import lines_of
    from tpmhsm.cli.show_tpm import show_tpm
    from tpmhsm.pki.key_facts import describe_ssh_line, is_ssh_line

    if is_ssh_line(data):
        with naming(what):
            found = describe_ssh_line(data)
        return "key", (found, f"an SSH public key\n{lines_of(found)}")
    return show_tpm(data) or _of_a_chip(data, what) or _encrypted(data, what)


def _of_a_chip(data: bytes, what: str) -> tuple[str, Shown] | None:
    """An event log, or what a chip keeps in NV."""
    from tpmhsm.cli.show_chips import show_ek_dump, show_event_log

    with naming(what):
        if (log := show_event_log(data)) is not None:
            return "event-log", log
        if (dump := show_ek_dump(data)) is not None:
            return "ek-dump", dump
    return None


def _encrypted(data: bytes, what: str) -> tuple[str, Shown] | None:
    """An S/MIME message, which stands in a mail and not in PEM or DER."""
    from tpmhsm.cli.show_structures import show_structure
    from tpmhsm.pki.bundle import Item
    from tpmhsm.pki.envelopes import is_envelope, message_der

    if not is_envelope(data):
        return None
    with naming(what):
        return show_structure(Item("cms", message_der(data), ""), what, None)


def _unknown(data: bytes, what: str) -> ParseError:
    from tpmhsm.cli.looks import looks_like

    if not data.strip():
        return ParseError(f"{what} is empty")
    return ParseError(
        f"{what} is nothing that is known here: {looks_like(data)}",
        hint="known are certificates, CSRs, CRLs, PKCS#7, PKCS#12, keys, TPM structures, "
        "event logs; requests, approvals, cards, evidence",
        details={"first_bytes": data[:16].hex()},
    )


def _structures(data: bytes, what: str, ask: Ask | None) -> tuple[str, Shown]:
    """PEM and DER: one thing, or several."""
    from tpmhsm.pki.bundle import read_bundle

    bundle = read_bundle(data, what, opened=False)
    if not bundle.items:
        if bundle.faults:
            with _looking(data):
                bundle.raise_faults()
        raise _unknown(data, what)
    shown = [_item(item, what, ask) for item in bundle.items]
    kind, (found, words) = _one(shown) if len(shown) == 1 else _several(bundle, shown)
    if bundle.faults:
        found["faults"] = [fault._asdict() for fault in bundle.faults]
        words += "\n" + "\n".join(f"BROKEN: {f.where}: {f.reason}" for f in bundle.faults[:_MANY])
    if bundle.repeated:
        found["repeated"] = bundle.repeated
        words += f"\n{repeated_words(bundle.repeated)}"
    if bundle.notes:
        found["notes"] = bundle.notes[:_MANY]
        words += "\n" + "\n".join(f"note: {one_line(note)}" for note in bundle.notes[:_MANY])
    return kind, (found, words)


def repeated_words(count: int) -> str:
    """That so many things of a file are copies of what is shown, and not shown again."""
    return f"note: {count:,} more {'is a copy' if count == 1 else 'are copies'} of what is shown"


def _one(shown: Sequence[tuple[str, Shown]]) -> tuple[str, Shown]:
    kind, (found, words) = shown[0]
    if kind == "certificate":
        found = {**found, "items": [dict(found)]}
    return kind, (found, words)


def _several(bundle: Bundle, shown: Sequence[tuple[str, Shown]]) -> tuple[str, Shown]:
    if {kind for kind, _ in shown} == {"certificate"}:
        items = [found for _, (found, _) in shown]
        return "certificate", ({**items[0], "items": items}, certificates_words(items))
    items = [
        {"type": kind, "where": item.where, **found}
        for item, (kind, (found, _)) in zip(bundle.items, shown, strict=True)
    ]
    words = [
        f"{item.where or 'byte 0'}: {kind}\n{text}"
        for item, (kind, (_, text)) in zip(bundle.items, shown, strict=True)
    ]
    return "bundle", ({"items": items}, "\n\n".join(words))


def certificates_words(items: Sequence[dict[str, Any]]) -> str:
    """Each in full; of very many, a line each."""
    from tpmhsm.pki.describe import certificate_lines

    if len(items) <= _MANY:
        return "\n\n".join(facts(certificate_lines(one)) for one in items)
    lines = [f"{len(items)} certificates"]
    for one in items:
        who = one["subject"] or ", ".join(one["sans"]) or "(empty)"
        lines.append(one_line(f"{who}  until {one['not_after'] or '?'}  {one['sha256'][:16]}"))
    return "\n".join(lines)


def _item(item: Item, what: str, ask: Ask | None) -> tuple[str, Shown]:
    where = f"{what}, {item.where}" if item.where else what
    with naming(where):
        if item.kind == "certificate":
            from tpmhsm.cli.show_chips import tpm_facts, tpm_lines
            from tpmhsm.pki.describe import certificate_lines, describe_certificate

            found = describe_certificate(item.der) | tpm_facts(item.der)
            return "certificate", (found, facts([*certificate_lines(found), *tpm_lines(found)]))
        from tpmhsm.cli.show_structures import show_structure

        return show_structure(item, what, ask)


class _looking:  # noqa: N801 - used as a statement
    """An error in the block says how the file begins, too."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        from tpmhsm.cli.looks import looks_like

        if isinstance(error, ParseError):
            error.message += f" ({looks_like(self.data)})"
            error.details["first_bytes"] = self.data[:16].hex()


def says_it_is(data: bytes) -> str:
    """In words what a file is: `a certificate`, `a CSR`; empty when nobody knows."""
    try:
        kind, (found, _) = known(data, "the file")
    except TpmHsmError:
        return _claimed(data)
    if kind == "bundle":
        return "a file of several things"
    if kind in _OURS:
        return _OURS[kind] if kind != "vote" else f"{_AN[found['vote']]} {found['vote']}"
    from tpmhsm.pki.recognise import WORDS

    return WORDS.get(found.get("kind", kind), WORDS.get(kind, f"a {kind}"))


_AN = {"approval": "an", "denial": "a"}
_OURS = {
    "request": "an approval request",
    "vote": "a vote",
    "ceremony": "a ceremony",
    "ceremony-approval": "approvals of a ceremony",
    "card": "a card",
    "group": "a document of a group",
    "recovery": "a recovery file",
    "tpm-public": "the public area of a TPM key",
    "tpm-attest": "an attestation of a TPM",
    "event-log": "an event log",
    "ek-dump": "an EK certificate as a chip keeps it",
    "vendor-roots": "a list of vendor roots",
    "evidence": "evidence",
    "minutes": "minutes of a ceremony",
    "challenge": "a challenge",
    "response": "a response",
}


def _claimed(data: bytes) -> str:
    """What a file of ours says that it is, though it is damaged."""
    try:
        form = json.loads(data.decode()).get("format")
    except (ValueError, RecursionError, AttributeError):
        return ""
    return f"a damaged {form}" if isinstance(form, str) and form.startswith("tpmhsm/") else ""
