"""Evidence in a CSR: the attribute id-aa-attestation (draft-ietf-lamps-csr-attestation-29).

    AttestationBundle ::= SEQUENCE {
        attestations SEQUENCE SIZE (1..MAX) OF SEQUENCE { type OBJECT IDENTIFIER, stmt ANY },
        certs        SEQUENCE SIZE (1..MAX) OF LimitedCertChoices OPTIONAL }

The draft defines no statement; those of a TPM are `TPM_CERTIFY`, from the drafts up to -14 and the
TCG's registry, and ours, whose numbers are of a UUID (ITU-T X.667), because nobody has given any to
TPM2_CertifyCreation. What earlier drafts wrote, bundles in a list and statements with a hint, is
read, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.csr import csr_der
from tpmhsm.pki.signatures import split_signed
from tpmhsm.pki.tbs import read_request_info

ATTRIBUTE = "1.2.840.113549.1.9.16.2.59"
"""id-aa-attestation; id-aa-evidence in earlier drafts."""

TPM_CERTIFY = "2.23.133.20.1"
"""tcg-attest-tpm-certify: TPM2_Certify of the CSR's key, as `TpmEvidence`."""

ARC = "2.25.331949619372622551396469103433944618910"
TPM_CREATION = f"{ARC}.1"
"""TPM2_CertifyCreation of the CSR's key, as `TpmEvidence`."""
AK_PUBLIC = f"{ARC}.2"
"""OCTET STRING: TPMT_PUBLIC of the attestation key, so that its attributes can be seen."""
WEBAUTHN = f"{ARC}.3"
"""OCTET STRING: a WebAuthn attestation object (CBOR) of the format `tpm`."""

MAX_STATEMENTS = 16
MAX_CERTIFICATES = 32
MAX_BUNDLE = 1 << 17


@dataclass(frozen=True)
class Statement:
    """One statement: its type as a dotted OID, its DER."""

    type: str
    der: bytes = field(repr=False)


@dataclass(frozen=True)
class TpmEvidence:
    """`attest` TPMS_ATTEST, `signature` TPMT_SIGNATURE over it, `public` TPMT_PUBLIC of the key."""

    attest: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    public: bytes = field(repr=False)


@dataclass(frozen=True)
class Bundle:
    """Statements, and certificates (DER) that help to verify them."""

    statements: tuple[Statement, ...]
    certificates: tuple[bytes, ...] = ()

    def of_type(self, *types: str) -> Iterator[Statement]:
        """The statements of these types."""
        return (one for one in self.statements if one.type in types)


def find_bundle(csr: bytes) -> Bundle | None:
    """The evidence in a CSR (DER), None when it has none. ParseError for what is malformed."""
    return find_in_info(split_signed(csr_der(csr), "a CSR")[0])


def find_in_info(info: bytes) -> Bundle | None:
    """The same in a CertificationRequestInfo."""
    if ATTRIBUTE not in read_request_info(info).attributes:
        return None
    fields = der.children(der.read_whole(info).content)
    found = [
        der.children(pair[1].content)
        for pair in map(_parts, der.children(fields[3].content))
        if der.decode_oid(pair[0].content) == ATTRIBUTE
    ]
    if len(found) != 1 or len(found[0]) != 1:
        raise ParseError("the CSR has its evidence twice; it may have one bundle")
    return read_bundle(found[0][0].raw)


def read_bundle(data: bytes) -> Bundle:
    """Read an AttestationBundle. ParseError."""
    if len(data) > MAX_BUNDLE:
        raise ParseError(f"the evidence has {len(data):,} bytes; at most {MAX_BUNDLE:,}")
    with der.complete("evidence of a CSR"):
        bundle = der.read_whole(data)
        first = _parts(_parts(_parts(bundle)[0])[0])[0]
        many = [bundle] if first.tag == der.OID else _parts(bundle)  # EvidenceBundles
        found = [_bundle(one) for one in many]
    statements = tuple(one for bundle in found for one in bundle.statements)
    certificates = tuple(one for bundle in found for one in bundle.certificates)
    if len(statements) > MAX_STATEMENTS or len(certificates) > MAX_CERTIFICATES:
        raise ParseError(
            f"the evidence has more than {MAX_STATEMENTS} statements or "
            f"{MAX_CERTIFICATES} certificates"
        )
    return Bundle(statements, certificates)


def _bundle(element: der.Element) -> Bundle:
    parts = _parts(element)
    if len(parts) > 2:
        raise ParseError("the evidence has more parts than statements and certificates")
    certificates = _parts(parts[1]) if len(parts) == 2 else []
    if any(one.tag not in (der.SEQUENCE, 0xA3) for one in certificates):
        raise ParseError("the evidence has certificates of an obsolete kind")
    kept = tuple(one.raw for one in certificates if one.tag == der.SEQUENCE)
    return Bundle(tuple(map(_statement, _parts(parts[0]))), kept)


def _statement(element: der.Element) -> Statement:
    parts = _parts(element)
    hint = len(parts) == 3 and parts[2].tag == der.UTF8_STRING
    if parts[0].tag != der.OID or not (hint or len(parts) == 2):
        raise ParseError("a statement of the evidence is not its type and its content")
    return Statement(der.decode_oid(parts[0].content), parts[1].raw)


def _parts(element: der.Element) -> list[der.Element]:
    if element.tag != der.SEQUENCE:
        raise ParseError("the evidence is not built as an AttestationBundle")
    return der.children(element.content)


def read_tpm_evidence(data: bytes) -> TpmEvidence:
    """Read a statement of type `TPM_CERTIFY` or `TPM_CREATION`. ParseError.

    The structures may stand in their TPM2B, with two bytes of size before them, as some write them.
    """
    parts = _parts(der.read_whole(data))
    if [part.tag for part in parts] == [der.OCTET_STRING] * 2:
        raise ParseError("the statement does not show the key's public area (tpmTPublic)")
    if [part.tag for part in parts] != [der.OCTET_STRING] * 3:
        raise ParseError("a TPM's statement is not three strings of octets")
    attest, signature, public = (part.content for part in parts)
    return TpmEvidence(_bare(attest), signature, _bare(public))


def _bare(data: bytes) -> bytes:
    return data[2:] if int.from_bytes(data[:2], "big") == len(data) - 2 else data


def read_octets(data: bytes) -> bytes:
    """The content of a statement that is one OCTET STRING. ParseError."""
    element = der.read_whole(data)
    if element.tag != der.OCTET_STRING:
        raise ParseError("a statement of the evidence is no string of octets")
    return element.content


def write_tpm_evidence(kind: str, evidence: TpmEvidence) -> Statement:
    """The statement of this type, `TPM_CERTIFY` or `TPM_CREATION`."""
    strings = (evidence.attest, evidence.signature, evidence.public)
    content = (der.encode(der.OCTET_STRING, one) for one in strings)
    return Statement(kind, der.encode(der.SEQUENCE, *content))


def write_octets(kind: str, content: bytes) -> Statement:
    """A statement that is one OCTET STRING."""
    return Statement(kind, der.encode(der.OCTET_STRING, content))


def write_bundle(statements: Iterable[Statement], certificates: Iterable[bytes] = ()) -> bytes:
    """DER of an AttestationBundle."""
    encoded = [der.encode(der.SEQUENCE, der.encode_oid(one.type), one.der) for one in statements]
    certs = der.encode(der.SEQUENCE, *certificates)
    return der.encode(
        der.SEQUENCE, der.encode(der.SEQUENCE, *encoded), certs if len(certs) > 2 else b""
    )
