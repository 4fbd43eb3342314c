"""`tpmhsm minutes`: the minutes of a ceremony, verified, and printed for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app, prose, table
from tpmhsm.cli.files import check_free, naming, write_output
from tpmhsm.errors import TpmHsmError, UsageError, VerificationError

if TYPE_CHECKING:
    from tpmhsm.approval.minutes_check import CheckedMinutes

PAGE_WORDS = {
    "document": "none: this is the document itself",
    "as-written": "as this version of the program writes them",
    "not-compared": "NOT compared: another version, library or font wrote them "
    "(tpmhsm minutes print writes yours)",
}


_fonts = click.option(
    "--font",
    "fonts",
    multiple=True,
    metavar="TTF",
    help="Of a PDF, for letters that DejaVu Sans has not; repeatable.",
)


@click.group(epilog="Example: tpmhsm minutes verify officers.minutes.html")
def minutes() -> None:
    """The minutes of a ceremony: verify, print."""


@minutes.command(epilog="Example: tpmhsm minutes verify officers.minutes")
@click.argument("file", metavar="F")
@click.option("--evidence", metavar="E", help="The evidence that was collected at the end.")
@_fonts
@pass_app
def verify(app: App, file: str, evidence: str | None, fonts: tuple[str, ...]) -> None:
    """Verify every signature in minutes: the document, its HTML page or its PDF.

    Needs no chip and no home. Who holds the keys is for people to know: compare the eight words
    with somebody who was present. What no key signed is listed by name.
    """
    from tpmhsm.approval.minutes_words import NOT_SIGNED

    data = app.read(file, limit=_limit())
    checked = read_minutes(data, file)
    page = _compared(data, checked, file, fonts)
    if evidence is not None:
        _check_evidence(app, checked, evidence)
    found = {**describe(checked), "page": page, "evidence_checked": evidence is not None}
    found["not_signed"] = list(NOT_SIGNED)
    app.emit(found, lambda: _words(found))


@minutes.command("print", epilog="Example: tpmhsm minutes print officers.minutes --pdf minutes.pdf")
@click.argument("file", metavar="F")
@click.option("--html", metavar="PAGE", help="Write one HTML page, which carries the document.")
@click.option("--pdf", metavar="PDF", help="Write A4 pages; needs pip install 'tpmhsm[pdf]'.")
@_fonts
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@pass_app
def print_(
    app: App, file: str, html: str | None, pdf: str | None, fonts: tuple[str, ...], force: bool
) -> None:
    """Write minutes for people, with lines to sign on, after verifying every signature in them."""
    if not (html or pdf):
        raise UsageError("nothing to write", hint="--html minutes.html, --pdf minutes.pdf, or both")
    for path in filter(None, (html, pdf)):
        check_free(path, force=force)
    checked = read_minutes(app.read(file, limit=_limit()), file)
    written = {}
    if html:
        from tpmhsm.approval.minutes_page import render_minutes

        written[html] = render_minutes(checked).encode()
    if pdf:
        from tpmhsm.approval.minutes_pdf import find_fonts, write_pdf

        written[pdf] = write_pdf(checked, find_fonts([Path(font) for font in fonts]))
    for path, data in written.items():
        write_output(path, data, force=force)
    names = ", ".join(written)
    app.done({"files": list(written), "digest": checked.minutes.digest.hex()}, names)


def _limit() -> int:
    from tpmhsm.approval.minutes import MAX_MINUTES

    return 4 * MAX_MINUTES  # as a page, and as a PDF with fonts


def document_in(data: bytes) -> bytes:
    """The document in a file: it is one, or a page or PDF that carries it. ParseError."""
    from tpmhsm.approval.minutes_page import minutes_in
    from tpmhsm.approval.minutes_pdf import attached_in, is_pdf
    from tpmhsm.attest.page import is_page

    if is_pdf(data):
        return attached_in(data)
    return minutes_in(data) if is_page(data) else data


def read_minutes(data: bytes, file: str) -> CheckedMinutes:
    """Minutes whose signatures hold. ParseError, VerificationError."""
    from tpmhsm.approval.minutes import parse_minutes
    from tpmhsm.approval.minutes_check import check_minutes

    with naming(file, data, "minutes of a ceremony"):
        return check_minutes(parse_minutes(document_in(data)))


def _compared(data: bytes, checked: CheckedMinutes, file: str, fonts: tuple[str, ...]) -> str:
    """Whether a page says what this program would write. VerificationError if it was changed."""
    from tpmhsm import __version__
    from tpmhsm.approval.minutes_pdf import is_pdf
    from tpmhsm.attest.page import is_page

    if is_pdf(data):
        same, known = _compared_pdf(data, checked, fonts)
    elif is_page(data):
        from tpmhsm.approval.minutes_page import render_minutes

        same = render_minutes(checked).encode() == data
        known = checked.minutes.program == f"tpmhsm {__version__}"
    else:
        return "document"
    if not same and known:
        raise VerificationError(
            f"{file}: the signatures in its document hold, but its words are others than "
            f"tpmhsm {__version__} writes: the page was changed",
            code="page-changed",
            hint="tpmhsm minutes print writes the page that belongs to the document",
        )
    return "as-written" if same else "not-compared"


def _compared_pdf(
    data: bytes, checked: CheckedMinutes, further: tuple[str, ...]
) -> tuple[bool, bool]:
    """Whether the PDF is the one that would be written, and whether it says that this program,
    library and fonts wrote it.
    """
    from tpmhsm.approval.minutes_pdf import can_write_pdf, find_fonts, producer, write_pdf

    if not can_write_pdf():
        return False, False
    fonts = find_fonts([Path(font) for font in further])
    return write_pdf(checked, fonts) == data, producer(fonts).encode() in data


def _check_evidence(app: App, checked: CheckedMinutes, path: str) -> None:
    from hashlib import sha256

    from tpmhsm.attest.format import format_evidence
    from tpmhsm.cli.attest_challenge import read_evidence

    evidence = read_evidence(app, path)
    held = checked.minutes.evidence
    if held is None or sha256(format_evidence(evidence)).digest() != held.sha256:
        raise VerificationError(
            f"{path} is not the evidence of these minutes", code="other-evidence"
        )
    known = {key.public for key in evidence.keys}
    for key in checked.minutes.keys:
        if key.public not in known:
            raise VerificationError(
                f"{path}: the chip says nothing of the key {key.label}", code="other-evidence"
            )


def describe(checked: CheckedMinutes) -> dict[str, Any]:
    """Facts of minutes for people and programs; JSON-ready."""
    from hashlib import sha256

    from tpmhsm.approval.minutes_words import act_in_words
    from tpmhsm.policy import moments

    found = checked.minutes
    return {
        "title": found.title,
        "group": found.group.name,
        "group_id": found.group.id.hex(),
        "fingerprint": " ".join(found.words),
        "began": moments.stamp(found.began),
        "ended": moments.stamp(found.ended),
        "device": found.device.kind,
        "digest": found.digest.hex(),
        "approvers": list(checked.approvers),
        "witnesses": list(found.witnesses),
        "acts": [
            {
                "request": one.act.request.id,
                "kind": one.act.request.kind,
                "words": act_in_words(one),
                "digest": one.act.request.digest.hex(),
                "approved_by": list(one.approvers),
                "needed": one.needed,
                "executed": moments.stamp(one.act.executed) if one.act.executed else None,
            }
            for one in checked.acts
        ],
        "keys": [{"label": key.label, "name": key.name.hex()} for key in found.keys],
        "certificates": [
            {"label": one.label, "sha256": sha256(one.der).hexdigest()}
            for one in found.certificates
        ],
        "evidence": found.evidence.sha256.hex() if found.evidence else None,
        "notes": [{"kind": note.kind, "words": note.words} for note in found.notes],
    }


def _words(found: dict[str, Any]) -> str:
    acts = [
        (
            str(act["request"]),
            act["words"],
            ", ".join(act["approved_by"]),
            f"{len(act['approved_by'])} of {act['needed']}",
        )
        for act in found["acts"]
    ]
    head = facts([
        ("Minutes", found["title"]),
        ("Device", found["device"]),
        ("Document", found["digest"]),
        ("Fingerprint", found["fingerprint"]),
        ("Evidence", f"{found['evidence'] or 'none'}{_whether(found)}"),
        ("Its words", PAGE_WORDS[found["page"]]),
    ])  # fmt: skip
    rest = "\n".join(prose(f"- {line}") for line in found["not_signed"])
    return (
        f"every signature holds\n{head}\n"
        f"{table(('REQUEST', 'ACT', 'APPROVED BY', 'NEEDED'), acts, empty='')}\n"
        f"not signed by any key:\n{rest}"
    )


def _whether(found: dict[str, Any]) -> str:
    if not found["evidence"]:
        return ""
    return " (this file)" if found["evidence_checked"] else " (not looked at: --evidence)"


def show_minutes(data: bytes) -> tuple[dict[str, Any], str] | None:
    """What minutes say, and whether their signatures hold; None for all else."""
    from tpmhsm.approval.minutes import is_minutes, parse_minutes
    from tpmhsm.approval.minutes_check import check_minutes

    if not is_minutes(data):
        return None
    held = parse_minutes(data)
    try:
        found = {"verified": True, **describe(check_minutes(held))}
    except TpmHsmError as error:
        found = {"verified": False, "fault": error.message, "title": held.title}
        found["group"] = held.group.name
    pairs = [("Minutes", held.title), ("Fingerprint", " ".join(held.words))]
    pairs += [("Signatures", "every one holds" if found["verified"] else f"NO: {found['fault']}")]
    pairs += [("People", ", ".join(found.get("approvers", ()))), ("Document", held.digest.hex())]
    return found, f"{facts(pairs)}\n(tpmhsm minutes verify, tpmhsm minutes print)"
