"""What the chip's signatures are over: certificates and CRLs of a proof of the log, by digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from tpmhsm.attest.audit_records import Audited
from tpmhsm.errors import TpmHsmError
from tpmhsm.wire.codec import decode
from tpmhsm.wire.structures import EccSignature, RsaSignature, Signature

if TYPE_CHECKING:
    from tpmhsm.attest.audit_proof import Entry, LogProof

_BY_SIZE = {32: "sha256", 48: "sha384"}
_NAMING = ("issued", "crl")
"""Acts whose facts have the SHA-256 of a certificate or CRL that was signed here."""

_TELLING = ("signed", "csr")
"""Acts whose facts have the digest itself."""


def _from_hex(value: object) -> bytes:
    try:
        return bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        return b""


class Documents:
    """The documents of a proof, and the entries that name them."""

    def __init__(self, proof: LogProof) -> None:
        self._proof = proof

    @cached_property
    def _signed(self) -> set[bytes]:
        """The digests that the chip signed."""
        return {r.digest for r in self._proof.records if isinstance(r, Audited) and r.digest}

    @cached_property
    def _digests(self) -> dict[str, set[bytes]]:
        """By the SHA-256 of each document, what a chip signs for it."""
        found = {}
        for der in self._proof.documents:
            if tbs := to_be_signed(der):
                told = {hashlib.new(name, tbs).digest() for name in _BY_SIZE.values()}
                found[hashlib.sha256(der).hexdigest()] = told
        return found

    def unsigned(self, after: int) -> Iterator[Entry]:
        """The entries after a number that tell of a signature which no record is of."""
        for entry in self._proof.entries:
            if entry.seq > after and (told := self._told(entry)) and not told & self._signed:
                yield entry

    def _told(self, entry: Entry) -> set[bytes]:
        """What the chip signed if an entry is right: one of these digests."""
        if entry.act in _TELLING:
            return {_from_hex(entry.read_facts().get("digest"))}
        if entry.act in _NAMING:
            return self._digests.get(str(entry.read_facts().get("sha256")), set())
        return set()

    def holds(self, record: Audited, public: bytes) -> bool:
        """Whether a record's signature is one over its digest by this key (TPMT_PUBLIC)."""
        return bool(public) and is_signature(public, record.digest, record.answered)

    def words(self) -> list[str]:
        """What the signatures are, counted."""
        known = set().union(*self._digests.values()) if self._digests else set()
        known = known.union(*(self._told(e) for e in self._proof.entries if e.act in _TELLING))
        signs = [r for r in self._proof.records if isinstance(r, Audited) and r.is_signature]
        told = sum(1 for record in signs if record.digest in known)
        other = len(signs) - told
        return [
            f"of the signatures {told:,} are over certificates and CRLs of this proof, or files "
            f"and CSRs that its entries name; {other:,} over something else"
        ]


def to_be_signed(der: bytes) -> bytes:
    """The first element in an outer SEQUENCE: TBSCertificate or TBSCertList; empty for no DER."""
    try:
        body, _ = _content(der, 0)
        _, end = _content(der, body)
    except IndexError:
        return b""
    return der[body:end] if end <= len(der) else b""


def _content(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element at an offset begins and ends."""
    size, start = der[at + 1], at + 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(der[at + 2 : start], "big")
    return start, start + size


def is_signature(public: bytes, digest: bytes, answered: bytes) -> bool:
    """Whether a TPMT_SIGNATURE is over a digest by the key of a TPMT_PUBLIC."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

    from tpmhsm.attest.public_keys import public_key_of

    algorithms = {32: hashes.SHA256, 48: hashes.SHA384}
    if len(digest) not in algorithms:
        return False
    hashed = utils.Prehashed(algorithms[len(digest)]())
    try:
        given, key = decode(Signature, answered).signature, public_key_of(public)
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(given, EccSignature):
            r, s = (int.from_bytes(part, "big") for part in (given.r, given.s))
            key.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(hashed))
        elif not isinstance(key, ec.EllipticCurvePublicKey) and isinstance(given, RsaSignature):
            key.verify(given.signature, digest, padding.PKCS1v15(), hashed)
        else:
            return False
    except (InvalidSignature, ValueError, TpmHsmError):
        return False
    return True
