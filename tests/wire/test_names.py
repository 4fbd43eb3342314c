"""Names, cpHash, rpHash and key derivation, against tpm2-tss and the policy vectors."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.structures import of
from tests.support.templates import SIGNING, STORAGE_RSA

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.wire.codec import encode
from tpmhsm.wire.commands import Sign
from tpmhsm.wire.constants import ALG, CC, RH, NvAttributes
from tpmhsm.wire.framing import encode_parameters
from tpmhsm.wire.kdf import kdf_a, kdf_e
from tpmhsm.wire.names import cp_hash, handle_name, name_of_nv, name_of_public, rp_hash
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import NULL_HASHCHECK, NULL_SCHEME, NvPublic

NV = NvPublic(0x01800010, ALG.SHA256, 0x00060006, b"", 16)


@pytest.fixture
def tss() -> Any:
    return pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is not installed")


@pytest.mark.parametrize("public", [SIGNING, STORAGE_RSA])
@pytest.mark.parametrize("name_alg", [ALG.SHA1, ALG.SHA256, ALG.SHA384, ALG.SHA512])
def test_names_of_objects(tss: Any, public: Public, name_alg: ALG) -> None:
    public = public.replace(name_alg=name_alg)
    theirs = tss.TPMT_PUBLIC.unmarshal(encode(public))[0]
    assert name_of_public(public) == bytes(theirs.get_name())
    assert name_of_public(encode(public)) == name_of_public(public)


def test_names_of_indices(tss: Any) -> None:
    theirs = tss.TPMS_NV_PUBLIC.unmarshal(encode(NV))[0]
    assert name_of_nv(NV) == bytes(theirs.get_name())
    assert name_of_nv(encode(NV)) == name_of_nv(NV)
    written = NV.replace(attributes=NV.attributes | NvAttributes.WRITTEN)
    assert name_of_nv(written) != name_of_nv(NV)


def test_a_public_area_without_name_alg_has_no_name() -> None:
    assert name_of_public(SIGNING.replace(name_alg=ALG.NULL)) == b""


def test_names_of_everything_else() -> None:
    assert handle_name(RH.OWNER) == bytes.fromhex("40000001")


@pytest.mark.parametrize("alg", [0, 0x1234, ALG.AES, ALG.SM3_256])
def test_unknown_name_algs_are_refused(alg: int) -> None:
    with pytest.raises(ParseError, match="nameAlg"):
        name_of_public(SIGNING.replace(name_alg=alg))
    with pytest.raises(ParseError, match="nameAlg"):
        name_of_nv(NV.replace(name_alg=alg))


@settings(max_examples=100)
@given(st.binary(max_size=90))
def test_garbage_has_no_name(data: bytes) -> None:
    for name_of in (name_of_public, name_of_nv):
        try:
            name = name_of(data)  # type: ignore[operator]
        except ParseError:
            continue
        assert len(name) in (0, 22, 34, 50, 66)


def test_cp_hash_of_sign() -> None:
    """trust.md: CC ‖ Name(key) ‖ TPM2B digest ‖ TPMT_SIG_SCHEME ‖ TPMT_TK_HASHCHECK."""
    digest = hashlib.sha256(b"bytes").digest()
    parameters = encode_parameters(Sign(0x80000000, digest, NULL_SCHEME, NULL_HASHCHECK))
    spelled = b"\0\x20" + digest + bytes.fromhex("00108024400000070000")
    assert parameters == spelled
    name = name_of_public(SIGNING)
    expected = hashlib.sha256(bytes.fromhex("0000015d") + name + spelled).digest()
    assert cp_hash(CC.Sign, [name], parameters) == expected


def test_rp_hash() -> None:
    expected = hashlib.sha256(bytes.fromhex("000000000000017b") + b"xy").digest()
    assert rp_hash(CC.GetRandom, b"xy") == expected
    with pytest.raises(UsageError):
        rp_hash(CC.GetRandom, b"", ALG.AES)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([ALG.SHA1, ALG.SHA256, ALG.SHA384, ALG.SHA512]),
    st.binary(max_size=64),
    st.binary(max_size=64),
    st.binary(max_size=64),
    st.integers(1, 100).map(lambda n: n * 8),
)
def test_key_derivation_is_that_of_others(
    alg: ALG, key: bytes, u: bytes, v: bytes, bits: int
) -> None:
    crypto = pytest.importorskip("tpm2_pytss.internal.crypto", reason="tpm2-pytss is missing")
    assert kdf_a(alg, key, b"CFB", u, v, bits=bits) == crypto._kdfa(alg, key, b"CFB", u, v, bits)
    concat = ConcatKDFHash(getattr(hashes, alg.name)(), bits // 8, b"SECRET\0" + u + v)
    assert kdf_e(alg, key, b"SECRET", u, v, bits=bits) == concat.derive(key)


@settings(max_examples=40, deadline=None)
@given(of(NvPublic))
def test_every_name_is_alg_and_digest(value: NvPublic) -> None:
    name = name_of_nv(value.replace(name_alg=ALG.SHA256))
    area = encode(value.replace(name_alg=ALG.SHA256))
    assert name == b"\0\x0b" + hashlib.sha256(area).digest()
