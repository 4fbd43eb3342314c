"""Which certificate a person means to revoke: by its serial, or the certificate itself.

A certificate counts as an authority's when its issuer has the authority's name and the authority's
key made its signature; the database need not know it, for it may be older than a restored one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cryptography import x509

from tpmhsm.ca.records import certificate_row
from tpmhsm.errors import NotFoundError, RefusedError, UsageError, VerificationError
from tpmhsm.pki.chains import fields_of
from tpmhsm.pki.describe import describe_certificate
from tpmhsm.pki.key_checks import usual_digest
from tpmhsm.pki.signatures import is_signed_by
from tpmhsm.pki.tbs import read_tbs_certificate, serial_hex, tbs_facts

if TYPE_CHECKING:
    from tpmhsm.store import Transaction
    from tpmhsm.store.certificates import CertificateRow

_SERVER = frozenset(("serverAuth", "anyExtendedKeyUsage"))
_HEX = re.compile("[0-9a-fA-F]{1,40}")


@dataclass(frozen=True)
class Target:
    """One certificate of an authority: `serial` hexadecimal, times RFC 3339, `sha256` empty when
    the certificate itself is not here (its signature was never stored); `spki_sha256` its
    key's, `usual_sha256` as `usual_digest`. `web`: it may serve a TLS server, or is a CA's.
    """

    serial: str
    not_before: str
    not_after: str
    ca: bool
    subject: str
    sha256: str = ""
    spki_sha256: str = ""
    usual_sha256: str = ""
    web: bool = True


def readings(text: str) -> tuple[int, ...]:
    """The numbers that a serial may mean. UsageError for what is none.

    `0x…`, colons and the letters a to f make it hexadecimal. Digits alone can be read both ways.
    """
    digits = text.strip().replace(":", "").replace(" ", "")
    marked = digits[:2] in ("0x", "0X")
    digits = digits[2:] if marked else digits
    if not _HEX.fullmatch(digits) and not (digits.isascii() and digits.isdigit()):
        raise UsageError(
            f"{text!r} is neither a serial nor a file",
            hint="a serial is decimal, or hexadecimal as 0x4f1c… or 4f:1c:…",
            code="bad-serial",
        )
    hexadecimal, decimal = digits.strip("0123456789") != "", digits.isdigit()
    if marked or ":" in text or hexadecimal or not decimal:
        return (int(digits, 16),)
    if len(digits) > 48:
        raise UsageError("a serial has at most 20 octets", code="bad-serial")
    found = [int(digits)]
    if len(digits) <= 40:
        found.append(int(digits, 16))
    return tuple(dict.fromkeys(found))


def by_serial(tx: Transaction, authority: str, own: bytes, text: str) -> Target:
    """The certificate of this serial that an authority issued; `own` is the authority's (DER).

    Raises NotFoundError, and UsageError for digits that are one serial in decimal and another in
    hexadecimal.
    """
    numbers = readings(text)
    found = [t for n in numbers if (t := _known(tx, authority, own, serial_hex(n))) is not None]
    if len(found) > 1:
        raise UsageError(
            f"{text} is one certificate's serial in decimal, another's in hexadecimal",
            hint=f"0x{found[0].serial} or 0x{found[1].serial}",
            code="ambiguous",
        )
    if not found:
        shown = " or ".join(f"0x{serial_hex(n)}" for n in numbers)
        raise NotFoundError(
            f"{authority!r} is not known to have issued a certificate of serial {shown}",
            hint="tpmhsm cert show NAME shows a serial; a certificate's file can be named instead",
        )
    return found[0]


def _known(tx: Transaction, authority: str, own: bytes, serial: str) -> Target | None:
    for row in tx.certificates.of_serial(serial):
        if row.authority == authority or _is_issued_by(row.der, own):
            return _of_row(tx, authority, row)
    record = tx.serials.find(authority, serial)
    if record is None:
        return None
    if record.state == "reserved":
        raise RefusedError(
            f"the certificate of serial {serial} is not issued yet",
            hint=f"tpmhsm request cancel {record.request_id}" if record.request_id else "",
            code="not-issued",
        )
    # abandoned, or its record is gone: the chip may have signed it all the same
    facts = tbs_facts(record.tbs)
    return Target(
        serial,
        facts["not_before"],
        facts["not_after"],
        facts["ca"],
        facts["subject"],
        spki_sha256=facts["key"]["sha256"],
        usual_sha256=usual_digest(read_tbs_certificate(record.tbs).spki),
        web=_is_web(facts),
    )


def by_file(tx: Transaction, authority: str, own: bytes, raw: bytes, what: str) -> Target:
    """The certificate itself (DER), kept if it was not known. VerificationError unless the
    authority issued it.
    """
    if not _is_issued_by(raw, own):
        subject = describe_certificate(own)["subject"]
        raise VerificationError(
            f"{what}: this certificate was not issued by {authority!r} ({subject})",
            code="wrong-issuer",
            hint="tpmhsm ca list shows the authorities; its issuer revokes it",
        )
    known = tx.certificates.find(describe_certificate(raw)["sha256"])
    if known is None:
        certificate = x509.load_der_x509_certificate(raw)
        known = tx.certificates.add(
            certificate_row(certificate, source="imported", authority=authority)
        )
    return _of_row(tx, authority, known)


def _of_row(tx: Transaction, authority: str, row: CertificateRow) -> Target:
    if row.authority is None:
        tx.certificates.save(replace(row, authority=authority))
    return Target(
        row.serial,
        row.not_before,
        row.not_after,
        row.is_ca,
        row.subject,
        row.sha256,
        row.spki_sha256,
        usual_digest(fields_of(row.der).spki),
        _is_web(describe_certificate(row.der)),
    )


def _is_web(facts: dict[str, Any]) -> bool:
    """RFC 5280, 4.2.1.12: without the extension any use is meant."""
    uses = facts["extended_key_usage"]
    return facts["ca"] or not uses or not _SERVER.isdisjoint(uses)


def _is_issued_by(raw: bytes, own: bytes) -> bool:
    issuer = fields_of(own)
    return fields_of(raw).issuer == issuer.subject and is_signed_by(raw, issuer.spki)


def refuse_itself(own: bytes, target: Target, authority: str) -> None:
    """RefusedError for a root's own certificate: nobody would believe its CRL."""
    fields = fields_of(own)
    if fields.subject == fields.issuer and serial_hex(fields.serial) == target.serial:
        raise RefusedError(
            f"{authority!r} cannot revoke its own root certificate: whoever trusts it does not look"
            " for a CRL about it, and its signature would be worth nothing",
            hint="revoke what it issued, and have it removed from all trust stores",
            code="own-root",
        )
