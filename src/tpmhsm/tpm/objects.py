"""Objects of the chip: the storage parent, the attestation key, and keys that sign.

Every public area that is believed has been hashed: `Loaded.name` is recomputed here, and compared
with what the chip says (Part 1, section 16; the attributes are Part 2, section 8.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpmhsm.errors import (
    ChipRefusedError,
    DeviceError,
    NotFoundError,
    ParseError,
    UsageError,
    VerificationError,
)
from tpmhsm.policy.receiving import RECEIVING_ATTRIBUTES, RECEIVING_POLICY
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.sessions import start_hmac
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.commands import (
    CertifyCreation,
    Create,
    CreatePrimary,
    EvictControl,
    Load,
    ReadPublic,
    Sign,
)
from tpmhsm.wire.constants import ALG, CURVE, HT, RC, RH
from tpmhsm.wire.constants import ObjectAttributes as Attribute
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import EccParms, Public, RsaParms
from tpmhsm.wire.rc import base_code
from tpmhsm.wire.structures import (
    AES128_CFB,
    NULL_HASHCHECK,
    NULL_SCHEME,
    NULL_SYM,
    AsymScheme,
    EccPoint,
    EccSignature,
    KdfScheme,
    RsaSignature,
    SchemeHash,
    SensitiveCreate,
    Signature,
    SigScheme,
    Ticket,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from tpmhsm.tpm.pins import Pin
    from tpmhsm.wire.commands import CreateResponse

    PublicKey = EllipticCurvePublicKey | RSAPublicKey

ALGORITHMS = ("p256", "p384", "rsa2048", "rsa3072", "rsa4096")
HASHES = {"sha256": ALG.SHA256, "sha384": ALG.SHA384}

_CURVES = {"p256": CURVE.NIST_P256, "p384": CURVE.NIST_P384}
_UNSUPPORTED = (RC.VALUE, RC.KEY_SIZE, RC.CURVE, RC.SCHEME, RC.HASH, RC.ASYMMETRIC)
_NO_KDF = KdfScheme(ALG.NULL)
BORN_HERE = Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.SENSITIVE_DATA_ORIGIN
"""What makes a key one that exists in this chip and nowhere else."""
_PRIMARY = BORN_HERE | Attribute.USER_WITH_AUTH | Attribute.NO_DA | Attribute.RESTRICTED

# Where our primaries are kept when nothing equal is persistent yet: the owner's range (Part 2,
# section 7.2.2), beyond the handles that others take by habit (SRK 0x81000001, EK 0x8101…).
_PARENT_HANDLES = range(0x81008100, 0x81008140)
_AK_HANDLES = range(0x81008140, 0x81008180)
RSA_AK_HANDLES = range(0x81008180, 0x810081C0)
_RECEIVING_HANDLES = range(0x810081C0, 0x81008200)

_ZEROS = EccPoint(bytes(32), bytes(32))
STORAGE_PARENT_TEMPLATE = Public(
    ALG.ECC,
    ALG.SHA256,
    BORN_HERE
    | Attribute.USER_WITH_AUTH
    | Attribute.NO_DA
    | Attribute.RESTRICTED
    | Attribute.DECRYPT,
    b"",
    EccParms(AES128_CFB, AsymScheme(ALG.NULL), CURVE.NIST_P256, _NO_KDF),
    _ZEROS,
)
"""The ECC SRK of the TCG's TPM v2.0 Provisioning Guidance."""

RECEIVING_PARENT_TEMPLATE = STORAGE_PARENT_TEMPLATE.replace(
    attributes=RECEIVING_ATTRIBUTES, auth_policy=RECEIVING_POLICY
)
"""The key that takes copies from other chips: what it may, `tpmhsm.policy.receiving` says."""

ATTESTATION_KEY_TEMPLATE = Public(
    ALG.ECC,
    ALG.SHA256,
    _PRIMARY | Attribute.SIGN,
    b"",
    EccParms(NULL_SYM, AsymScheme(ALG.ECDSA, SchemeHash(ALG.SHA256)), CURVE.NIST_P256, _NO_KDF),
    _ZEROS,
)
"""Restricted: it signs only what the chip itself composed, or hashed and found harmless."""


@dataclass(frozen=True)
class Loaded:
    """An object in the chip. `name` was recomputed from `public`."""

    handle: int
    public: Public
    name: bytes


