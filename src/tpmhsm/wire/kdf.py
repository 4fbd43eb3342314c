"""Key derivation of TCG TPM 2.0 Library Part 1 §11.4.10."""

from __future__ import annotations

import hashlib
import hmac

from tpmhsm.errors import UsageError
from tpmhsm.wire.constants import HASH_NAMES


def hash_name(hash_alg: int) -> str:
    """The name of a TPM hash algorithm for `hashlib`. Raises UsageError for unknown ones."""
    try:
        return HASH_NAMES[hash_alg]
    except KeyError:
        raise UsageError(f"0x{hash_alg:04x} is no hash algorithm known here") from None


def kdf_a(
    hash_alg: int, key: bytes, label: bytes, context_u: bytes, context_v: bytes, *, bits: int
) -> bytes:
    """KDFa, counter mode of SP 800-108 with HMAC (§11.4.10.2); `label` without its final 0.

    `bits` is a multiple of 8.
    """
    name = hash_name(hash_alg)
    tail = label + b"\0" + context_u + context_v + bits.to_bytes(4, "big")
    out = b""
    counter = 0
    while len(out) * 8 < bits:
        counter += 1
        out += hmac.digest(key, counter.to_bytes(4, "big") + tail, name)
    return out[: bits // 8]


def kdf_e(
    hash_alg: int, z: bytes, label: bytes, party_u: bytes, party_v: bytes, *, bits: int
) -> bytes:
    """KDFe, SP 800-56A with x coordinates (§11.4.10.3); `label` without its final 0."""
    name = hash_name(hash_alg)
    tail = z + label + b"\0" + party_u + party_v
    out = b""
    counter = 0
    while len(out) * 8 < bits:
        counter += 1
        out += hashlib.new(name, counter.to_bytes(4, "big") + tail).digest()
    return out[: bits // 8]
