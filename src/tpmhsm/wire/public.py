"""Public areas of objects (TCG TPM 2.0 Library Part 2 §12.2)."""

from __future__ import annotations

from typing import Annotated

from tpmhsm.wire.codec import (
    TPM2B,
    U16,
    U32,
    Select,
    Structure,
    Tpm2b,
    sized_required,
    structure,
)
from tpmhsm.wire.constants import ALG, ObjectAttributes
from tpmhsm.wire.structures import (
    AsymScheme,
    EccPoint,
    KdfScheme,
    KeyedHashScheme,
    SymDef,
)


@structure
class RsaParms(Structure):
    """TPMS_RSA_PARMS (table 198); exponent 0 means 65537."""

    symmetric: SymDef
    scheme: AsymScheme
    key_bits: U16
    exponent: U32


@structure
class EccParms(Structure):
    """TPMS_ECC_PARMS (table 199)."""

    symmetric: SymDef
    scheme: AsymScheme
    curve: U16
    kdf: KdfScheme


@structure
class KeyedHashParms(Structure):
    """TPMS_KEYEDHASH_PARMS (table 196)."""

    scheme: KeyedHashScheme


@structure
class SymCipherParms(Structure):
    """TPMS_SYMCIPHER_PARMS (table 147)."""

    symmetric: SymDef


@structure
class Public(Structure):
    """TPMT_PUBLIC (table 201).

    `unique` is the modulus for RSA, an EccPoint for ECC, a digest for the others.
    """

    type: U16
    name_alg: U16
    attributes: U32
    auth_policy: Tpm2b
    parameters: Annotated[
        RsaParms | EccParms | KeyedHashParms | SymCipherParms,
        Select(
            "type",
            {
                ALG.RSA: RsaParms,
                ALG.ECC: EccParms,
                ALG.KEYEDHASH: KeyedHashParms,
                ALG.SYMCIPHER: SymCipherParms,
            },
        ),
    ]
    unique: Annotated[
        bytes | EccPoint,
        Select(
            "type",
            {ALG.RSA: TPM2B, ALG.ECC: EccPoint, ALG.KEYEDHASH: TPM2B, ALG.SYMCIPHER: TPM2B},
        ),
    ]


def is_imported(public: Public) -> bool:
    """Whether a key was not made by the chip: copies of it may exist outside (Part 2 §8.3.3.5).

    `sensitiveDataOrigin` is part of the Name, so it cannot be set later.
    """
    return not public.attributes & ObjectAttributes.SENSITIVE_DATA_ORIGIN


SizedPublic = Annotated[Public, sized_required(Public)]
