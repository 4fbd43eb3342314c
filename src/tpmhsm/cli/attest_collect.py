"""`tpmhsm attest collect`: on the host, with the chip."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.files import STDIO, read_input
from tpmhsm.cli.options import Out, out_options
from tpmhsm.errors import UsageError

if TYPE_CHECKING:
    from tpmhsm.attest.format import Evidence
    from tpmhsm.keys.evidence import Collected, Wanted

_DEFAULT = "evidence.json"
EVENT_LOG = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
MAX_EVENT_LOG = 4 << 20
"""Bytes. Firmware reserves 64 KiB to 1 MiB for it."""


@click.command(epilog="Example: tpmhsm attest collect --key root --nonce 5c0f…e1 --out ca.evidence")
@click.option("--key", "labels", multiple=True, metavar="LABEL", help="Of these keys alone.")
@click.option("--nonce", metavar="HEX", help="The verifier's, 8 to 32 bytes: proof of freshness.")
@click.option("--event-log", metavar="F", help="The firmware's log, where it is not in /sys.")
@click.option(
    "--ak-certificate",
    "ak_certificates",
    multiple=True,
    metavar="F",
    help="Of the attestation key: what a verifier issued (attest certify), and its issuers'.",
)
@click.option("--no-rsa", is_flag=True, help="No RSA attestation key: it takes room in the chip.")
@out_options(f"{_DEFAULT} by default.")
@pass_app
def collect(
    app: App,
    labels: tuple[str, ...],
    nonce: str | None,
    event_log: str | None,
    ak_certificates: tuple[str, ...],
    no_rsa: bool,
    out: Out,
) -> None:
    """Write what the chip says of itself, its keys, groups and budgets into one file.

    All keys and groups, if none is named. Whoever verifies it should choose the nonce; without one
    the file says what was so when it was made, and nobody can tell when that was.
    """
    from tpmhsm.attest.format import format_evidence
    from tpmhsm.keys.evidence import Wanted

    path = out.claim(_DEFAULT)
    wanted = Wanted(
        labels=labels,
        nonce=parse_nonce(nonce) if nonce else b"",
        event_log=_event_log(app, event_log),
        ak_certificates=_certificates(app, ak_certificates),
        rsa=not no_rsa,
    )
    found = gather(app, wanted)
    out.write(format_evidence(found.evidence), _DEFAULT)
    if path == STDIO:
        return
    for remark in (*found.notes, *_remarks(found.evidence, asked=bool(nonce))):
        app.note(remark)
    app.done(_json(found, path), lambda: _words(found, path), made="" if out.out else path)


def gather(app: App, wanted: Wanted) -> Collected:
    """Ask the chip, with a nonce of our own where there is no other, and the proof of the log."""
    from tpmhsm.keys.evidence import NONCE_SIZE, collect
    from tpmhsm.requests.copied import copies_of

    nonce = wanted.nonce or secrets.token_bytes(NONCE_SIZE)
    with app.progress("the chip is asked"):
        copies = copies_of(app.store, app.desk, wanted.labels)
        wanted = replace(wanted, nonce=nonce, audit=_log_proof(app, nonce), copies=copies)
        return collect(app.store, app.device, app.groups, wanted)


def parse_nonce(text: str) -> bytes:
    """8 to 32 bytes from hexadecimal. UsageError."""
    from tpmhsm.attest.format import NONCE_SIZES

    try:
        nonce = bytes.fromhex(text)
    except ValueError:
        nonce = b""
    if len(nonce) not in NONCE_SIZES:
        raise UsageError("a nonce is 8 to 32 bytes in hexadecimal", hint="openssl rand -hex 32")
    return nonce


def _event_log(app: App, file: str | None) -> bytes | None:
    """The file that is named, or the kernel's on hardware, as far as it can be read."""
    if file:
        return read_input(file, limit=MAX_EVENT_LOG)
    if app.device.kind != "hardware" or not EVENT_LOG.exists():
        return None
    try:
        return EVENT_LOG.read_bytes()[:MAX_EVENT_LOG]
    except OSError as error:
        app.note(f"without the event log: {EVENT_LOG}: {error.strerror}; --event-log names a copy")
        return None


def _log_proof(app: App, nonce: bytes) -> Mapping[str, Any] | None:
    """The proof of the log, where the chip audits for this home, as far as there is room for it."""
    from tpmhsm.attest.format import MAX_AUDIT
    from tpmhsm.keys.auditing import Auditing
    from tpmhsm.policy.documents import encode_json

    auditing = Auditing(app.store, app.device)
    if not auditing.is_on():
        return None
    proof = auditing.prove(nonce)
    for one in (proof, replace(proof, documents=())):
        found = one.encode()
        if len(encode_json(found)) <= MAX_AUDIT:
            return found
    app.note("without the proof of the log, which is too large: tpmhsm audit prove writes it")
    return None


def _certificates(app: App, files: tuple[str, ...]) -> tuple[bytes, ...]:
    """Those given, or those kept here for the attestation key, its own first."""
    from tpmhsm.attest.public_keys import spki_of_public
    from tpmhsm.cli.csr_evidence import kept_ak_certificates
    from tpmhsm.keys.host import load_host
    from tpmhsm.pki.load import certificate_ders
    from tpmhsm.pki.signatures import split_signed
    from tpmhsm.pki.tbs import read_tbs_certificate

    given = [der for file in files for der in certificate_ders(app.read(file), file)]
    if not given:
        return tuple(kept_ak_certificates(app))
    own = spki_of_public(load_host(app.store).ak_public)
    if read_tbs_certificate(split_signed(given[0])[0]).spki != own:
        raise UsageError(
            f"the first certificate of {files[0]} is not for this chip's attestation key",
            code="other-key",
            hint="tpmhsm attest certify makes one for it",
        )
    return tuple(given)


def _remarks(evidence: Evidence, *, asked: bool) -> list[str]:
    remarks = [f"the chip is a {evidence.device.kind}: this proves no hardware"]
    return [
        *(remarks if evidence.device.kind == "software TPM" else []),
        *(
            []
            if asked
            else ["no verifier's nonce: --nonce HEX proves that it is not an old answer"]
        ),
    ]


def _json(found: Collected, path: str) -> dict[str, object]:
    evidence = found.evidence
    return {
        "file": path,
        "nonce": evidence.nonce.hex(),
        "device": evidence.device.kind,
        "eks": len(evidence.eks),
        "ek_certificates": sum(one.certificate is not None for one in evidence.eks),
        "aks": len(evidence.aks),
        "keys": [key.label for key in evidence.keys],
        "groups": len(evidence.groups),
        "budgets": len(evidence.budgets),
        "event_log": evidence.event_log is not None,
        "audit": evidence.audit is not None,
        "commands": found.commands,
        "notes": list(found.notes),
    }


def _words(found: Collected, path: str) -> str:
    evidence = found.evidence
    keys = f"{len(evidence.keys)} key{'' if len(evidence.keys) == 1 else 's'}"
    groups = f"{len(evidence.groups)} group{'' if len(evidence.groups) == 1 else 's'}"
    return (
        f"{path}: evidence of {keys} and {groups}, nonce {evidence.nonce.hex()[:16]}…\n"
        f"tpmhsm show {path} tells what is in it"
    )
