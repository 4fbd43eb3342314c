"""What the chip says of a key or an NV index, checked by an approver's tool.

An attestation key (AK) is restricted: it signs only structures that the chip built itself, which
begin with TPM_GENERATED. The AK is pinned by its Name inside the group's id; everything else is
recomputed here. TCG TPM 2.0 Library Part 1 (attestation) and Part 2 10.12 (TPMS_ATTEST).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tpmhsm.attest.birthplaces import Birthplace, check_birthplace, is_fixed
from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.policy.budgets import SIZE as BUDGET_SIZE
from tpmhsm.policy.budgets import Counted
from tpmhsm.policy.group import GroupDocument, RosterDocument
from tpmhsm.policy.tree import COUNTER_SIZE, ROSTER_SIZE, counter_nv, roster_content, roster_nv
from tpmhsm.wire.attest import Attest, CreationInfo, NvCertifyInfo
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import ALG, CURVE, HASH_NAMES, ST, ObjectAttributes
from tpmhsm.wire.names import name_of_nv, name_of_public
from tpmhsm.wire.public import EccParms, Public, RsaParms, is_imported
from tpmhsm.wire.structures import (
    EccPoint,
    EccSignature,
    RsaSignature,
    SchemeHash,
    Signature,
    SigScheme,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

A = ObjectAttributes

AK_ATTRIBUTES = A.FIXED_TPM | A.FIXED_PARENT | A.SENSITIVE_DATA_ORIGIN | A.RESTRICTED | A.SIGN
QUORUM_KEY_ATTRIBUTES = (
    A.FIXED_TPM | A.FIXED_PARENT | A.SENSITIVE_DATA_ORIGIN | A.ADMIN_WITH_POLICY | A.SIGN | A.NO_DA
)
"""Exactly these: userWithAuth clear, so that nothing but the policy lets the key act. One that
decrypts has `decrypt` in the place of `sign`; one that was imported none of `MADE_HERE`.
"""

MADE_HERE = A.FIXED_TPM | A.FIXED_PARENT | A.SENSITIVE_DATA_ORIGIN

AK_MAY = A.USER_WITH_AUTH | A.NO_DA
"""What an attestation key may have besides. No policy: activation asks for the key's ADMIN role,
and nobody but its chip can give a password's.
"""

MAX_RESPONSE = 4096
"""Bytes that a chip answers at most."""

HASHES = {int(ALG.SHA256): "sha256", int(ALG.SHA384): "sha384"}
_CURVES = {int(CURVE.NIST_P256): "P-256", int(CURVE.NIST_P384): "P-384"}
_RSA_BITS = (2048, 3072, 4096)


@dataclass(frozen=True)
class ChipKey:
    """A key of the chip, from its public area. `spki` is DER, `hash_name` 'sha256' …; the `scheme`
    of one that `decrypts` is NULL. `imported`: it was not made in the chip.
    """

    public: bytes
    name: bytes
    scheme: SigScheme
    hash_name: str
    spki: bytes
    words: str
    decrypts: bool = False
    imported: bool = False


def guarded_attributes(key: ChipKey, *, pin: bool, copied: bool = False) -> int:
    """Exactly the attributes of a guarded key of this kind. `pin`: the chip counts wrong ones;
    `copied`: custodians may have it copied to another chip.
    """
    wanted = QUORUM_KEY_ATTRIBUTES
    if copied:
        wanted = wanted & ~(A.FIXED_TPM | A.FIXED_PARENT) | A.ENCRYPTED_DUPLICATION
    if key.decrypts:
        wanted = wanted & ~A.SIGN | A.DECRYPT
    if key.imported:
        wanted &= ~MADE_HERE
    return wanted & ~A.NO_DA if pin else wanted


def check_attestation_key(public: bytes) -> None:
    """ParseError unless a TPMT_PUBLIC is a restricted signing key that cannot leave its chip."""
    area = decode(Public, public)
    attributes = ObjectAttributes(area.attributes)
    if area.name_alg != ALG.SHA256 or attributes & AK_ATTRIBUTES != AK_ATTRIBUTES:
        raise ParseError("the attestation key is not a restricted signing key fixed to its chip")
    if attributes & A.DECRYPT:
        raise ParseError("the attestation key decrypts too")
    if area.auth_policy or (odd := attributes & ~(AK_ATTRIBUTES | AK_MAY)):
        what = "a policy" if area.auth_policy else f"other attributes ({odd!s})"
        raise ParseError(f"the attestation key has {what}, as none of ours has")
    _scheme_of(area)
    _key_of(area)


@lru_cache(64)
def signing_key(public: bytes) -> ChipKey:
    """Return a signing key from its TPMT_PUBLIC; ParseError if it has no fixed, known scheme."""
    area = decode(Public, public)
    scheme = _scheme_of(area)
    return _chip_key(public, area, scheme, HASHES[scheme.details.hash_alg])  # type: ignore[union-attr]


@lru_cache(64)
def decrypting_key(public: bytes) -> ChipKey:
    """Return a decryption key from its TPMT_PUBLIC; ParseError unless OAEP or ECDH is fixed in it,
    and it does not sign.
    """
    area = decode(Public, public)
    wanted = {int(ALG.ECC): ALG.ECDH, int(ALG.RSA): ALG.OAEP}.get(area.type)
    scheme = getattr(area.parameters, "scheme", None)
    if wanted is None or scheme is None or scheme.scheme != wanted:
        raise ParseError("the key's scheme is not fixed to OAEP or ECDH")
    if area.attributes & (A.SIGN | A.DECRYPT) != A.DECRYPT:
        raise ParseError("the key does not decrypt alone")
    name = HASH_NAMES.get(scheme.details.hash_alg, "")
    return _chip_key(public, area, SigScheme(ALG.NULL), name)


def key_for(kind: str, public: bytes) -> ChipKey:
    """Return the key that a request of this kind is for: one that decrypts, or one that signs; a
    copy is made of either.
    """
    if kind == "backup":
        kind = "decrypt" if decode(Public, public).attributes & A.DECRYPT else "sign"
    return decrypting_key(public) if kind == "decrypt" else signing_key(public)


def _chip_key(public: bytes, area: Public, scheme: SigScheme, hash_name: str) -> ChipKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = _key_of(area)
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = sha256(spki).hexdigest()
    return ChipKey(
        public=public,
        name=name_of_public(public),
        scheme=scheme,
        hash_name=hash_name,
        spki=spki,
        words=f"{_kind_of(area)} {digest[:8]} {digest[8:16]}",
        decrypts=bool(area.attributes & A.DECRYPT),
        imported=is_imported(area),
    )


def _kind_of(area: Public) -> str:
    if isinstance(area.parameters, EccParms):
        return _CURVES[area.parameters.curve]
    assert isinstance(area.parameters, RsaParms)  # noqa: S101 - _key_of refused the others
    return f"RSA-{area.parameters.key_bits}"


def _scheme_of(area: Public) -> SigScheme:
    wanted = {int(ALG.ECC): ALG.ECDSA, int(ALG.RSA): ALG.RSASSA}.get(area.type)
    scheme = getattr(area.parameters, "scheme", None)
    if wanted is None or scheme is None or scheme.scheme != wanted:
        raise ParseError("the key's signature scheme is not fixed to ECDSA or RSASSA")
    if not isinstance(scheme.details, SchemeHash) or scheme.details.hash_alg not in HASHES:
        raise ParseError("the key's hash is neither SHA-256 nor SHA-384")
    return SigScheme(scheme.scheme, SchemeHash(scheme.details.hash_alg))


def _key_of(area: Public) -> EllipticCurvePublicKey | RSAPublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    parameters, unique = area.parameters, area.unique
    try:
        if isinstance(parameters, EccParms) and isinstance(unique, EccPoint):
            curves = {int(CURVE.NIST_P256): ec.SECP256R1(), int(CURVE.NIST_P384): ec.SECP384R1()}
            x, y = (int.from_bytes(v, "big") for v in (unique.x, unique.y))
            return ec.EllipticCurvePublicNumbers(x, y, curves[parameters.curve]).public_key()
        if isinstance(parameters, RsaParms) and isinstance(unique, bytes):
            n = int.from_bytes(unique, "big")
            if parameters.key_bits in _RSA_BITS and n.bit_length() == parameters.key_bits:
                return rsa.RSAPublicNumbers(parameters.exponent or 65537, n).public_key()
    except (ValueError, KeyError):
        pass
    raise ParseError("not a public key of P-256, P-384 or RSA-2048 to 4096")


def check_attest(
    ak_public: bytes, attest: bytes, signature: bytes, kind: int, qualifying: bytes | None = None
) -> Any:
    """Check a TPMS_ATTEST by this AK; return its attested part.

    `signature` is a TPMT_SIGNATURE with SHA-256 or SHA-384, `kind` a TPM_ST_ATTEST_…; `qualifying`
    is compared unless None. VerificationError when anything does not hold, ParseError when the
    bytes are no attestation.
    """
    if max(map(len, (ak_public, attest, signature))) > MAX_RESPONSE:
        raise ParseError("an attestation longer than anything that a chip answers")
    body = signed_body(ak_public, attest, signature)
    if body.type != kind:
        raise VerificationError(
            f"the attestation is of kind 0x{body.type:04x}, not 0x{kind:04x}", code="other-kind"
        )
    if qualifying is not None and body.extra_data != qualifying:
        raise VerificationError(
            "the attestation was made for another request", code="other-qualifying"
        )
    return body.attested


@lru_cache(512)
def signed_body(ak_public: bytes, attest: bytes, signature: bytes) -> Attest:
    """The TPMS_ATTEST that this AK signed; it begins with TPM_GENERATED.

    VerificationError (`bad-signature`), ParseError when the bytes are no attestation.
    """
    _check_signature(ak_public, attest, signature)
    return decode(Attest, attest)


@lru_cache(16)
def _signer(public: bytes) -> tuple[SigScheme, EllipticCurvePublicKey | RSAPublicKey]:
    area = decode(Public, public)
    return _scheme_of(area), _key_of(area)


def _check_signature(ak_public: bytes, message: bytes, signature: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

    given = decode(Signature, signature)
    scheme, key = _signer(ak_public)
    named = scheme.details.hash_alg  # type: ignore[union-attr]
    algorithm = hashes.SHA256() if named == ALG.SHA256 else hashes.SHA384()
    try:
        if given.sig_alg != scheme.scheme or given.signature.hash_alg != named:  # type: ignore[union-attr]
            raise InvalidSignature
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(given.signature, EccSignature):
            r, s = (int.from_bytes(v, "big") for v in (given.signature.r, given.signature.s))
            key.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(algorithm))
        elif isinstance(given.signature, RsaSignature):
            key.verify(given.signature.signature, message, padding.PKCS1v15(), algorithm)  # type: ignore[call-arg, arg-type]
        else:
            raise InvalidSignature
    except InvalidSignature:
        raise VerificationError(
            "the attestation is not signed by the group's device", code="bad-signature"
        ) from None


def check_creation(
    ak_public: bytes, key: ChipKey, attest: bytes, signature: bytes, place: Birthplace
) -> None:
    """VerificationError unless the AK certifies that its chip made this key (CertifyCreation), and
    under a storage key that is fixed to it; of a key that is fixed itself the chip sees to that.
    """
    info = check_attest(ak_public, attest, signature, ST.ATTEST_CREATION)
    if not isinstance(info, CreationInfo) or info.object_name != key.name:
        raise VerificationError("the chip certified the creation of another key")
    if not is_fixed(key.public):
        check_birthplace(place, info.creation_hash)


@dataclass(frozen=True)
class ChipState:
    """NV_Certify of a group's counter and roster index, each TPMS_ATTEST with TPMT_SIGNATURE."""

    counter_attest: bytes
    counter_signature: bytes
    roster_attest: bytes
    roster_signature: bytes


