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

from tpmhsm.errors import ParseError, VerificationError
from tpmhsm.pki import der
from tpmhsm.pki.load import certificate_ders
from tpmhsm.pki.path_certificate import PathCertificate, read_path_certificate
from tpmhsm.pki.signatures import algorithm_oid, is_signed_by

PINNED = Path(__file__).with_name("yubico.pem")

PIN_ALWAYS, TOUCH_ALWAYS = 3, 2
PIN_POLICIES = {1: "never", 2: "once", 3: "always", 4: "or fingerprint once", 5: "or fingerprint"}
TOUCH_POLICIES = {1: "never", 2: "always", 3: "cached for 15 seconds"}

_ARC = "1.3.6.1.4.1.41482.3."
_FIRMWARE, _SERIAL, _POLICY, _FORM, _FIPS = (_ARC + n for n in ("3", "7", "8", "9", "10"))
_DEVICE = "Yubico PIV Attestation"
_SLOT = "YubiKey PIV Attestation "
_ALGORITHMS = frozenset(
    [f"1.2.840.113549.1.1.{n}" for n in (11, 12, 13)]
    + [f"1.2.840.10045.4.3.{n}" for n in (2, 3, 4)]
)
_MAX = 1 << 13


@dataclass(frozen=True)
class Anchors:
    """Certificates that are believed: `direct` may sign devices' f9, `above` only authorities.

    Those in `mixed` (SHA-256 of the DER) certify other things too.
    """

    direct: tuple[PathCertificate, ...]
    above: tuple[PathCertificate, ...]
    mixed: tuple[PathCertificate, ...] = ()


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
    held = (_load(raw, PINNED.name) for raw in certificate_ders(PINNED.read_bytes(), PINNED.name))
    found = {_common_name(c): c for c in held}
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
        issuer = _common_name(replace(device, subject=device.issuer))[:80]
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


def _load(raw: bytes, what: str) -> PathCertificate:
    try:
        if len(raw) > _MAX:
            raise ParseError("it is too long")
        found = read_path_certificate(raw)
        faults = [fault.words for fault in found.faults]
        if faults:
            raise ParseError(faults[0])
        return found
    except ParseError as e:
        raise ParseError(f"{what} cannot be read: {e.message}") from None


def _issued(subject: PathCertificate, issuer: PathCertificate) -> bool:
    """Whether the names meet and the signature holds, by RSA or ECDSA with SHA-2."""
    if subject.issuer != issuer.subject or algorithm_oid(subject.algorithm) not in _ALGORITHMS:
        return False
    return is_signed_by(subject.raw, issuer.spki)


def _climb(authority: PathCertificate, anchors: Anchors) -> PathCertificate:
    """From a pinned authority to its root. The file's own consistency, once more."""
    for _ in range(4):
        if _issued(authority, authority):
            return authority
        authority = next((a for a in anchors.above if _issued(authority, a)), authority)
    raise _refuse("a pinned authority without a root")


def _common_name(certificate: PathCertificate) -> str:
    """The one attribute that these subjects have; empty for others."""
    try:
        (rdn,) = der.children(der.read_whole(certificate.subject).content)
        (attribute,) = der.children(rdn.content)
        kind, value = der.children(attribute.content)
        if der.decode_oid(kind.content) != "2.5.4.3":
            return ""
        return value.content.decode()
    except (ValueError, ParseError):
        return ""


def _read(statement: PathCertificate, device: PathCertificate) -> Attested:
    values = {oid: extension.value for oid, extension in statement.extensions.items()}
    firmware, policy = _octets(values, _FIRMWARE, 3), _octets(values, _POLICY, 2)
    return Attested(
        spki=statement.spki,
        slot=_slot(_common_name(statement)),
        firmware=(firmware[0], firmware[1], firmware[2]),
        serial=_integer(values[_SERIAL]) if _SERIAL in values else 0,
        pin_policy=policy[0],
        touch_policy=policy[1],
        fips=_FIPS in values or _FIPS in device.extensions,
    )


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
