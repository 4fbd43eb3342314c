"""Key attestation in DER, as far as it fits a TPM (draft-ietf-rats-pkix-key-attestation-07).

    Evidence        ::= SEQUENCE { tbs TbsEvidence, signatures SEQUENCE (0..MAX) OF SignatureBlock,
                                   intermediateCertificates [0] SEQUENCE OF Certificate OPTIONAL }
    TbsEvidence     ::= SEQUENCE { version INTEGER (1),
                                   reportedElements SEQUENCE OF ReportedElement }
    ReportedElement ::= SEQUENCE { elementType OBJECT IDENTIFIER,
                                   claims SEQUENCE OF SEQUENCE { claimType OBJECT IDENTIFIER,
                                                                 value ANY OPTIONAL } }

There is no SignatureBlock in what is written here, and there can be no honest one. The draft wants
claims signed by whoever observed them; a TPM signs its own structures alone. Its restricted key
would sign this DER too, for it hashes any bytes that do not begin as those structures do: but then
the host, not the chip, says what is in them. So what the chip did sign stands as a claim of its own
(`CLAIM_TPM`), in each key's element, and the draft's own claims are read out of the public area
that it speaks of. By the draft's section 6 nobody may rely on those without a signature;
`check_key_attestation` compares each with the chip's statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tpmhsm.attest.birthplaces import Birthplace, is_fixed
from tpmhsm.attest.csr_bundle import (
    ARC,
    TPM_CREATION,
    TpmEvidence,
    read_tpm_evidence,
    write_tpm_evidence,
)
from tpmhsm.attest.format import Evidence
from tpmhsm.attest.public_keys import spki_of_public
from tpmhsm.attest.statements import MADE_HERE, check_creation, key_for
from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.pki import der
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import ObjectAttributes
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public

EVIDENCE = "1.2.3.999"
"""id-evidence. Its number is not assigned yet (TBDMOD3); the working group's own programs use this
placeholder, and so must whoever wants to be read by them.
"""
PLATFORM, KEY = f"{EVIDENCE}.0.1", f"{EVIDENCE}.0.2"
VENDOR, SOFTWARE_VERSION = f"{EVIDENCE}.1.1.0", f"{EVIDENCE}.1.1.6"
IDENTIFIER, SPKI, EXTRACTABLE, SENSITIVE, NEVER_EXTRACTABLE, LOCAL = (
    f"{EVIDENCE}.1.2.{number}" for number in range(6)
)
PURPOSE = f"{EVIDENCE}.1.2.7"
SIGNS, DECRYPTS = f"{EVIDENCE}.2.4", f"{EVIDENCE}.2.1"

CLAIM_TPM = f"{ARC}.4"
"""What the chip signed of the key, as `TpmEvidence`: TPM2_CertifyCreation."""
CLAIM_AK = f"{ARC}.5"
"""Of the platform: TPMT_PUBLIC of the attestation key."""

PEM_LABEL = "EVIDENCE"
MAX_SIZE = 1 << 20
_TRUE, _FALSE = b"\xff", b"\0"


@dataclass(frozen=True)
class Reported:
    """A key and what the chip signed of it; `label` is the host's name for it."""

    label: str
    evidence: TpmEvidence = field(repr=False)


@dataclass(frozen=True)
class KeyAttestation:
    """The parts of the DER. `claims` of each key: DER by claim type, without those of the TPM."""

    ak_public: bytes = field(repr=False)
    keys: tuple[Reported, ...]
    claims: tuple[Mapping[str, bytes], ...]
    certificates: tuple[bytes, ...] = ()


def write_key_attestation(
    ak_public: bytes,
    keys: Sequence[Reported],
    certificates: Iterable[bytes] = (),
    *,
    vendor: str = "",
    firmware: str = "",
) -> bytes:
    """DER of an Evidence without signatures. `certificates` (DER) are those of the attestation and
    endorsement keys and their issuers; `vendor` and `firmware` are hints. ParseError for a key of
    an unknown kind.
    """
    platform = [
        *([(VENDOR, _text(vendor))] if vendor else []),
        *([(SOFTWARE_VERSION, _text(firmware))] if firmware else []),
        (CLAIM_AK, der.encode(der.OCTET_STRING, ak_public)),
    ]
    elements = [_element(PLATFORM, platform), *(_element(KEY, _key_claims(one)) for one in keys)]
    tbs = der.encode(der.SEQUENCE, der.encode_integer(1), der.encode(der.SEQUENCE, *elements))
    chain = b"".join(certificates)
    return der.encode(
        der.SEQUENCE, tbs, der.encode(der.SEQUENCE), der.encode(0xA0, chain) if chain else b""
    )


def key_attestation_of(found: Evidence) -> bytes:
    """The same from an evidence file: all its keys that the chip made and gives to nobody.

    UsageError without any.
    """
    keys = [
        Reported(one.label, TpmEvidence(one.creation.attest, one.creation.signature, one.public))
        for one in found.keys
        if one.creation and is_fixed(one.public)
    ]
    if not keys:
        raise UsageError("the evidence has no key that its chip made and keeps")
    endorsed = [cert for ek in found.eks for cert in (ek.certificate, *ek.chain) if cert]
    device = found.device
    return write_key_attestation(
        found.aks[0].public,
        keys,
        [*found.aks[0].certificates, *endorsed],
        vendor=device.manufacturer,
        firmware=device.firmware,
    )


