"""Commands that approvals are bound to.

An approval is for one command over named entities with exact parameters: its cpHash (TCG TPM 2.0
Library Part 1 §16.7). Who approves computes it from the bytes in front of them; who executes
computes it again; the chip computes it a third time and compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from tpmhsm.errors import UsageError
from tpmhsm.policy.group import GroupDocument, RosterDocument
from tpmhsm.policy.tree import counter_nv, roster_content, roster_nv
from tpmhsm.wire.codec import decode
from tpmhsm.wire.commands import ECDH_ZGen, NV_Increment, NV_Write, RSA_Decrypt, Sign
from tpmhsm.wire.constants import ALG, CC, CURVE, DIGEST_SIZES, ObjectAttributes
from tpmhsm.wire.framing import Command, encode_parameters
from tpmhsm.wire.names import cp_hash, name_of_nv, name_of_public
from tpmhsm.wire.public import EccParms, Public, RsaParms
from tpmhsm.wire.structures import (
    NULL_HASHCHECK,
    EccPoint,
    Empty,
    RsaDecrypt,
    SchemeHash,
    SigScheme,
)


@dataclass(frozen=True)
class BoundCommand:
    """One TPM command: its code, the Names of its handles in order, its encoded parameters."""

    code: CC
    names: tuple[bytes, ...]
    parameters: bytes

    @cached_property
    def cp_hash(self) -> bytes:
        """H(code ‖ Names ‖ parameters), 32 bytes."""
        return cp_hash(self.code, self.names, self.parameters)


def sign_scheme(public: Public) -> SigScheme:
    """Return the scheme that a key's public area fixes; UsageError when it leaves it open."""
    parameters = public.parameters
    if isinstance(parameters, RsaParms | EccParms):
        scheme = parameters.scheme
        if scheme.scheme in (ALG.ECDSA, ALG.RSASSA, ALG.RSAPSS):
            return SigScheme(scheme.scheme, scheme.details)
    raise UsageError("the key's public area fixes no signature scheme")


def bound_sign(public: Public | bytes, digest: bytes) -> BoundCommand:
    """What officers approve: TPM2_Sign of `digest` by the key with this public area.

    The scheme is spelled out as the key fixes it, the ticket is NULL. UsageError when the digest
    is not one of the key's own hash algorithm.
    """
    scheme, name = _signing(public) if isinstance(public, bytes) else _signed_by(public)
    if not isinstance(scheme.details, SchemeHash):
        raise UsageError("the key's signature scheme has no hash algorithm")
    if len(digest) != DIGEST_SIZES.get(scheme.details.hash_alg):
        raise UsageError(f"a digest of {len(digest)} bytes is not of this key's hash algorithm")
    parameters = encode_parameters(Sign(0, digest, scheme, NULL_HASHCHECK))
    return BoundCommand(CC.Sign, (name,), parameters)


def _signed_by(area: Public) -> tuple[SigScheme, bytes]:
    """The scheme that a key signs by, and its Name."""
    return sign_scheme(area), name_of_public(area)


@lru_cache(64)
def _signing(public: bytes) -> tuple[SigScheme, bytes]:
    return _signed_by(_area(public))


@lru_cache(64)
def _area(public: bytes) -> Public:
    return decode(Public, public)


def command_of(public: Public | bytes) -> CC:
    """Return the one command that a key's policies are for: TPM2_Sign, or by its kind
    TPM2_RSA_Decrypt or TPM2_ECDH_ZGen. UsageError for a key that would do both, or neither.
    """
    area = _area(public) if isinstance(public, bytes) else public
    uses = area.attributes & (ObjectAttributes.SIGN | ObjectAttributes.DECRYPT)
    if uses == ObjectAttributes.SIGN:
        return CC.Sign
    if uses == ObjectAttributes.DECRYPT:
        return CC.RSA_Decrypt if isinstance(area.parameters, RsaParms) else CC.ECDH_ZGen
    raise UsageError("a key either signs or decrypts: this one does both, or neither")


def bound_use(public: Public | bytes, content: bytes) -> BoundCommand:
    """What officers approve of a key of either use: `content` is the digest to be signed, the
    ciphertext, or the other's public key. UsageError as of `bound_sign` and `bound_decrypt`.
    """
    if command_of(public) == CC.Sign:
        return bound_sign(public, content)
    return bound_decrypt(public, content)


