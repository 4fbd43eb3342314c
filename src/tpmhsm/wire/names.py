"""Names of entities and what authorizations cover (TCG TPM 2.0 Library Part 1 §16, §19)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from tpmhsm.errors import ParseError
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.constants import ALG
from tpmhsm.wire.kdf import hash_name
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import NvPublic


def _name(name_alg: int, area: bytes) -> bytes:
    return name_alg.to_bytes(2, "big") + hashlib.new(hash_name(name_alg), area).digest()


def name_of_public(public: Public | bytes) -> bytes:
    """The Name of an object: nameAlg ‖ H(TPMT_PUBLIC), 34 octets for SHA-256.

    `public` is the structure or its octets. An object with nameAlg NULL has an empty Name. Raises
    ParseError when octets are no TPMT_PUBLIC.
    """
    if isinstance(public, Public):
        area = encode(public)
    else:
        area, public = public, decode(Public, public)
    return b"" if public.name_alg == ALG.NULL else _checked(public.name_alg, area)


def name_of_nv(public: NvPublic | bytes) -> bytes:
    """The Name of an NV index: nameAlg ‖ H(TPMS_NV_PUBLIC).

    It changes when the index is first written, because TPMA_NV_WRITTEN is part of it.
    """
    if isinstance(public, NvPublic):
        area = encode(public)
    else:
        area, public = public, decode(NvPublic, public)
    return _checked(public.name_alg, area)


def _checked(name_alg: int, area: bytes) -> bytes:
    if name_alg not in _KNOWN:
        raise ParseError(f"0x{name_alg:04x} is no nameAlg known here")
    return _name(name_alg, area)


_KNOWN = frozenset({ALG.SHA1, ALG.SHA256, ALG.SHA384, ALG.SHA512, ALG.SHA3_256, ALG.SHA3_384})


def handle_name(handle: int) -> bytes:
    """The Name of a PCR, session or permanent entity: the handle itself, 4 octets."""
    return handle.to_bytes(4, "big")


def cp_hash(
    code: int, names: Iterable[bytes], parameters: bytes, hash_alg: int = ALG.SHA256
) -> bytes:
    """cpHash = H(commandCode ‖ Names of all handles ‖ parameters) (Part 1 §16.7)."""
    hashed = hashlib.new(hash_name(hash_alg), code.to_bytes(4, "big"))
    for name in names:
        hashed.update(name)
    hashed.update(parameters)
    return hashed.digest()


def rp_hash(code: int, parameters: bytes, hash_alg: int = ALG.SHA256, rc: int = 0) -> bytes:
    """rpHash = H(responseCode ‖ commandCode ‖ parameters) (Part 1 §16.8)."""
    head = rc.to_bytes(4, "big") + code.to_bytes(4, "big")
    return hashlib.new(hash_name(hash_alg), head + parameters).digest()
