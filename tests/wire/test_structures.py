"""Structures: nothing is lost both ways, tpm2-tss reads them alike, garbage is a ParseError."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.support.structures import of

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.wire import attest, commands, framing, public, structures
from tpmhsm.wire.codec import MAX_SIZE, Structure, decode, decode_from, encode
from tpmhsm.wire.constants import ALG, CAP
from tpmhsm.wire.framing import Command
from tpmhsm.wire.structures import (
    CapabilityData,
    Digests,
    Empty,
    Ha,
    KdfScheme,
    PcrSelection,
    Signature,
    SigScheme,
    Ticket,
    pcr_selection,
)


def _classes(module: Any) -> list[type[Structure]]:
    found = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Structure)]
    return [v for v in found if v.__module__.startswith(module.__name__) and v not in _BASES]


_BASES = (Structure, Command)
PARTS = [c for m in (structures, public, attest, framing) for c in _classes(m)]
RESPONSES = [c for c in _classes(commands) if not issubclass(c, Command)]
DECODED = PARTS + RESPONSES
TSS = {
    "SigScheme": "TPMT_SIG_SCHEME",
    "RsaDecrypt": "TPMT_RSA_DECRYPT",
    "KeyedHashScheme": "TPMT_KEYEDHASH_SCHEME",
    "KdfScheme": "TPMT_KDF_SCHEME",
    "Ha": "TPMT_HA",
    "Signature": "TPMT_SIGNATURE",
    "NvPublic": "TPMS_NV_PUBLIC",
    "ClockInfo": "TPMS_CLOCK_INFO",
    "TimeInfo": "TPMS_TIME_INFO",
    "EccPoint": "TPMS_ECC_POINT",
    "AlgProperty": "TPMS_ALG_PROPERTY",
    "TaggedProperty": "TPMS_TAGGED_PROPERTY",
    "CertifyInfo": "TPMS_CERTIFY_INFO",
    "CreationInfo": "TPMS_CREATION_INFO",
    "CommandAuditInfo": "TPMS_COMMAND_AUDIT_INFO",
    "SessionAuditInfo": "TPMS_SESSION_AUDIT_INFO",
    "TimeAttestInfo": "TPMS_TIME_ATTEST_INFO",
    "NvCertifyInfo": "TPMS_NV_CERTIFY_INFO",
    "Sensitive": "TPMT_SENSITIVE",
    "Ticket": "TPMT_TK_CREATION",
}


@pytest.mark.parametrize("cls", DECODED, ids=lambda c: c.__name__)
def test_round_trip(cls: type[Structure]) -> None:
    @settings(max_examples=25, deadline=None)
    @given(of(cls))
    def check(value: Any) -> None:
        assert decode(cls, encode(value)) == value
        assert hash(decode(cls, encode(value))) == hash(value)

    check()


def survives(cls: type[Structure], data: bytes) -> None:
    try:
        value = decode(cls, data)
    except ParseError:
        return
    assert encode(value) == data, "what is read must say all that was there"


def fuzz(cls: type[Structure], examples: int) -> None:
    """Random octets, and valid ones cut off, lengthened, or with bits flipped."""

    @settings(max_examples=examples, deadline=None)
    @given(st.binary(max_size=120), of(cls), st.data())
    def check(noise: bytes, value: Any, data: st.DataObject) -> None:
        survives(cls, noise)
        good = encode(value)
        survives(cls, good + noise[:1])
        if not good:
            return
        cut = data.draw(st.integers(0, len(good) - 1))
        with pytest.raises(ParseError):
            decode(cls, good[:cut])
        bit = data.draw(st.integers(0, len(good) * 8 - 1))
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        survives(cls, bytes(flipped))

    check()


@pytest.mark.parametrize("cls", DECODED, ids=lambda c: c.__name__)
def test_garbage_is_a_parse_error(cls: type[Structure]) -> None:
    fuzz(cls, 20)


@pytest.mark.long
@pytest.mark.parametrize("cls", DECODED, ids=lambda c: c.__name__)
def test_much_garbage_is_a_parse_error(cls: type[Structure]) -> None:
    fuzz(cls, 1000)


@pytest.mark.parametrize("cls", [c for c in PARTS if c.__name__ in TSS], ids=lambda c: c.__name__)
def test_tpm2_tss_reads_the_same(cls: type[Structure]) -> None:
    tss = pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is not installed")

    @settings(max_examples=20, deadline=None)
    @given(of(cls))
    def check(value: Any) -> None:
        data = encode(value)
        if _unknown_to_tss(value):
            return
        theirs, used = getattr(tss, TSS[cls.__name__]).unmarshal(data)
        assert used == len(data)
        assert bytes(theirs.marshal()) == data

    check()


def _unknown_to_tss(value: Any) -> bool:
    """SHA-3 has no place in its TPMU_HA, KDF2 none in its schemes; it checks a ticket's tag."""
    if isinstance(value, KdfScheme):
        return value.scheme == ALG.KDF2
    ha = value.signature if isinstance(value, Signature) else value
    if isinstance(ha, Ha):
        return ha.hash_alg in (ALG.SHA3_256, ALG.SHA3_384, ALG.SHA3_512)
    return isinstance(value, Ticket)


