"""`tpmhsm audit`: the log of all acts, and the chip's word on what it signed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app, prose, table
from tpmhsm.cli.files import STDIO
from tpmhsm.cli.options import Out, out_options
from tpmhsm.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from tpmhsm.attest.audit_chain import LogJudgement
    from tpmhsm.attest.audit_proof import LogProof
    from tpmhsm.store import Transaction
    from tpmhsm.store.audit import AuditRow

_NONCE = "The verifier's own random bytes, 8 to 32 in hexadecimal."


@click.group(epilog="Example: tpmhsm audit prove --nonce 5f0c… --out log.proof")
def audit() -> None:
    """The log of all acts: list it, prove that it is complete, verify that."""


@audit.command(epilog="Example: tpmhsm audit start")
@pass_app
def start(app: App) -> None:
    """Have the chip audit each signature from now on; init does that for a software TPM.

    Other programs that use the chip are audited, too, and then the log is not proven. Keys that
    were made before stay unproven: make new ones.
    """
    from tpmhsm.keys.auditing import Auditing

    new = Auditing(app.store, app.device).start()
    words = "the chip audits signatures from now on" if new else "the chip did so already"
    app.done({"started": new}, f"{words}; tpmhsm audit prove --out log.proof shows it")


@audit.command("list", epilog="Example: tpmhsm audit list --since 2026-11-01 --key issuing")
@click.option("--since", metavar="TIME", help="RFC 3339, or a date.")
@click.option("--key", "label", metavar="LABEL", help="What was done with a key.")
@click.option("--act", metavar="ACT", help="One kind of acts: issued, revoke, key-create …")
@click.option("--last", type=click.IntRange(1), default=100, show_default=True, metavar="N",
              help="So many at most, the newest.")  # fmt: skip
@click.option("--signatures", is_flag=True, help="What the chip signed, in its own order.")
@pass_app
def list_(
    app: App, since: str | None, label: str | None, act: str | None, last: int, signatures: bool
) -> None:
    """The log's entries, or with --signatures all that the chip signed since it audits."""
    from collections import deque

    from tpmhsm.cli.times import parse_time
    from tpmhsm.keys.auditing import Auditing

    begin = parse_time(since).strftime("%Y-%m-%dT%H:%M:%SZ") if since else ""
    if signatures and act:
        raise UsageError("--signatures lists signatures, and --act acts of the log")
    if signatures:
        Auditing(app.store, app.device).collect()
    with app.store.reading() as tx:
        found = _signatures(tx, label) if signatures else _acts(tx, label, act)
        items = list(deque((one for one in found if one["at"] >= begin), maxlen=last))
    app.emit({"items": items}, lambda: _as_table(items, signatures=signatures))


def _acts(tx: Transaction, label: str | None, act: str | None) -> Iterator[dict[str, Any]]:
    about = _About(tx, label) if label else None
    for row in tx.audit.each(act or ""):
        if about is None or about.covers(row):
            yield vars(row)


def _signatures(tx: Transaction, label: str | None) -> Iterator[dict[str, Any]]:
    from tpmhsm.attest.audit_records import Audited, read_record

    labels = {row.name: row.label for row in tx.keys.all(deleted=True)}
    for row in tx.chip_records.each():
        record = read_record(row.record)
        if not isinstance(record, Audited) or not record.is_signature:
            continue
        key = labels.get(row.key_name, "")
        if label is None or key == label:
            yield {
                "n": row.n,
                "at": _moment(record.at),
                "key": key,
                "key_name": row.key_name,
                "digest": row.digest,
            }


def _moment(at: int) -> str:
    from tpmhsm.attest.audit_faults import moment

    return moment(at)


class _About:
    """Whether an entry is about one key: it, its authorities, its requests."""

    def __init__(self, tx: Transaction, label: str) -> None:
        self._label = label
        self._names = {row.name for row in tx.keys.all(deleted=True) if row.label == label}
        self._authorities = {a.name for a in tx.authorities.all() if a.key_label == label}
        self._requests = {row.id for row in tx.requests.all() if row.key == label}

    def covers(self, row: AuditRow) -> bool:
        said = row.facts if isinstance(row.facts, dict) else {}
        request = said.get("request", said.get("id") if row.act.startswith("request") else None)
        return (
            self._label in (said.get("label"), said.get("key"))
            or said.get("name") in self._names
            or said.get("ca", said.get("name") if row.act.startswith("ca-") else None)
            in self._authorities
            or request in self._requests
        )


def _as_table(items: list[dict[str, Any]], *, signatures: bool) -> str:
    if signatures:
        rows = [[str(i["n"]), i["at"], i["key"] or i["key_name"][:16], i["digest"]] for i in items]
        return table(["No", "Time", "Key", "Digest"], rows, empty="the chip signed nothing yet")
    rows = [[str(i["seq"]), i["at"], i["actor"], i["act"], _said(i["facts"])] for i in items]
    return table(["No", "Time", "Who", "Act", "What"], rows, empty="no such entries")


def _said(told: Any) -> str:
    if not isinstance(told, dict):
        return str(told)
    return " ".join(f"{name}={_short(value)}" for name, value in told.items())


