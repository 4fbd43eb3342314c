"""Structures of TCG TPM 2.0 Library Part 2 that are no public area and no attestation."""

from __future__ import annotations

from typing import Annotated, Any

from tpmhsm.wire.codec import (
    TPM2B,
    U8,
    U16,
    U32,
    U64,
    UINT16,
    UINT32,
    Codec,
    Octets8,
    Select,
    Structure,
    Tpm2b,
    YesNo,
    fixed,
    listed,
    sized,
    sized_required,
    structure,
)
from tpmhsm.wire.constants import ALG, CAP, DIGEST_SIZES, RH, ST


@structure
class Empty(Structure):
    """No fields."""


# --- algorithms and schemes -----------------------------------------------------------------------


@structure
class SchemeHash(Structure):
    """TPMS_SCHEME_HASH (Part 2 §11.1.17)."""

    hash_alg: U16


@structure
class SchemeEcdaa(Structure):
    """TPMS_SCHEME_ECDAA (Part 2 §11.1.18)."""

    hash_alg: U16
    count: U16


@structure
class SchemeXor(Structure):
    """TPMS_SCHEME_XOR (Part 2 §11.1.21)."""

    hash_alg: U16
    kdf: U16


_SIGNING: dict[int, Codec | type[Structure] | None] = {
    ALG.NULL: None,
    ALG.RSASSA: SchemeHash,
    ALG.RSAPSS: SchemeHash,
    ALG.ECDSA: SchemeHash,
    ALG.ECDAA: SchemeEcdaa,
    ALG.SM2: SchemeHash,
    ALG.ECSCHNORR: SchemeHash,
}
_KEY_EXCHANGE: dict[int, Codec | type[Structure] | None] = {
    ALG.ECDH: SchemeHash,
    ALG.ECMQV: SchemeHash,
}
_DECRYPTING: dict[int, Codec | type[Structure] | None] = {
    ALG.NULL: None,
    ALG.RSAES: None,
    ALG.OAEP: SchemeHash,
}


@structure
class SigScheme(Structure):
    """TPMT_SIG_SCHEME (Part 2 §11.2.1.5, table 158)."""

    scheme: U16
    details: Annotated[
        SchemeHash | SchemeEcdaa | None, Select("scheme", {**_SIGNING, ALG.HMAC: SchemeHash})
    ] = None


@structure
class RsaDecrypt(Structure):
    """TPMT_RSA_DECRYPT (Part 2 §11.2.4.4, table 174)."""

    scheme: U16
    details: Annotated[SchemeHash | None, Select("scheme", _DECRYPTING)] = None


@structure
class AsymScheme(Structure):
    """TPMT_RSA_SCHEME and TPMT_ECC_SCHEME (Part 2 §11.2.4.2 and §11.2.5.6)."""

    scheme: U16
    details: Annotated[
        SchemeHash | SchemeEcdaa | None,
        Select("scheme", {**_SIGNING, **_DECRYPTING, **_KEY_EXCHANGE}),
    ] = None


@structure
class KeyedHashScheme(Structure):
    """TPMT_KEYEDHASH_SCHEME (Part 2 §11.1.23, table 154)."""

    scheme: U16
    details: Annotated[
        SchemeHash | SchemeXor | None,
        Select("scheme", {ALG.NULL: None, ALG.HMAC: SchemeHash, ALG.XOR: SchemeXor}),
    ] = None


@structure
class KdfScheme(Structure):
    """TPMT_KDF_SCHEME (Part 2 §11.2.3.3, table 167)."""

    scheme: U16
    details: Annotated[
        SchemeHash | None,
        Select(
            "scheme",
            {
                ALG.NULL: None,
                ALG.MGF1: SchemeHash,
                ALG.KDF1_SP800_56A: SchemeHash,
                ALG.KDF2: SchemeHash,
                ALG.KDF1_SP800_108: SchemeHash,
            },
        ),
    ] = None


@structure
class BlockCipher(Structure):
    """Key size in bits and mode of a block cipher (Part 2 §11.1.3-4)."""

    key_bits: U16
    mode: U16