def _key_claims(one: Reported) -> list[tuple[str, bytes]]:
    tpm = write_tpm_evidence(TPM_CREATION, one.evidence).der
    derived = _derived(one.evidence.public)
    return [(IDENTIFIER, _text(one.label)), *derived.items(), (CLAIM_TPM, tpm)]


def _derived(public: bytes) -> dict[str, bytes]:
    """The draft's claims, as a public area answers them (TCG TPM 2.0 Library Part 2 §8.3)."""
    attributes = ObjectAttributes(decode(Public, public).attributes)
    stays = attributes & MADE_HERE == MADE_HERE
    purposes = [
        oid
        for oid, bit in ((SIGNS, ObjectAttributes.SIGN), (DECRYPTS, ObjectAttributes.DECRYPT))
        if attributes & bit
    ]
    return {
        IDENTIFIER: _text(name_of_public(public).hex()),
        SPKI: der.encode(der.OCTET_STRING, spki_of_public(public)),
        EXTRACTABLE: _bool(not attributes & ObjectAttributes.FIXED_TPM),
        SENSITIVE: _bool(True),
        NEVER_EXTRACTABLE: _bool(stays),
        LOCAL: _bool(bool(attributes & ObjectAttributes.SENSITIVE_DATA_ORIGIN)),
        PURPOSE: der.encode(der.SEQUENCE, *map(der.encode_oid, purposes)),
    }


def _element(kind: str, claims: Iterable[tuple[str, bytes]]) -> bytes:
    pairs = (der.encode(der.SEQUENCE, der.encode_oid(oid), value) for oid, value in claims)
    return der.encode(der.SEQUENCE, der.encode_oid(kind), der.encode(der.SEQUENCE, *pairs))


def _text(text: str) -> bytes:
    return der.encode(der.UTF8_STRING, text.encode())


def _bool(value: bool) -> bytes:
    return der.encode(der.BOOLEAN, _TRUE if value else _FALSE)


# ── reading ──────────────────────────────────────────────────────────────────


def read_key_attestation(data: bytes) -> KeyAttestation:
    """Read what `write_key_attestation` wrote. ParseError, also for another version."""
    if len(data) > MAX_SIZE:
        raise ParseError(f"the key attestation has {len(data):,} bytes; at most {MAX_SIZE:,}")
    with der.complete("a key attestation"):
        parts = _children(der.read_whole(data))
        tbs = _children(parts[0])
        if tbs[0].raw != der.encode_integer(1):
            raise ParseError("a key attestation of another version than 1")
        elements = [_read_element(one) for one in _children(tbs[1])]
        chain = der.children(parts[2].content) if len(parts) == 3 else []
        if len(parts) > 3 or (chain and parts[2].tag != 0xA0):
            raise ParseError("the key attestation has parts that are unknown here")
        platforms = [claims for kind, claims in elements if kind == PLATFORM]
        keys = [_reported(claims) for kind, claims in elements if kind == KEY]
    if len(platforms) > 1:
        raise ParseError("the key attestation is of several platforms")
    ak = dict(platforms[0]).get(CLAIM_AK, b"") if platforms else b""
    public = der.read_whole(ak).content if ak else b""
    return KeyAttestation(
        public,
        tuple(one for one, _ in keys),
        tuple(claims for _, claims in keys),
        tuple(one.raw for one in chain),
    )


def _children(element: der.Element) -> list[der.Element]:
    if element.tag != der.SEQUENCE:
        raise ParseError("the key attestation is not built as an Evidence")
    return der.children(element.content)


def _read_element(element: der.Element) -> tuple[str, list[tuple[str, bytes]]]:
    kind, claims = _children(element)[:2]
    pairs = (_children(one) for one in _children(claims))
    found = [(der.decode_oid(pair[0].content), pair[1].raw) for pair in pairs]
    return der.decode_oid(kind.content), found


def _reported(claims: list[tuple[str, bytes]]) -> tuple[Reported, Mapping[str, bytes]]:
    tpm = [value for kind, value in claims if kind == CLAIM_TPM]
    labels = [value for kind, value in claims if kind == IDENTIFIER]
    named = dict(claims)
    single = len(claims) - len(labels) == len(named) - bool(labels)
    if len(tpm) != 1 or len(labels) != 2 or not single:
        raise ParseError("a key of the attestation has not one of each claim")
    try:
        label = der.read_whole(labels[0]).content.decode()
    except UnicodeDecodeError:
        raise ParseError("a key of the attestation has a name that is no text") from None
    rest = {kind: value for kind, value in named.items() if kind != CLAIM_TPM}
    return Reported(label, read_tpm_evidence(tpm[0])), rest


def check_key_attestation(found: KeyAttestation, ak_public: bytes) -> None:
    """Check that an attestation key that is believed made each key, and that each claim says what
    its public area says. VerificationError.
    """
    if found.ak_public != ak_public:
        raise VerificationError("the key attestation is of another attestation key")
    if not found.keys:
        raise VerificationError("the key attestation has no key")
    for one, claims in zip(found.keys, found.claims, strict=True):
        public = one.evidence.public
        use = "decrypt" if decode(Public, public).attributes & ObjectAttributes.DECRYPT else "sign"
        key = key_for(use, public)
        check_creation(ak_public, key, one.evidence.attest, one.evidence.signature, Birthplace())
        derived = _derived(public)
        if any(derived.get(kind) != value for kind, value in claims.items()):
            raise VerificationError(
                f"the key attestation says of {one.label!r} what its chip does not",
                code="claims-differ",
            )
