"""What binds an attestation key (AK) to an endorsement key (EK): an activation, or the certificate
of somebody who saw one.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256

from tpmhsm.attest.aik_certificates import judge_attestation_key
from tpmhsm.attest.credential import Kept, Response, check_response
from tpmhsm.attest.device_findings import Bond
from tpmhsm.attest.ek_certificates import normal_spki
from tpmhsm.attest.format import Evidence
from tpmhsm.attest.public_keys import spki_of_public
from tpmhsm.attest.verdicts import Proof
from tpmhsm.errors import ParseError, VerificationError
from tpmhsm.pki.path_certificate import read_path_certificate
from tpmhsm.policy import moments
from tpmhsm.wire.names import name_of_public


def ek_urn(public: bytes) -> str:
    """How an AK certificate names the EK beside it: SHA-256 of the SubjectPublicKeyInfo, base64."""
    digest = sha256(normal_spki(spki_of_public(public))).digest()
    return f"urn:ek:sha256:{b64encode(digest).decode()}"


def bond_of_response(kept: Kept, response: Response, now: datetime) -> Bond:
    """The bond that an activation proves. VerificationError as `credential.check_response`."""
    check_response(kept, response, now)
    challenge = kept.challenge
    made = moments.stamp(challenge.made)
    proof = (
        Proof.of("challenge", challenge.encoded, "the challenge"),
        Proof.of("response", response.encoded, "the chip's answer to it"),
    )
    words = f"the chip answered the challenge of {made} (activation)"
    return Bond(challenge.ek, challenge.ak_name, words, proof)


def bond_of_certificate(evidence: Evidence, roots: Iterable[bytes], at: datetime) -> Bond | None:
    """The bond that the first AK's certificate vouches for; None when the file has none.

    `roots`: certificates (DER) of those whose word on AKs is taken. VerificationError when the
    certificate is another key's, does not lead to them, or names no EK of the file.
    """
    ak = evidence.aks[0]
    if not ak.certificates:
        return None
    certified = judge_attestation_key(ak.certificates, roots, at)
    if normal_spki(certified.spki) != normal_spki(spki_of_public(ak.public)):
        raise VerificationError(
            "the attestation key's certificate is for another key", code="aik-other-key"
        )
    leaf = read_path_certificate(ak.certificates[0])
    named = {name.value for name in leaf.sans or () if name.kind == "uri"}
    for ek in evidence.eks:
        if _urn(ek.public) in named:
            proof = Proof.of(
                "aks[0].certificates", ak.certificates[0], "the attestation key's certificate"
            )
            words = "certified by somebody whose word you take, who had the chip answer a challenge"
            return Bond(ek.public, name_of_public(ak.public), words, (proof,))
    raise VerificationError(
        "the attestation key's certificate names no endorsement key of this file",
        code="aik-other-chip",
        hint="tpmhsm attest challenge proves which chip it is in",
    )


def _urn(public: bytes) -> str:
    try:
        return ek_urn(public)
    except ParseError:
        return ""
