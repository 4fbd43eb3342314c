"""Where a chip made a key that may be copied: under which storage key.

A chip gives a new key out encrypted for the key above it. Of a fixedTPM key it demands that the one
above is fixed, too; of a key that may be copied it does not (Part 1 §23.2, Part 2 §8.3.3), and
TPM2_CertifyCreation says truthfully that the chip made it. Under a storage key whose secrets
somebody has outside, he reads the new key as well. So the creation data must name a storage key
that is fixed to its chip, from nowhere else, and does nothing but protect others. That there is
such a key in the chip need not be certified: TPM2_Create asks for its private part (Part 3 §12.1),
and a chip takes in none that says of itself that it is fixed (§12.2, §12.3, §13.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from tpmhsm.errors import VerificationError
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import ALG
from tpmhsm.wire.constants import ObjectAttributes as A
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import CreationData

_KEEPS = A.FIXED_TPM | A.FIXED_PARENT | A.SENSITIVE_DATA_ORIGIN | A.RESTRICTED | A.DECRYPT
_TYPES = (int(ALG.ECC), int(ALG.RSA))


@dataclass(frozen=True)
class Birthplace:
    """`data` TPMS_CREATION_DATA, `parent` the TPMT_PUBLIC of the storage key that it names; empty
    where they are not shown.
    """

    data: bytes = b""
    parent: bytes = b""


def is_fixed(public: bytes) -> bool:
    """Whether a TPMT_PUBLIC is that of a key that its chip gives to nobody. ParseError."""
    return bool(decode(Public, public).attributes & A.FIXED_TPM)


def check_birthplace(born: Birthplace, creation_hash: bytes) -> None:
    """VerificationError unless the certified hash (SHA-256) is of creation data that names a
    storage key whose children nobody can read: `no-birthplace`, `other-creation-data`,
    `other-birthplace`, `weak-birthplace`, `open-birthplace`. ParseError for bytes that are neither.
    """
    if not born.data or not born.parent:
        raise VerificationError(
            "it may be copied, and under which storage key it was made is not shown",
            code="no-birthplace",
        )
    if sha256(born.data).digest() != creation_hash:
        raise VerificationError(
            "how it was made is not what the chip certified", code="other-creation-data"
        )
    if decode(CreationData, born.data).parent_name != name_of_public(born.parent):
        raise VerificationError(
            "it was made under another storage key than the one shown", code="other-birthplace"
        )
    area = decode(Public, born.parent)
    if area.name_alg != ALG.SHA256:
        raise VerificationError(
            "it was made under a storage key whose Name is not of SHA-256: two keys may have it",
            code="weak-birthplace",
        )
    if area.attributes & (_KEEPS | A.SIGN) != _KEEPS or area.type not in _TYPES:
        raise VerificationError(
            "it was made under a storage key that is not fixed to the chip: who has that one "
            "outside reads this one, too",
            code="open-birthplace",
        )
