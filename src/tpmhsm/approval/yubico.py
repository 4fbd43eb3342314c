"""Yubico's word for a key: the attestation of a PIV slot, from one file and pinned roots, off line.

    statement   the slot's key, firmware, serial, policies; signed by slot f9 (ATTEST, INS F9)
    device      f9's certificate; signed at the factory, by a pinned authority for PIV alone
    root        above that authority, pinned too (`yubico.pem`, with where each comes from)

https://developers.yubico.com/PIV/Introduction/PIV_attestation.html gives the extensions below
1.3.6.1.4.1.41482.3. The path has this one shape and is checked as it stands, not as RFC 5280 has
it: the f9 of some YubiKey 4 says no CA:TRUE and stands below a root with a path length of 0
(openssl refuses those, go-piv takes them), and dates mean nothing in a chip. In the place of
constraints: a device must be signed by a pinned authority itself, so that no key in a slot can pose
as an f9; and under a root that certifies other things too, it must be called a PIV attestation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tpmhsm.errors import ParseError, VerificationError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

PINNED = Path(__file__).with_name("yubico.pem")

PIN_ALWAYS, TOUCH_ALWAYS = 3, 2
PIN_POLICIES = {1: "never", 2: "once", 3: "always", 4: "or fingerprint once", 5: "or fingerprint"}
TOUCH_POLICIES = {1: "never", 2: "always", 3: "cached for 15 seconds"}

_ARC = "1.3.6.1.4.1.41482.3."
_FIRMWARE, _SERIAL, _POLICY, _FORM, _FIPS = (_ARC + n for n in ("3", "7", "8", "9", "10"))
_DEVICE = "Yubico PIV Attestation"
_SLOT = "YubiKey PIV Attestation "
_HASHES = ("sha256", "sha384", "sha512")
_MAX = 1 << 13


@dataclass(frozen=True)
class Anchors:
    """Certificates that are believed: `direct` may sign devices' f9, `above` only authorities.

    Those in `mixed` (SHA-256 of the DER) certify other things too.
    """

    direct: tuple[Certificate, ...]
    above: tuple[Certificate, ...]
    mixed: tuple[Certificate, ...] = ()


@dataclass(frozen=True)
class Attestation:
    """The two certificates as a card carries them, DER; nothing is checked yet."""

    statement: bytes
    device: bytes


@dataclass(frozen=True)
class Attested:
    """What a YubiKey says of a key in one of its slots. `spki` is the key, DER; `serial` is 0
    when the firmware states none (before 5.0).
    """

    spki: bytes
    slot: int
    firmware: tuple[int, int, int]
    serial: int
    pin_policy: int
    touch_policy: int
    fips: bool
    root: str = ""

    def describe(self) -> str:
        """Words: 'YubiKey 5, serial 12345678, PIN always, touch always, attested'."""
        return (
            f"YubiKey {self.firmware[0]}{' FIPS' if self.fips else ''}"
            f", serial {self.serial or 'not stated'}"
            f", PIN {PIN_POLICIES.get(self.pin_policy, '?')}"
            f", touch {TOUCH_POLICIES.get(self.touch_policy, '?')}, attested"
        )


@cache
def pinned() -> Anchors:
    """Yubico's authorities."""
    from cryptography.x509 import load_pem_x509_certificates

    found = {_common_name(c): c for c in load_pem_x509_certificates(PINNED.read_bytes())}
    piv, u2f = (
        found["Yubico PIV Root CA Serial 263751"],
        found["Yubico U2F Root CA Serial 457200631"],
    )
    direct = [c for name, c in found.items() if name.startswith(_DEVICE + " ")]
    above = [c for name, c in found.items() if name.startswith("Yubico Attestation ")]
    return Anchors((piv, u2f, *direct), tuple(above), (u2f,))


def verify_attestation(attestation: Attestation, anchors: Anchors | None = None) -> Attested:
    """Check both signatures and the way up to a root; return what the YubiKey says.

    Whether that is enough for an approver, `check_approver` says. VerificationError
    ('attestation') when a signature, the root or an extension is wrong; ParseError for bytes that
    are no certificates.
    """
    anchors = anchors or pinned()
    found = read_attestation(attestation)
    device = _load(attestation.device, "slot f9's certificate")
    authority = next((a for a in anchors.direct if _issued(device, a)), None)
    if authority is None:
        issuer = device.issuer.rfc4514_string()[:80]
        raise _refuse(f"slot f9 is certified by nobody known here: {issuer!a}")
    if authority in anchors.mixed and _common_name(device) != _DEVICE:
        raise _refuse("slot f9's certificate was not made for PIV attestations")
    return replace(found, root=_common_name(_climb(authority, anchors)))


def read_attestation(attestation: Attestation) -> Attested:
    """What somebody who calls itself a YubiKey says: slot f9's signature is checked, and nothing
    above it. Raises as `verify_attestation` does.
    """
    statement = _load(attestation.statement, "the slot's attestation")
    device = _load(attestation.device, "slot f9's certificate")
    if not _issued(statement, device):
        raise _refuse("the slot's attestation is not signed by that YubiKey's slot f9")
    return _read(statement, device)


