"""The witness: the first attestation key of a file, and what it says.

Every statement of a file is by this key, over the file's nonce, for its one purpose. Clock, resets
and firmware stand in each of them, so that statements of two boots do not make one file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from tpmhsm.attest.format import Evidence, Purpose, Statement
from tpmhsm.attest.statements import check_attest, check_attestation_key, signed_body
from tpmhsm.attest.verdicts import Proof
from tpmhsm.errors import ParseError, VerificationError
from tpmhsm.wire.attest import Attest
from tpmhsm.wire.constants import RH, ST
from tpmhsm.wire.names import handle_name, name_of_public

KINDS: dict[Purpose, ST] = {
    "ak": ST.ATTEST_CERTIFY,
    "creation": ST.ATTEST_CREATION,
    "counter": ST.ATTEST_NV,
    "roster": ST.ATTEST_NV,
    "budget": ST.ATTEST_NV,
    "parent": ST.ATTEST_CERTIFY,
    "quote": ST.ATTEST_QUOTE,
    "time": ST.ATTEST_TIME,
}
"""Which structure the chip signs for each purpose."""


@dataclass(frozen=True)
class Heard:
    """A statement that holds, and where it stands in the file."""

    path: str
    body: Attest


class Witness:
    """The first attestation key. `fault` says in words why nothing of it is believed, or is empty;
    `heard` has the statements that held so far.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.public = evidence.aks[0].public
        self.fault = ""
        self.heard: list[Heard] = []
        try:
            check_attestation_key(self.public)
        except ParseError as error:
            self.fault = error.message

    @cached_property
    def name(self) -> bytes:
        """Its Name (34 bytes); empty when its public area is none."""
        try:
            return name_of_public(self.public)
        except ParseError:
            return b""

    @cached_property
    def qualified(self) -> bytes:
        """Its qualified Name: it is a primary of the endorsement hierarchy (Part 1, section 16)."""
        return self.name[:2] + sha256(handle_name(RH.ENDORSEMENT) + self.name).digest()

    @property
    def proof(self) -> Proof:
        """The bytes of its public area."""
        return Proof.of("aks[0].public", self.public, "the attestation key's public area")

    def hear(self, path: str, statement: Statement, purpose: Purpose, subject: bytes = b"") -> Any:
        """Check a statement; return its attested part.

        VerificationError with a stable code: `attestation-key`, `bad-signature`, `other-kind`,
        `other-qualifying`, `other-signer`. ParseError when the bytes are no attestation.
        """
        if self.fault:
            raise VerificationError(self.fault, code="attestation-key")
        over = self.evidence.qualifying(purpose, subject)
        attested = check_attest(
            self.public, statement.attest, statement.signature, KINDS[purpose], over
        )
        body = signed_body(self.public, statement.attest, statement.signature)
        if body.qualified_signer != self.qualified:
            raise VerificationError(
                "the attestation key is not a primary key of the endorsement hierarchy",
                code="other-signer",
            )
        self.heard.append(Heard(path, body))
        return attested

    def proofs(self, path: str, statement: Statement, what: str) -> tuple[Proof, ...]:
        """References to a statement and its signature."""
        return (
            Proof.of(f"{path}.attest", statement.attest, what),
            Proof.of(f"{path}.signature", statement.signature, f"the signature over {what}"),
        )