@dataclass(frozen=True)
class CreatedKey:
    """A new key, as it is kept outside the chip.

    `public` TPMT_PUBLIC; `private` the contents of TPM2B_PRIVATE, for its parent's eyes; `name` 34
    bytes; `creation_data` TPMS_CREATION_DATA; `creation_hash`; `creation_ticket` TPMT_TK_CREATION,
    with which this chip certifies at any later time that it made the key (`certify_creation`).
    """

    public: bytes
    private: bytes
    name: bytes
    creation_data: bytes
    creation_hash: bytes
    creation_ticket: bytes


@dataclass(frozen=True)
class Attestation:
    """What the chip said of itself: `attest` TPMS_ATTEST, `signature` TPMT_SIGNATURE over it."""

    attest: bytes
    signature: bytes


def storage_parent(chip: Chip, name: bytes | None = None) -> Loaded:
    """The persistent key under which ours are kept; made on first use (owner hierarchy).

    With `name`, the one of that Name and no other: NotFoundError if the chip has it no longer.
    """
    return _primary(chip, RH.OWNER, STORAGE_PARENT_TEMPLATE, _PARENT_HANDLES, name)


def attestation_key(chip: Chip, name: bytes | None = None) -> Loaded:
    """The persistent AK; made on first use (endorsement hierarchy). `name` as for the parent."""
    return _primary(chip, RH.ENDORSEMENT, ATTESTATION_KEY_TEMPLATE, _AK_HANDLES, name)


def receiving_parent(chip: Chip, name: bytes | None = None) -> Loaded:
    """The persistent key that takes copies from other chips; made on first use (owner hierarchy).

    What is done with it takes a session of `tpmhsm.tpm.receiving`. `name` as for the parent.
    """
    return _primary(chip, RH.OWNER, RECEIVING_PARENT_TEMPLATE, _RECEIVING_HANDLES, name)


def create_key(
    chip: Chip,
    parent: Loaded,
    algorithm: str,
    policy: bytes | None,
    hash_name: str = "sha256",
    *,
    pin: Pin | None = None,
) -> CreatedKey:
    """Make a signing key under `parent`. It is not loaded.

    `policy`: the digest (32 bytes) of what must be fulfilled for it to sign, or None for an open
    key. Scheme and hash are fixed for good. `pin` reaches the chip encrypted; the chip counts wrong
    ones from then on. UsageError for an algorithm that is not one of ALGORITHMS, ChipRefusedError
    for one that this chip lacks.
    """
    template = signing_template(algorithm, policy, hash_name, counts=pin is not None)
    return create_from(chip, parent, template, algorithm, pin)


def create_from(  # noqa: PLR0917 (TPM2_Create has as many)
    chip: Chip,
    parent: Loaded,
    template: Public,
    algorithm: str,
    pin: Pin | None = None,
    outside: bytes = b"",
) -> CreatedKey:
    """Make a key of this public area; errors as of `create_key`. `algorithm` for the words.

    `outside` goes into the creation data, which the chip certifies (Part 2 §15.1, outsideInfo).
    """
    try:
        made = _create(chip, parent, template, pin, outside)
    except ChipRefusedError as error:
        raise unsupported(error, algorithm) from error
    _check_template(template, made.out_public)
    return CreatedKey(
        public=encode(made.out_public),
        private=made.out_private,
        name=name_of_public(made.out_public),
        creation_data=encode(made.creation_data) if made.creation_data else b"",
        creation_hash=made.creation_hash,
        creation_ticket=encode(made.creation_ticket),
    )


def unsupported(error: ChipRefusedError, algorithm: str) -> ChipRefusedError:
    """The refusal of an algorithm that this chip lacks in words; other refusals as they are."""
    if base_code(error.rc) not in _UNSUPPORTED:
        return error
    return ChipRefusedError(
        f"this chip makes no {algorithm} keys: {error.message}",
        rc=error.rc,
        command=error.command,
        code="chip-unsupported",
        hint="tpmhsm device probe says which it makes",
    )


def _create(
    chip: Chip, parent: Loaded, template: Public, pin: Pin | None, outside: bytes
) -> CreateResponse:
    """TPM2_Create; with a PIN in a session whose encryption only this parent can undo."""
    if pin is None:
        return chip.send(Create(parent.handle, SensitiveCreate(), template, outside, ()))
    session = start_hmac(chip, salt_key=pin.salt, encrypt=True)
    session.last = True
    try:
        sensitive = SensitiveCreate(user_auth=pin.value)
        return chip.send(Create(parent.handle, sensitive, template, outside, ()), session)
    except ChipRefusedError:
        chip.flush(session.handle)
        raise