@structure
class SymDef(Structure):
    """TPMT_SYM_DEF and TPMT_SYM_DEF_OBJECT (Part 2 §11.1.6-7, tables 139 and 140)."""

    algorithm: U16
    details: Annotated[
        BlockCipher | SchemeHash | None,
        Select(
            "algorithm",
            {
                ALG.NULL: None,
                ALG.AES: BlockCipher,
                ALG.SM4: BlockCipher,
                ALG.CAMELLIA: BlockCipher,
                ALG.XOR: SchemeHash,
            },
        ),
    ] = None


NULL_SCHEME = SigScheme(ALG.NULL)
"""The key's own scheme applies."""
NULL_SYM = SymDef(ALG.NULL)
AES128_CFB = SymDef(ALG.AES, BlockCipher(128, ALG.CFB))


def ecdsa(hash_alg: int = ALG.SHA256) -> SigScheme:
    """ECDSA over a digest by `hash_alg`."""
    return SigScheme(ALG.ECDSA, SchemeHash(hash_alg))


def rsassa(hash_alg: int = ALG.SHA256) -> SigScheme:
    """RSASSA-PKCS1-v1_5 over a digest by `hash_alg`."""
    return SigScheme(ALG.RSASSA, SchemeHash(hash_alg))


# --- digests, PCRs, tickets -----------------------------------------------------------------------

_HASHES: dict[int, Codec | type[Structure] | None] = {
    alg: fixed(size) for alg, size in DIGEST_SIZES.items()
}


@structure
class Ha(Structure):
    """TPMT_HA: a digest with its algorithm (Part 2 §10.3.2, table 79); NULL has no digest."""

    hash_alg: U16
    digest: Annotated[bytes | None, Select("hash_alg", {**_HASHES, ALG.NULL: None})]


@structure
class PcrSelection(Structure):
    """TPMS_PCR_SELECTION (Part 2 §10.6.2, table 94): bit n of octet n // 8 is PCR n."""

    hash_alg: U16
    select: Octets8


@structure
class PcrSelect(Structure):
    """TPMS_TAGGED_PCR_SELECT (Part 2 §10.8.3, table 106)."""

    tag: U32
    select: Octets8


PcrSelections = Annotated[tuple[PcrSelection, ...], listed(PcrSelection)]
Digests = Annotated[tuple[bytes, ...], listed(TPM2B)]
DigestValues = Annotated[tuple[Ha, ...], listed(Ha)]
CommandCodes = Annotated[tuple[int, ...], listed(UINT32)]


def pcr_selection(hash_alg: int, pcrs: tuple[int, ...]) -> PcrSelection:
    """The selection of PCRs 0 to 23 in one bank."""
    bits = sum(1 << n for n in set(pcrs))
    return PcrSelection(hash_alg, bits.to_bytes(3, "little"))


@structure
class Ticket(Structure):
    """TPMT_TK_CREATION, _VERIFIED, _AUTH, _HASHCHECK (Part 2 §10.7)."""

    tag: U16
    hierarchy: U32
    digest: Tpm2b


NULL_HASHCHECK = Ticket(ST.HASHCHECK, RH.NULL, b"")
"""No proof that the TPM itself hashed the message: enough for unrestricted keys."""
NULL_VERIFIED = Ticket(ST.VERIFIED, RH.NULL, b"")

# --- signatures -----------------------------------------------------------------------------------


@structure
class RsaSignature(Structure):
    """TPMS_SIGNATURE_RSA (Part 2 §11.3.1, table 185)."""

    hash_alg: U16
    signature: Tpm2b


@structure
class EccSignature(Structure):
    """TPMS_SIGNATURE_ECC (Part 2 §11.3.2, table 187); r and s are unsigned, big-endian."""

    hash_alg: U16
    r: Tpm2b
    s: Tpm2b


_SIGNATURES: dict[int, Codec | type[Structure] | None] = {
    ALG.NULL: None,
    ALG.RSASSA: RsaSignature,
    ALG.RSAPSS: RsaSignature,
    ALG.ECDSA: EccSignature,
    ALG.ECDAA: EccSignature,
    ALG.SM2: EccSignature,
    ALG.ECSCHNORR: EccSignature,
    ALG.HMAC: Ha,
}


@structure
class Signature(Structure):
    """TPMT_SIGNATURE (Part 2 §11.3.4, table 190)."""

    sig_alg: U16
    signature: Annotated[RsaSignature | EccSignature | Ha | None, Select("sig_alg", _SIGNATURES)]


