"""The storage key under which a chip takes copies of keys, certified by that chip's AK.

Whoever approves a copy approves this key and nothing else: the copy is encrypted for it. So it must
be one that a chip made and keeps, and that does nothing with copies but take them in
(`tpmhsm.policy.receiving`). That an AK says so proves it only of an AK that is activated beside the
endorsement key of a known chip.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from tpmhsm.attest.statements import check_attest
from tpmhsm.errors import VerificationError
from tpmhsm.policy.documents import Fields, to_base64
from tpmhsm.policy.receiving import RECEIVING_ATTRIBUTES, RECEIVING_POLICY
from tpmhsm.wire.attest import CertifyInfo
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import ALG, CURVE, RH, ST, ObjectAttributes
from tpmhsm.wire.names import handle_name, name_of_public
from tpmhsm.wire.public import EccParms, Public
from tpmhsm.wire.structures import AES128_CFB

_TAG = b"tpmhsm/receiving/1\0"


def parent_qualifying(nonce: bytes) -> bytes:
    """What it is certified over for a custodian's nonce: SHA-256(tag ‖ 0x00 ‖ nonce), 32 bytes."""
    return sha256(_TAG + nonce).digest()


@dataclass(frozen=True)
class ParentProof:
    """`public` TPMT_PUBLIC of the key; `attest` (TPMS_ATTEST), `signature` (TPMT_SIGNATURE):
    TPM2_Certify of it.
    """

    public: bytes
    attest: bytes
    signature: bytes

    @property
    def name(self) -> bytes:
        """Its Name, recomputed (34 bytes). ParseError."""
        return name_of_public(self.public)

    def encode(self) -> dict[str, str]:
        """JSON-ready."""
        return {name: to_base64(value) for name, value in vars(self).items()}

    @classmethod
    def read(cls, fields: Fields) -> ParentProof:
        """From JSON. ParseError."""
        found = cls(*(fields.base64(name) for name in ("public", "attest", "signature")))
        fields.done()
        return found


def check_receiving_parent(public: bytes) -> None:
    """VerificationError (`parent-attributes`, `parent-policy`) unless a TPMT_PUBLIC is that of a
    key that takes copies; ParseError when it is no public area.
    """
    area = decode(Public, public)
    if area.attributes != RECEIVING_ATTRIBUTES:
        odd = ObjectAttributes(area.attributes ^ RECEIVING_ATTRIBUTES)
        raise VerificationError(
            "it is not a storage key that is fixed to its chip and used by its policy alone "
            f"(attributes differ in {odd!s})",
            code="parent-attributes",
        )
    parameters = area.parameters
    usual = isinstance(parameters, EccParms) and (
        (parameters.curve, parameters.symmetric) == (CURVE.NIST_P256, AES128_CFB)
    )
    if area.name_alg != ALG.SHA256 or not usual:
        raise VerificationError(
            "it is no P-256 key with AES-128 and a SHA-256 Name", code="parent-attributes"
        )
    if area.auth_policy != RECEIVING_POLICY:
        raise VerificationError(
            "its policy lets it do more than load, import and be certified: a copy could be "
            "taken out of it (TPM2_Rewrap)",
            code="parent-policy",
        )


def check_certified_parent(public: bytes, info: Any) -> bytes:
    """Return the Name of a key that takes copies, which an AK certifies to be in its chip.

    `info` is the attested part of TPM2_Certify. VerificationError: `other-parent`, `not-a-primary`
    for one that is no primary key of the owner's hierarchy (another could have been imported), or
    as of `check_receiving_parent`.
    """
    check_receiving_parent(public)
    name = name_of_public(public)
    if not isinstance(info, CertifyInfo) or info.name != name:
        raise VerificationError("the chip certified another key", code="other-parent")
    primary = name[:2] + sha256(handle_name(RH.OWNER) + name).digest()
    if info.qualified_name != primary:
        raise VerificationError(
            "it is no primary key of the chip's owner hierarchy", code="not-a-primary"
        )
    return name


def check_parent(proof: ParentProof, ak_public: bytes, qualifying: bytes) -> bytes:
    """Return the Name (34 bytes) of a key that takes copies, checked against one AK's word.

    VerificationError, ParseError.
    """
    info = check_attest(ak_public, proof.attest, proof.signature, ST.ATTEST_CERTIFY, qualifying)
    return check_certified_parent(proof.public, info)