def signing_template(
    algorithm: str,
    policy: bytes | None,
    hash_name: str = "sha256",
    *,
    counts: bool = False,
    copied: bool = False,
) -> Public:
    """The public area that a new signing key is asked for with; `counts`: it has a PIN, and the
    chip counts wrong ones; `copied`: its policy lets it be copied. Raises UsageError.
    """
    if algorithm not in ALGORITHMS or hash_name not in HASHES:
        raise UsageError(
            f"no such algorithm: {algorithm} with {hash_name}",
            hint=f"one of {', '.join(ALGORITHMS)}, with {' or '.join(HASHES)}",
        )
    digest = SchemeHash(HASHES[hash_name])
    scheme = AsymScheme(ALG.ECDSA if algorithm in _CURVES else ALG.RSASSA, digest)
    kind, parameters, unique = key_parameters(algorithm, scheme)
    attributes = key_attributes(Attribute.SIGN, policy, counts=counts, copied=copied)
    return Public(kind, ALG.SHA256, attributes, policy or b"", parameters, unique)


def key_attributes(
    use: Attribute, policy: bytes | None, *, counts: bool, copied: bool = False
) -> Attribute:
    """The attributes of a key made here, for one `use`: SIGN or DECRYPT, never both.

    UsageError for a policy that is no digest.
    """
    if policy is not None and len(policy) != 32:
        raise UsageError(f"a policy digest has 32 bytes, not {len(policy)}")
    # Without adminWithPolicy an empty password could change the key's authorization.
    attributes = BORN_HERE | Attribute.ADMIN_WITH_POLICY | use
    if not counts:  # dictionary attack protection would lock everybody out with one key's owner
        attributes |= Attribute.NO_DA
    if policy is None:
        attributes |= Attribute.USER_WITH_AUTH
    if copied:  # never in the clear: the inner wrapper is asked for, and a real parent
        attributes &= ~(Attribute.FIXED_TPM | Attribute.FIXED_PARENT)
        attributes |= Attribute.ENCRYPTED_DUPLICATION
    return attributes


def key_parameters(
    algorithm: str, scheme: AsymScheme
) -> tuple[int, EccParms | RsaParms, EccPoint | bytes]:
    """Type, parameters and empty `unique` of one of ALGORITHMS with its scheme fixed."""
    if algorithm in _CURVES:
        curve = EccParms(NULL_SYM, scheme, _CURVES[algorithm], _NO_KDF)
        return ALG.ECC, curve, EccPoint(b"", b"")
    bits = int(algorithm.removeprefix("rsa"))
    return ALG.RSA, RsaParms(NULL_SYM, scheme, bits, 0), b""


def load_key(chip: Chip, parent: Loaded, public: bytes, private: bytes) -> Loaded:
    """Load a key that `create_key` made under the same parent.

    VerificationError when the chip's Name for it is not the Name of `public`; ChipRefusedError
    when the two halves do not belong together or to another chip.
    """
    area = decode(Public, public)
    response = chip.send(Load(parent.handle, private, area))
    name = name_of_public(public)
    if response.name != name:
        raise VerificationError("the chip loaded another key than the one it was given")
    return Loaded(response.object_handle, area, name)


def read_loaded(chip: Chip, handle: int) -> Loaded:
    """The object at a handle, its Name recomputed. Raises VerificationError, ChipRefusedError."""
    response = chip.send(ReadPublic(handle))
    name = name_of_public(response.out_public)
    if response.name != name:
        raise VerificationError(f"the chip gives a wrong Name for handle 0x{handle:08x}")
    return Loaded(handle, response.out_public, name)


def scheme_of(public: Public) -> SigScheme:
    """The signature scheme that is fixed in a public area. UsageError if none is."""
    scheme = getattr(public.parameters, "scheme", None)
    if not isinstance(scheme, AsymScheme) or scheme.scheme not in (ALG.ECDSA, ALG.RSASSA):
        raise UsageError("this key does not sign with ECDSA or RSASSA")
    return SigScheme(scheme.scheme, scheme.details)


def hash_of(public: Public) -> str:
    """The name of the hash that a signing key's scheme fixes: "sha256" or "sha384"."""
    details = scheme_of(public).details
    for name, number in HASHES.items():
        if details is not None and details.hash_alg == number:
            return name
    raise UsageError("this key signs with a hash that is not used here")


def sign_command(key: Loaded, digest: bytes) -> Sign:
    """TPM2_Sign as it is always sent, so that approvers can compute its cpHash beforehand.

    The scheme is spelled out from the public area; the ticket is NULL: the key is not restricted.
    """
    return Sign(key.handle, digest, scheme_of(key.public), NULL_HASHCHECK)


