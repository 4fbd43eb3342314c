"""Activation: proof that an attestation key (AK) sits in the chip that has an endorsement key (EK).

    kept = make_challenge(ek, ak, now)                 the verifier, without a chip
    response = answer_of(kept.challenge, secret)       the host: its chip gave the secret
    check_response(kept, response, now)                the verifier again

TPM2_MakeCredential in Python (TCG TPM 2.0 Library Part 1 §24): a secret is encrypted for the EK and
bound to the AK's Name. TPM2_ActivateCredential gives it up only where both are in one chip. The
answer is an HMAC by the secret over the challenge, so that neither file has it in clear.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

from tpmhsm.errors import ParseError, VerificationError
from tpmhsm.policy import moments
from tpmhsm.policy.documents import Fields, canonical, parse_json, to_base64
from tpmhsm.wire.codec import TPM2B, decode
from tpmhsm.wire.constants import ALG, CURVE, ObjectAttributes
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import EccParms, Public, RsaParms
from tpmhsm.wire.sealing import sealed_to

CHALLENGE_FORMAT = "tpmhsm/challenge/1"
RESPONSE_FORMAT = "tpmhsm/response/1"
KEPT_FORMAT = "tpmhsm/challenge-kept/1"

MAX_FILE = 1 << 16
SECRET_SIZE = 32
VALID_FOR = timedelta(days=7)
"""How long a challenge may wait for its response."""

_EK = ObjectAttributes.FIXED_TPM | ObjectAttributes.RESTRICTED | ObjectAttributes.DECRYPT
_RSA_BITS = (2048, 3072, 4096)
_CURVES = (CURVE.NIST_P256, CURVE.NIST_P384)
_NAME_ALGS = (ALG.SHA256, ALG.SHA384)


def make_credential(ek: Public, name: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """TPM2_MakeCredential: `secret` for the chip that has this EK and an object of this `name`.

    Returns the contents of TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET. `secret` is no longer than a
    digest by the EK's nameAlg. ParseError for a key that is no EK of RSA-2048 to 4096, P-256 or
    P-384, VerificationError for one that is not sound.
    """
    check_endorsement_key(ek)
    if len(secret) > SECRET_SIZE:
        raise ParseError(f"a secret of {len(secret)} bytes: an EK takes {SECRET_SIZE}")
    return sealed_to(ek, b"IDENTITY", TPM2B.pack(secret), name)


def check_endorsement_key(ek: Public) -> None:
    """ParseError unless a public area is a storage key fixed to its chip, as every EK is."""
    parameters = ek.parameters
    known = (isinstance(parameters, RsaParms) and parameters.key_bits in _RSA_BITS) or (
        isinstance(parameters, EccParms) and parameters.curve in _CURVES
    )
    if not known or ek.name_alg not in _NAME_ALGS:
        raise ParseError("the endorsement key is not RSA-2048 to 4096, P-256 or P-384")
    if ek.attributes & _EK != _EK or ek.attributes & ObjectAttributes.SIGN:
        raise ParseError("the endorsement key is no storage key that is fixed to its chip")


@dataclass(frozen=True)
class Challenge:
    """What the host gets. `ek` and `ak` TPMT_PUBLIC; `credential` and `secret` as of
    `make_credential`.
    """

    made: datetime
    ek: bytes
    ak: bytes
    credential: bytes
    secret: bytes

    @property
    def encoded(self) -> bytes:
        """The file: canonical JSON and a line feed."""
        document = {
            "format": CHALLENGE_FORMAT,
            "made": moments.stamp(self.made),
            "ek": to_base64(self.ek),
            "ak": to_base64(self.ak),
            "credential": to_base64(self.credential),
            "secret": to_base64(self.secret),
        }
        return canonical(document) + b"\n"

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file, which the response names (32 bytes)."""
        return sha256(self.encoded).digest()

    @property
    def ak_name(self) -> bytes:
        """The Name of the AK (34 bytes)."""
        return name_of_public(self.ak)