def _short(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else f"{text[:16]}…"


@audit.command(epilog="Example: tpmhsm audit prove --nonce 5f0c91aa03d27e44 --out log.proof")
@click.option("--nonce", metavar="HEX", help=_NONCE)
@click.option("--bare", is_flag=True, help="Without the certificates and CRLs that were signed.")
@out_options()
@pass_app
def prove(app: App, nonce: str | None, bare: bool, out: Out) -> None:
    """Have the chip certify the log as it stands: one file that anybody can verify.

    It is JSON itself, so --json changes nothing on stdout.
    """
    from tpmhsm.keys.auditing import Auditing
    from tpmhsm.policy.documents import encode_json

    asked = _nonce(nonce) or b""
    target = out.claim()
    with app.progress("the chip certifies the log"):
        proof = Auditing(app.store, app.device).prove(asked, documents=not bare)
    out.write(encode_json(proof.encode()) + b"\n")
    if target != STDIO:
        found = {"file": target, "entries": len(proof.entries), "records": len(proof.records)}
        app.done(found, f"wrote {target}: anybody checks it with tpmhsm audit verify {target}")


def _nonce(text: str | None) -> bytes | None:
    from tpmhsm.cli.attest_collect import parse_nonce

    return None if text is None else parse_nonce(text)


@audit.command(epilog="Example: tpmhsm audit verify log.proof --card host.card --key issuing")
@click.argument("file", metavar="F")
@click.option("--card", metavar="F", help="The device's card; else one that is trusted here.")
@click.option("--key", "labels", multiple=True, metavar="LABEL|NAME",
              help="Keys that are asked about; all by default.")  # fmt: skip
@click.option("--nonce", metavar="HEX", help=_NONCE)
@pass_app
def verify(
    app: App, file: str, card: str | None, labels: tuple[str, ...], nonce: str | None
) -> None:
    """Say whether a log is complete: each signature that the chip made is in it, and no other.

    Exits 0 for complete, 1 for not proven and for refuted. Needs no chip. The chip is known by its
    card, which came by another way than the file; or by attest verify, from evidence.
    """
    from tpmhsm.attest.audit_chain import judge_log
    from tpmhsm.attest.audit_proof import MAX_PROOF, proof_of
    from tpmhsm.attest.page import is_page
    from tpmhsm.attest.report import evidence_in
    from tpmhsm.policy.documents import parse_json

    data = app.read(file, limit=MAX_PROOF)
    if is_page(data):
        data = evidence_in(data)
    document = parse_json(data, file, MAX_PROOF)
    if isinstance(inner := document.get("audit"), dict):  # a file of evidence
        document = inner
    proof = proof_of(document)
    known, whose = _attestation_key(app, proof, card)
    judged = judge_log(proof, known or proof.ak, _names(proof, labels), _nonce(nonce))
    found = _json(judged, whose)
    if judged.answer == "proven" and known is not None:
        app.emit(found, lambda: _shown(judged, whose))
        return
    if judged.answer == "proven":
        found |= {"answer": "not-proven", "complete": False}
        message = "not proven: the log fits its attestation key, but whose that is nobody says here"
        hint = "--card host.card, or tpmhsm trust add host.card: the card came by another way"
        raise VerificationError(message, code="ak-unknown", hint=hint, details=found)
    code = judged.findings[0].code
    raise VerificationError(judged.words, code=code, details=found, hint=_next(judged))


def _next(judged: LogJudgement) -> str:
    if judged.answer == "refuted":
        return "somebody changed the log: compare it with a backup, and find out who"
    return "ask what was signed in that time; a checkpoint after it (audit prove) begins anew"


def _attestation_key(app: App, proof: LogProof, card: str | None) -> tuple[bytes | None, str]:
    """The proof's attestation key if a card or this home knows it, and who says so."""
    from tpmhsm.approval.cards import parse_device_card

    if card is not None:
        told = parse_device_card(app.read(card))
        return told.ak_public, f"the card of {told.label}"
    for known, whose in _known_keys(app):
        if known == proof.ak:
            return known, whose
    return None, ""


def _known_keys(app: App) -> Iterator[tuple[bytes, str]]:
    from tpmhsm.errors import StoreError
    from tpmhsm.keys.host import find_host
    from tpmhsm.requests.memory import StoredMemory

    try:
        store = app.store
    except StoreError:
        return
    with store.reading() as tx:
        cards = StoredMemory(tx).device_cards()
    for one in cards:
        yield one.ak_public, f"the card of {one.label}, which is trusted here"
    if host := find_host(store):
        yield host.ak_public, "this home: it is its own chip"


def _names(proof: LogProof, labels: tuple[str, ...]) -> list[bytes]:
    found = []
    for label in labels:
        named = [k.name for k in proof.keys if label in (k.label, k.name.hex())]
        if not named:
            raise UsageError(f"the proof knows no key {label!r}", code="not-found")
        found += named
    return found


def _json(judged: LogJudgement, whose: str) -> dict[str, Any]:
    return {
        "answer": judged.answer,
        "complete": judged.answer == "proven",
        "words": judged.words,
        "findings": [vars(one) for one in judged.findings],
        "notes": list(judged.notes),
        "signatures": judged.signatures,
        "checkpoints": judged.checkpoints,
        "since": judged.since,
        "until": judged.until,
        "attestation_key": whose,
    }


def _shown(judged: LogJudgement, whose: str) -> str:
    told = facts(
        [
            ("Signatures", f"{judged.signatures:,}"),
            ("Checkpoints", f"{judged.checkpoints:,}, {judged.since} to {judged.until}"),
            ("Chip", f"known by {whose}"),
        ]
    )
    return "\n".join([prose(judged.words), told, *(f"note: {note}" for note in judged.notes)])