def sign_digest(chip: Chip, key: Loaded, digest: bytes, *auths: Any) -> bytes:
    """Sign a digest by the key's own hash: DER ECDSA-Sig-Value (RFC 3279), or RSASSA bytes.

    `auths` as for `Chip.send`; none for an open key. Raises ChipRefusedError.
    """
    return plain_signature(chip.send(sign_command(key, digest), *auths).signature)


def plain_signature(signature: Signature) -> bytes:
    """A TPMT_SIGNATURE as everybody else writes it: DER for ECDSA, plain bytes for RSA."""
    inner = signature.signature
    if signature.sig_alg == ALG.ECDSA and isinstance(inner, EccSignature):
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

        return encode_dss_signature(int.from_bytes(inner.r, "big"), int.from_bytes(inner.s, "big"))
    if signature.sig_alg in (ALG.RSASSA, ALG.RSAPSS) and isinstance(inner, RsaSignature):
        return inner.signature
    raise ParseError(f"a signature of the unknown kind 0x{signature.sig_alg:04x}")


def certify_creation(
    chip: Chip, ak: Loaded, key: Loaded, created: CreatedKey, qualifying: bytes
) -> Attestation:
    """TPM2_CertifyCreation: the AK says that this chip made this key (Part 3, section 18.3).

    `qualifying`: the asker's nonce, up to 32 bytes. Works at any time, needs nothing of the key.
    """
    ticket = decode(Ticket, created.creation_ticket)
    command = CertifyCreation(
        ak.handle, key.handle, qualifying, created.creation_hash, NULL_SCHEME, ticket
    )
    response = chip.send(command)
    return Attestation(response.certify_info, encode(response.signature))


def _check_template(asked: Public, given: Public) -> None:
    """The chip must not have changed what was asked for: the policy, above all."""
    if given.replace(unique=asked.unique) != asked:
        raise VerificationError("the chip made another kind of key than was asked for")


def _primary(
    chip: Chip, hierarchy: RH, template: Public, places: range, name: bytes | None
) -> Loaded:
    """Find a primary among the persistent objects, or make it so.

    A primary is a function of the hierarchy's seed and the template, so its Name tells whether a
    persistent object is it, whoever put it there and at whatever handle.
    """
    if name is not None and (usual := object_at(chip, places.start)) and usual.name == name:
        return usual
    persistent = all_persistent(chip)
    if name is not None:
        for loaded in persistent:
            if loaded.name == name:
                return loaded
        raise NotFoundError(
            f"the chip has no persistent key of the Name {name.hex()}",
            hint="another chip, or it was cleared: what was made under that key is lost",
        )
    made = chip.send(CreatePrimary(hierarchy, SensitiveCreate(), template, b"", ()))
    try:
        _check_template(template, made.out_public)
        wanted = name_of_public(made.out_public)
        for loaded in persistent:
            if loaded.name == wanted:
                return loaded
        taken = {loaded.handle for loaded in persistent}
        handle = persist(chip, made.object_handle, [at for at in places if at not in taken])
    finally:
        chip.flush(made.object_handle)
    loaded = read_loaded(chip, handle)
    if loaded.name != wanted:
        raise VerificationError("the chip kept another key than it was told to keep")
    return loaded


def object_at(chip: Chip, handle: int) -> Loaded | None:
    """The object at a handle, or None."""
    try:
        return read_loaded(chip, handle)
    except ChipRefusedError:
        return None


def own_handles(chip: Chip) -> list[int]:
    """Handles of what is persistent where this program keeps its keys, whoever put it there."""
    places = (_PARENT_HANDLES, _AK_HANDLES, RSA_AK_HANDLES)
    return [at for at in chip.handles(HT.PERSISTENT) if any(at in place for place in places)]


def all_persistent(chip: Chip) -> list[Loaded]:
    """All persistent objects, each Name recomputed."""
    return [read_loaded(chip, handle) for handle in chip.handles(HT.PERSISTENT)]


def persist(chip: Chip, handle: int, places: list[int]) -> int:
    """TPM2_EvictControl at the first place that is free after all."""
    for place in places:
        try:
            chip.send(EvictControl(RH.OWNER, handle, place))
        except ChipRefusedError as error:
            if error.rc != RC.NV_DEFINED:
                raise
            continue
        return place
    raise DeviceError("the chip has no free handle to keep a key at")
