"""Public areas that tests of wire and chip make keys from."""

from __future__ import annotations

from tpmhsm.wire.constants import ALG, CURVE, ObjectAttributes
from tpmhsm.wire.public import EccParms, Public, RsaParms
from tpmhsm.wire.structures import (
    AES128_CFB,
    NULL_SYM,
    AsymScheme,
    EccPoint,
    KdfScheme,
    SchemeHash,
)

A = ObjectAttributes
BORN_HERE = A.FIXED_TPM | A.FIXED_PARENT | A.SENSITIVE_DATA_ORIGIN | A.USER_WITH_AUTH | A.NO_DA

STORAGE = Public(
    type=ALG.ECC,
    name_alg=ALG.SHA256,
    attributes=BORN_HERE | A.RESTRICTED | A.DECRYPT,
    auth_policy=b"",
    parameters=EccParms(AES128_CFB, AsymScheme(ALG.NULL), CURVE.NIST_P256, KdfScheme(ALG.NULL)),
    unique=EccPoint(b"", b""),
)
STORAGE_RSA = STORAGE.replace(
    type=ALG.RSA, parameters=RsaParms(AES128_CFB, AsymScheme(ALG.NULL), 2048, 0), unique=b""
)
SIGNING = STORAGE.replace(
    attributes=BORN_HERE | A.SIGN,
    parameters=EccParms(
        NULL_SYM,
        AsymScheme(ALG.ECDSA, SchemeHash(ALG.SHA256)),
        CURVE.NIST_P256,
        KdfScheme(ALG.NULL),
    ),
)
SIGNING_RSA = SIGNING.replace(
    type=ALG.RSA,
    parameters=RsaParms(NULL_SYM, AsymScheme(ALG.RSASSA, SchemeHash(ALG.SHA256)), 2048, 0),
    unique=b"",
)
DECRYPTING_RSA = SIGNING_RSA.replace(
    attributes=BORN_HERE | A.DECRYPT,
    parameters=RsaParms(NULL_SYM, AsymScheme(ALG.OAEP, SchemeHash(ALG.SHA256)), 2048, 0),
)
DERIVING = SIGNING.replace(
    attributes=BORN_HERE | A.DECRYPT,
    parameters=EccParms(
        NULL_SYM,
        AsymScheme(ALG.ECDH, SchemeHash(ALG.SHA256)),
        CURVE.NIST_P256,
        KdfScheme(ALG.NULL),
    ),
)