@settings(max_examples=60, deadline=None)
@given(of(public.Public))
def test_tpm2_tss_reads_the_same_public_area(value: public.Public) -> None:
    tss = pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is not installed")
    assume(not (value.type == ALG.ECC and value.parameters.kdf.scheme == ALG.KDF2))
    data = encode(value)
    theirs, used = tss.TPMT_PUBLIC.unmarshal(data)
    assert used == len(data)
    assert bytes(theirs.marshal()) == data
    assert theirs.type == value.type
    assert theirs.nameAlg == value.name_alg
    assert int(theirs.objectAttributes) == value.attributes
    assert bytes(theirs.authPolicy) == value.auth_policy


@settings(max_examples=60, deadline=None)
@given(of(attest.Attest))
def test_tpm2_tss_reads_the_same_attestation(value: attest.Attest) -> None:
    tss = pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is not installed")
    if isinstance(value.attested, attest.NvDigestInfo | attest.QuoteInfo):
        return  # unknown to tss 3.2; and PCR selections there have at most four octets
    theirs, used = tss.TPMS_ATTEST.unmarshal(encode(value))
    assert used == len(encode(value))
    assert bytes(theirs.extraData) == value.extra_data
    assert theirs.clockInfo.clock == value.clock_info.clock
    assert theirs.firmwareVersion == value.firmware_version


def test_attestation_without_the_magic_is_refused() -> None:
    value = attest.Attest(
        0xFF544347,
        0x8014,
        b"",
        b"",
        structures.ClockInfo(1, 2, 3, True),
        4,
        attest.NvCertifyInfo(b"name", 0, b"content"),
    )
    data = encode(value)
    with pytest.raises(ParseError, match="0xff544347 belongs"):
        decode(attest.Attest, b"\xff\x54\x43\x48" + data[4:])


def test_lists_cannot_make_us_allocate() -> None:
    with pytest.raises(ParseError, match="items"):
        decode(CapabilityData, CAP.HANDLES.to_bytes(4, "big") + b"\xff\xff\xff\xff" + b"\0" * 8)


def test_selectors_that_are_unknown_are_named() -> None:
    with pytest.raises(ParseError, match="0x1234 is no known scheme"):
        decode(SigScheme, b"\x12\x34")


@pytest.mark.parametrize(
    "value",
    [
        structures.TaggedProperty(1 << 32, 0),
        structures.TaggedProperty(-1, 0),
        structures.TaggedProperty("1", 0),  # type: ignore[arg-type]
        structures.EccPoint(b"\0" * (MAX_SIZE + 1), b""),
        structures.EccPoint(None, b""),  # type: ignore[arg-type]
        PcrSelection(ALG.SHA256, b"\0" * 256),
        Ha(ALG.SHA256, b"\0" * 31),
        SigScheme(ALG.NULL, structures.SchemeHash(ALG.SHA256)),
        SigScheme(ALG.ECDSA),
        Signature(ALG.ECDSA, None),
        SigScheme(0x1234),
    ],
    ids=repr,
)
def test_values_that_do_not_fit_are_usage_errors(value: Structure) -> None:
    with pytest.raises(UsageError):
        encode(value)


def test_structures_are_frozen_values() -> None:
    one = structures.EccPoint(b"x", b"y")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.x = b"z"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del one.x
    assert one.replace(x=b"z") == structures.EccPoint(b"z", b"y")
    assert dataclasses.replace(one, x=b"z") == one.replace(x=b"z")
    assert one != structures.RsaSignature(1, b"")
    assert repr(one) == "EccPoint(x='78', y='79')"
    assert SigScheme(ALG.NULL) == SigScheme(scheme=ALG.NULL, details=None)


@pytest.mark.parametrize(
    ("args", "kwargs"), [((1, 2, 3), {}), ((), {}), ((b"x",), {"x": b"x"}), ((b"x",), {"z": 1})]
)
def test_wrong_fields_are_told(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="has the fields x, y"):
        structures.EccPoint(*args, **kwargs)


def test_empty_has_no_octets() -> None:
    assert encode(Empty()) == b""
    with pytest.raises(ParseError, match="1 octets too many"):
        decode(Empty, b"\0")


def test_decode_from_gives_the_place_after() -> None:
    point, at = decode_from(structures.EccPoint, b"--\0\1x\0\2yzrest", 2)
    assert (point, at) == (structures.EccPoint(b"x", b"yz"), 9)


def test_pcr_selection_bits() -> None:
    assert encode(pcr_selection(ALG.SHA256, (0, 7, 8, 23))) == bytes.fromhex("000b03810180")


def test_lists_of_digests() -> None:
    codec = Digests.__metadata__[0]  # type: ignore[attr-defined]
    assert codec.pack((b"a", b"bc")) == bytes.fromhex("0000000200016100026263")