@dataclass(frozen=True)
class Kept:
    """What the verifier keeps of a challenge, and shows nobody."""

    challenge: Challenge
    secret: bytes = field(repr=False)

    @property
    def encoded(self) -> bytes:
        """The file: canonical JSON and a line feed. It is a secret."""
        document = {
            "format": KEPT_FORMAT,
            "challenge": to_base64(self.challenge.encoded),
            "secret": self.secret.hex(),
        }
        return canonical(document) + b"\n"


@dataclass(frozen=True)
class Response:
    """The host's answer to the challenge of this digest."""

    challenge: bytes
    answer: bytes

    @property
    def encoded(self) -> bytes:
        """The file: canonical JSON and a line feed."""
        document = {
            "format": RESPONSE_FORMAT,
            "challenge": self.challenge.hex(),
            "answer": self.answer.hex(),
        }
        return canonical(document) + b"\n"


def make_challenge(ek: bytes, ak: bytes, made: datetime) -> Kept:
    """A challenge for the chip that has an EK, to prove that it also has an AK (TPMT_PUBLIC both).

    ParseError for keys that are none of either, VerificationError for an EK that is not sound.
    """
    from tpmhsm.attest.statements import check_attestation_key

    check_attestation_key(ak)
    secret = os.urandom(SECRET_SIZE)
    credential, encrypted = make_credential(decode(Public, ek), name_of_public(ak), secret)
    return Kept(Challenge(made, ek, ak, credential, encrypted), secret)


def answer_of(challenge: Challenge, secret: bytes) -> Response:
    """The response of a host whose chip gave up the secret."""
    return Response(challenge.digest, _answer(challenge, secret))


def check_response(kept: Kept, response: Response, now: datetime) -> None:
    """VerificationError unless a response answers this challenge, in time.

    `other-challenge`, `challenge-stale`, or `wrong-answer`.
    """
    challenge = kept.challenge
    if response.challenge != challenge.digest:
        raise VerificationError(
            "the response is to another challenge",
            code="other-challenge",
            hint="tpmhsm attest respond with this challenge's file",
        )
    age = now - challenge.made
    if not timedelta(minutes=-5) <= age <= VALID_FOR:
        raise VerificationError(
            f"the challenge was made {moments.stamp(challenge.made)}: a response is taken for"
            f" {VALID_FOR.days} days",
            code="challenge-stale",
            hint="tpmhsm attest challenge makes a new one",
        )
    if not hmac.compare_digest(_answer(challenge, kept.secret), response.answer):
        raise VerificationError(
            "the response does not come from the chip that was asked: it did not know the secret",
            code="wrong-answer",
        )


def _answer(challenge: Challenge, secret: bytes) -> bytes:
    return hmac.digest(secret, RESPONSE_FORMAT.encode() + b"\0" + challenge.digest, "sha256")


# ── files ────────────────────────────────────────────────────────────────────


def parse_challenge(data: bytes) -> Challenge:
    """Read a challenge. ParseError saying what is wrong."""
    fields = _fields(data, "challenge", CHALLENGE_FORMAT)
    found = Challenge(
        made=moments.read_moment(fields, "made"),
        ek=fields.base64("ek"),
        ak=fields.base64("ak"),
        credential=fields.base64("credential"),
        secret=fields.base64("secret"),
    )
    fields.done()
    check_endorsement_key(decode(Public, found.ek))
    name_of_public(found.ak)
    return found


def parse_response(data: bytes) -> Response:
    """Read a response. ParseError saying what is wrong."""
    fields = _fields(data, "response", RESPONSE_FORMAT)
    found = Response(fields.hex("challenge", 32), fields.hex("answer", 32))
    fields.done()
    return found


def parse_kept(data: bytes) -> Kept:
    """Read what a verifier kept. ParseError saying what is wrong."""
    fields = _fields(data, "kept challenge", KEPT_FORMAT)
    found = Kept(parse_challenge(fields.base64("challenge")), fields.hex("secret", SECRET_SIZE))
    fields.done()
    return found


def _fields(data: bytes, what: str, wanted: str) -> Fields:
    fields = Fields(parse_json(data, what, MAX_FILE), what)
    fields.expect("format", wanted)
    return fields