def check_state(
    state: ChipState,
    ak_public: bytes,
    group: GroupDocument,
    roster: RosterDocument,
    qualifying: bytes,
) -> int:
    """Return the certified epoch counter, after checking that the chip holds this roster.

    Both attestations are by the AK over `qualifying`. The Names are recomputed from the group
    document, so an ordinary index that poses as the counter is refused. VerificationError.
    """
    counter = nv_contents(
        check_attest(
            ak_public, state.counter_attest, state.counter_signature, ST.ATTEST_NV, qualifying
        ),
        name_of_nv(counter_nv(group, written=True)),
        COUNTER_SIZE,
        "epoch counter",
    )
    held = nv_contents(
        check_attest(
            ak_public, state.roster_attest, state.roster_signature, ST.ATTEST_NV, qualifying
        ),
        name_of_nv(roster_nv(group, written=True)),
        ROSTER_SIZE,
        "roster index",
    )
    try:
        if held != roster_content(group, roster):
            raise VerificationError("the chip holds another roster than the request says")
    except UsageError as e:
        raise VerificationError(e.message) from None
    return int.from_bytes(counter, "big")


@dataclass(frozen=True)
class BudgetState:
    """NV_Certify of a key's budget index, TPMS_ATTEST with TPMT_SIGNATURE."""

    attest: bytes
    signature: bytes


def check_budget(state: BudgetState, ak_public: bytes, name: bytes, qualifying: bytes) -> Counted:
    """Return what the chip certifies that the budget index of this (written) Name holds.

    The attestation is by the AK over `qualifying`. VerificationError.
    """
    info = check_attest(ak_public, state.attest, state.signature, ST.ATTEST_NV, qualifying)
    return Counted.read(nv_contents(info, name, BUDGET_SIZE, "budget of this key"))


def nv_contents(info: Any, name: bytes, size: int, what: str) -> bytes:
    """Return what an index of this (written) Name holds, all `size` bytes, as the chip certified
    it. VerificationError: `other-index` for another one, whatever it is called.
    """
    if not isinstance(info, NvCertifyInfo) or info.index_name != name:
        raise VerificationError(
            f"what the chip certified is not this group's {what}", code="other-index"
        )
    if info.offset != 0:
        raise VerificationError(f"the chip certified a part of the {what}", code="part-of-index")
    if len(info.contents) != size:
        raise VerificationError("the chip certified a part of an index", code="part-of-index")
    return info.contents