# --- creation, sensitive areas, NV, contexts, time ------------------------------------------------


@structure
class SensitiveCreate(Structure):
    """TPMS_SENSITIVE_CREATE (Part 2 §11.1.15, table 145)."""

    user_auth: Tpm2b = b""
    data: Tpm2b = b""


@structure
class Sensitive(Structure):
    """TPMT_SENSITIVE (Part 2 §12.3.2.4, table 205); `sensitive` is d, or a prime, or the secret."""

    sensitive_type: U16
    auth_value: Tpm2b
    seed_value: Tpm2b
    sensitive: Annotated[
        bytes,
        Select(
            "sensitive_type",
            dict.fromkeys((ALG.RSA, ALG.ECC, ALG.KEYEDHASH, ALG.SYMCIPHER), TPM2B),
        ),
    ]


@structure
class CreationData(Structure):
    """TPMS_CREATION_DATA (Part 2 §15.1, table 221)."""

    pcr_select: PcrSelections
    pcr_digest: Tpm2b
    locality: U8
    parent_name_alg: U16
    parent_name: Tpm2b
    parent_qualified_name: Tpm2b
    outside_info: Tpm2b


@structure
class NvPublic(Structure):
    """TPMS_NV_PUBLIC (Part 2 §13.5, table 206)."""

    nv_index: U32
    name_alg: U16
    attributes: U32
    auth_policy: Tpm2b
    data_size: U16


@structure
class Context(Structure):
    """TPMS_CONTEXT (Part 2 §14.5, table 217)."""

    sequence: U64
    saved_handle: U32
    hierarchy: U32
    context_blob: Tpm2b


@structure
class ClockInfo(Structure):
    """TPMS_CLOCK_INFO (Part 2 §10.11.1, table 114); clock in milliseconds."""

    clock: U64
    reset_count: U32
    restart_count: U32
    safe: YesNo


@structure
class TimeInfo(Structure):
    """TPMS_TIME_INFO (Part 2 §10.11.6, table 116); time in milliseconds."""

    time: U64
    clock_info: ClockInfo


@structure
class EccPoint(Structure):
    """TPMS_ECC_POINT (Part 2 §11.2.5.2, table 176); coordinates unsigned, big-endian."""

    x: Tpm2b
    y: Tpm2b


SizedSensitiveCreate = Annotated[SensitiveCreate, sized_required(SensitiveCreate)]
SizedSensitive = Annotated[Sensitive | None, sized(Sensitive)]
SizedCreationData = Annotated[CreationData | None, sized(CreationData)]
SizedNvPublic = Annotated[NvPublic, sized_required(NvPublic)]
SizedPoint = Annotated[EccPoint | None, sized(EccPoint)]

# --- capabilities ---------------------------------------------------------------------------------


@structure
class AlgProperty(Structure):
    """TPMS_ALG_PROPERTY (Part 2 §10.8.1, table 102)."""

    alg: U16
    attributes: U32


@structure
class TaggedProperty(Structure):
    """TPMS_TAGGED_PROPERTY (Part 2 §10.8.2, table 103)."""

    tag: U32
    value: U32


@structure
class TaggedPolicy(Structure):
    """TPMS_TAGGED_POLICY (Part 2 §10.8.4, table 107)."""

    handle: U32
    policy: Ha


@structure
class CapabilityData(Structure):
    """TPMS_CAPABILITY_DATA (Part 2 §10.10.1, table 112); `items` is a tuple of what was asked."""

    capability: U32
    items: Annotated[
        tuple[Any, ...],
        Select(
            "capability",
            {
                CAP.ALGS: listed(AlgProperty),
                CAP.HANDLES: listed(UINT32),
                CAP.COMMANDS: listed(UINT32),
                CAP.PP_COMMANDS: listed(UINT32),
                CAP.AUDIT_COMMANDS: listed(UINT32),
                CAP.PCRS: listed(PcrSelection),
                CAP.TPM_PROPERTIES: listed(TaggedProperty),
                CAP.PCR_PROPERTIES: listed(PcrSelect),
                CAP.ECC_CURVES: listed(UINT16),
                CAP.AUTH_POLICIES: listed(TaggedPolicy),
            },
        ),
    ]