def bound_decrypt(public: Public | bytes, content: bytes) -> BoundCommand:
    """What officers approve: TPM2_RSA_Decrypt of a ciphertext, or TPM2_ECDH_ZGen with a point.

    `content` is the ciphertext, as long as the modulus, or the other's SubjectPublicKeyInfo (DER).
    The padding is spelled out as the key fixes it, the label is empty. UsageError for content that
    does not fit the key.
    """
    area = decode(Public, public) if isinstance(public, bytes) else public
    code = command_of(area)
    command: RSA_Decrypt | ECDH_ZGen
    if code == CC.RSA_Decrypt:
        command = RSA_Decrypt(0, *decrypt_parameters(area, content))
    elif code == CC.ECDH_ZGen:
        command = ECDH_ZGen(0, derive_point(area, content))
    else:
        raise UsageError("this key signs; it does not decrypt", code="signing-key")
    return BoundCommand(code, (name_of_public(area),), encode_parameters(command))


def decrypt_parameters(public: Public, ciphertext: bytes) -> tuple[bytes, RsaDecrypt, bytes]:
    """Return ciphertext, scheme and label of TPM2_RSA_Decrypt. UsageError for another size, and
    for a key that leaves its padding open.
    """
    parameters = public.parameters
    if not isinstance(parameters, RsaParms) or parameters.scheme.scheme != ALG.OAEP:
        raise UsageError("the key's public area does not fix OAEP")
    if len(ciphertext) != parameters.key_bits // 8:
        raise UsageError(
            f"a ciphertext of {len(ciphertext)} bytes is not for this key: RSA-"
            f"{parameters.key_bits} has {parameters.key_bits // 8}",
            code="not-for-this-key",
        )
    assert isinstance(parameters.scheme.details, SchemeHash)  # noqa: S101 - what OAEP has
    return ciphertext, RsaDecrypt(ALG.OAEP, parameters.scheme.details), b""


def derive_point(public: Public, spki: bytes) -> EccPoint:
    """Return the point in the other's SubjectPublicKeyInfo, coordinates as long as the field.

    UsageError unless it is a public key on this key's curve. The chip looks at the point again.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    parameters = public.parameters
    if not isinstance(parameters, EccParms) or parameters.scheme.scheme != ALG.ECDH:
        raise UsageError("the key's public area does not fix ECDH")
    name, size = FIELDS[parameters.curve]
    try:
        other = load_der_public_key(spki)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        other = None
    if not isinstance(other, ec.EllipticCurvePublicKey) or other.curve.name != name:
        raise UsageError(
            f"the other's public key is none on this key's curve, {name}",
            code="not-for-this-key",
            hint="the public key alone, of a key on that curve: openssl pkey -in THEIRS -pubout",
        )
    numbers = other.public_numbers()
    return EccPoint(numbers.x.to_bytes(size, "big"), numbers.y.to_bytes(size, "big"))


FIELDS = {int(CURVE.NIST_P256): ("secp256r1", 32), int(CURVE.NIST_P384): ("secp384r1", 48)}
"""Curves: their name in `cryptography`, and the octets of a coordinate."""


def increment_command(group: GroupDocument) -> Command[Empty]:
    """TPM2_NV_Increment of the group's epoch counter, which authorises itself by policy."""
    return NV_Increment(group.counter_index, group.counter_index)


def bound_increment(group: GroupDocument, *, written: bool) -> BoundCommand:
    """What custodians approve: the epoch goes up by one. `written`: not for the first time."""
    name = name_of_nv(counter_nv(group, written=written))
    return BoundCommand(CC.NV_Increment, (name, name), encode_parameters(increment_command(group)))


def roster_write_command(group: GroupDocument, roster: RosterDocument) -> Command[Empty]:
    """TPM2_NV_Write of all 74 bytes of a roster, at offset 0."""
    index = group.roster_index
    return NV_Write(index, index, roster_content(group, roster), 0)


def bound_roster_write(
    group: GroupDocument, roster: RosterDocument, *, written: bool
) -> BoundCommand:
    """What custodians approve: this roster is in force. `written`: it is not the first."""
    name = name_of_nv(roster_nv(group, written=written))
    parameters = encode_parameters(roster_write_command(group, roster))
    return BoundCommand(CC.NV_Write, (name, name), parameters)