def check_approver(attested: Attested, spki: bytes, serial: int | None = None) -> None:
    """Refuse (VerificationError) another key or serial, and a key without PIN and touch each time.

    Codes 'attestation-key', 'attestation-serial', 'attestation-policy'.
    """
    if attested.spki != spki:
        raise _refuse("the YubiKey attests another key than this", "attestation-key")
    if serial is not None and attested.serial != serial:
        raise _refuse(
            f"the attestation is that of YubiKey {attested.serial}, not {serial}",
            "attestation-serial",
        )
    if not attested.serial:
        raise _refuse("the YubiKey's firmware attests no serial number", "attestation-serial")
    if attested.pin_policy != PIN_ALWAYS:
        policy = PIN_POLICIES.get(attested.pin_policy, "?")
        raise _refuse(f"the key takes a PIN {policy}, not always", "attestation-policy")
    if attested.touch_policy != TOUCH_ALWAYS:
        policy = TOUCH_POLICIES.get(attested.touch_policy, "?")
        raise _refuse(f"the key's touch is {policy}, not always", "attestation-policy")


@dataclass(frozen=True)
class Proof:
    """What is known of where a key lives: what was attested, None if nothing; and in words."""

    attested: Attested | None
    words: str


def prove(attestation: Attestation | None, spki: bytes) -> Proof:
    """What people are told of a key that is said to be in a YubiKey. Never raises."""
    try:
        if attestation is None:
            raise _refuse("the card carries no attestation")
        found = verify_attestation(attestation)
        check_approver(found, spki)
    except (VerificationError, ParseError) as error:
        return Proof(None, f"not proven to be on a YubiKey: {error.message}")
    return Proof(found, found.describe())


def _refuse(message: str, code: str = "attestation") -> VerificationError:
    return VerificationError(message, code=code)


def _load(der: bytes, what: str) -> Certificate:
    from cryptography.x509 import load_der_x509_certificate

    try:
        if len(der) > _MAX:
            raise ValueError("too long")
        return load_der_x509_certificate(der)
    except ValueError as e:
        raise ParseError(f"{what} is no certificate: {e}") from None


def _issued(subject: Certificate, issuer: Certificate) -> bool:
    """Whether the names meet and the signature holds, with SHA-2."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        digest = subject.signature_hash_algorithm
        if digest is None or digest.name not in _HASHES:
            return False
        subject.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _climb(authority: Certificate, anchors: Anchors) -> Certificate:
    """From a pinned authority to its root. The file's own consistency, once more."""
    for _ in range(4):
        if _issued(authority, authority):
            return authority
        authority = next((a for a in anchors.above if _issued(authority, a)), authority)
    raise _refuse("a pinned authority without a root")


def _common_name(certificate: Certificate) -> str:
    from cryptography.x509.oid import NameOID

    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""


def _read(statement: Certificate, device: Certificate) -> Attested:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        values, fips = _extensions(statement), _FIPS in _extensions(device)
        key = statement.public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as e:
        raise ParseError(f"the slot's attestation cannot be read: {e}") from None
    firmware, policy = _octets(values, _FIRMWARE, 3), _octets(values, _POLICY, 2)
    return Attested(
        spki=spki,
        slot=_slot(_common_name(statement)),
        firmware=(firmware[0], firmware[1], firmware[2]),
        serial=_integer(values[_SERIAL]) if _SERIAL in values else 0,
        pin_policy=policy[0],
        touch_policy=policy[1],
        fips=fips or _FIPS in values,
    )


def _extensions(certificate: Certificate) -> dict[str, bytes]:
    from cryptography.x509 import UnrecognizedExtension

    return {
        e.oid.dotted_string: e.value.value
        for e in certificate.extensions
        if isinstance(e.value, UnrecognizedExtension)
    }


def _octets(values: dict[str, bytes], oid: str, size: int) -> bytes:
    """The bare bytes; newer firmware is said to wrap them in an OCTET STRING."""
    value = values.get(oid, b"")
    if len(value) == size + 2 and value[:2] == bytes([4, size]):
        value = value[2:]
    if len(value) != size:
        raise _refuse(f"the slot's attestation lacks the extension {oid}, of {size} bytes")
    return value


def _integer(value: bytes) -> int:
    if len(value) < 3 or value[0] != 2 or value[1] != len(value) - 2 or value[2] & 0x80:
        raise _refuse("the slot's attestation has a serial number that is no positive INTEGER")
    return int.from_bytes(value[2:], "big")


def _slot(name: str) -> int:
    digits = name.removeprefix(_SLOT)
    if not name.startswith(_SLOT) or len(digits) != 2:
        raise _refuse("the slot's attestation does not say of which slot it is")
    try:
        return int(digits, 16)
    except ValueError:
        raise _refuse("the slot's attestation does not say of which slot it is") from None
