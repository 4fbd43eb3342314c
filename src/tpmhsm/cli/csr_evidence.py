"""Evidence in CSRs, on the command line: put in, shown, verified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tpmhsm.cli.app import App
from tpmhsm.errors import ParseError


def made_bundle(app: App, label: str, files: Sequence[str] = ()) -> bytes:
    """The evidence for a key of this home; `files` are certificates of the attestation key and of
    those who issued it. Without any, those that are kept here for it.
    """
    from tpmhsm.pki.load import certificate_ders
    from tpmhsm.requests.csr_evidence import evidence_bundle

    given = [raw for file in files for raw in certificate_ders(app.read(file), file)]
    row = app.keyring.signing(label)
    return evidence_bundle(app.store, row, given or kept_ak_certificates(app))


def kept_ak_certificates(app: App) -> list[bytes]:
    """The newest certificate of the attestation key in the database, and what is above it."""
    from hashlib import sha256

    from tpmhsm.attest.public_keys import spki_of_public
    from tpmhsm.cli.exporting import bundle_ders
    from tpmhsm.keys.host import load_host

    spki = sha256(spki_of_public(load_host(app.store).ak_public)).hexdigest()
    with app.store.reading() as tx:
        rows = tx.certificates.all(spki_sha256=spki)
    newest = max(rows, key=lambda row: row.not_after, default=None)
    return bundle_ders(app, newest.sha256, "fullchain") if newest else []


def evidence_facts(csr: bytes) -> dict[str, Any] | None:
    """What the evidence in a CSR (DER) says, unverified and JSON-ready; None if there is none."""
    from tpmhsm.attest.csr_bundle import find_bundle
    from tpmhsm.attest.csr_words import describe_bundle

    try:
        bundle = find_bundle(csr)
    except ParseError as error:
        return {"problem": error.message}
    return describe_bundle(bundle) if bundle else None


def evidence_lines(found: dict[str, Any] | None) -> list[tuple[str, str]]:
    """The same for people."""
    if found is None:
        return []
    if "problem" in found:
        return [("Evidence", f"cannot be read: {found['problem']}")]
    statements = "\n".join(one["words"] for one in found["statements"])
    return [
        ("Evidence", statements),
        ("By", "\n".join(f"attestation key {name}" for name in found["attestation_keys"])),
        ("Certified", "\n".join(found["certificates"])),
    ]


def proven_facts(
    app: App, csr: bytes, files: Sequence[str], names: Sequence[str], at: str | None
) -> dict[str, Any]:
    """Verify the evidence of a CSR (DER) against these roots and attestation keys; JSON-ready."""
    from datetime import UTC, datetime

    from tpmhsm.attest.believed import read_believed
    from tpmhsm.attest.csr_evidence import verify_csr_evidence
    from tpmhsm.cli.times import parse_time

    believed = read_believed([(file, app.read(file)) for file in files], names)
    proven = verify_csr_evidence(csr, believed, parse_time(at) if at else datetime.now(UTC))
    return {**proven.facts, "words": proven.words, "notes": list(proven.notes)}
