"""CRLs from stored entries: what other libraries read of them, and what is read back."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from tpmhsm.errors import ParseError, RefusedError, UsageError, VerificationError
from tpmhsm.pki.crl import CrlHead, assemble_tbs, complete_crl, read_tbs_crl
from tpmhsm.pki.crl_entries import (
    Entry,
    encode_entry,
    read_entry,
    serial_of,
    split_entries,
    usual_entry,
)
from tpmhsm.pki.reasons import CODES, check_hold, check_reason, may_replace, reason_name
from tpmhsm.pki.signatures import signature_algorithm

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
NAME = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "Example")])

moments = st.datetimes(
    datetime(1950, 1, 1), datetime(2149, 12, 31), timezones=st.just(UTC)
).map(lambda t: t.replace(microsecond=0))  # fmt: skip
entries = st.builds(
    Entry,
    st.integers(1, (1 << 159) - 1),
    moments,
    st.sampled_from(["", *(name for name in CODES if name != "unspecified")]),
    st.none() | moments,
    st.just(()),
)


def head(**changes: object) -> CrlHead:
    found: dict[str, object] = {
        "issuer": NAME.public_bytes(),
        "algorithm": signature_algorithm(EC_KEY.public_key(), "sha256"),
        "ski": b"k" * 20,
        "number": 1,
        "this_update": NOW,
        "next_update": NOW + timedelta(days=7),
        **changes,
    }
    return CrlHead(**found)  # type: ignore[arg-type]


@given(
    st.lists(entries, max_size=5, unique_by=lambda e: e.serial),
    st.integers(0, (1 << 159) - 1),
    moments,
    moments,
)
@settings(max_examples=60, deadline=None)
def test_another_library_reads_what_was_written(
    listed: list[Entry], number: int, start: datetime, end: datetime
) -> None:
    if end <= start:
        start, end = end, start + timedelta(days=1)
    raws = [encode_entry(one) for one in listed]
    whole = assemble_tbs(head(number=number, this_update=start, next_update=end), raws)
    made = complete_crl(
        whole,
        signature_algorithm(EC_KEY.public_key(), "sha256"),
        EC_KEY.public_key(),
        "sha256",
        EC_KEY.sign(whole, ec.ECDSA(hashes.SHA256())),
    )
    crl = x509.load_der_x509_crl(made)
    assert crl.is_signature_valid(EC_KEY.public_key())
    assert crl.tbs_certlist_bytes == whole
    assert (crl.issuer, crl.last_update_utc, crl.next_update_utc) == (NAME, start, end)
    numbered = crl.extensions.get_extension_for_class(x509.CRLNumber).value
    assert numbered.crl_number == number
    aki = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert (aki.key_identifier, aki.authority_cert_issuer) == (b"k" * 20, None)
    assert [(e.serial_number, e.revocation_date_utc) for e in crl] == [
        (e.serial, e.revoked) for e in listed
    ]
    for theirs, ours in zip(crl, listed, strict=True):
        found = {type(e.value): e.value for e in theirs.extensions}
        code = found.pop(x509.CRLReason, None)
        assert (code.reason.value if code else "") == ours.reason
        since = found.pop(x509.InvalidityDate, None)
        assert (since and since.invalidity_date_utc) == ours.invalidity
        assert not found
    again = read_tbs_crl(whole)
    assert [read_entry(raw) for raw in split_entries(again.entries)] == listed
    assert (again.number, again.version, again.aki) == (number, 2, b"k" * 20)
    for raw, one in zip(raws, listed, strict=True):
        assert serial_of(raw)[2:] == one.serial.to_bytes(one.serial.bit_length() // 8 + 1, "big")


def test_an_unspecified_reason_is_left_out() -> None:
    assert encode_entry(Entry(5, NOW, "unspecified")) == encode_entry(Entry(5, NOW))


def test_an_empty_list_is_absent() -> None:
    crl = read_tbs_crl(assemble_tbs(head(), []))
    assert crl.entries == b""
    assert b"\x30\x00" not in assemble_tbs(head(), [])


def test_an_rsa_key_has_null_parameters() -> None:
    public = RSA_KEY.public_key()
    algorithm = signature_algorithm(public, "sha256")
    whole = assemble_tbs(head(algorithm=algorithm), [encode_entry(Entry(5, NOW))])
    signature = RSA_KEY.sign(whole, padding.PKCS1v15(), hashes.SHA256())
    crl = x509.load_der_x509_crl(complete_crl(whole, algorithm, public, "sha256", signature))
    assert crl.is_signature_valid(public)
    assert algorithm.endswith(b"\x05\x00")


def test_a_signature_that_does_not_hold_makes_no_crl() -> None:
    public = EC_KEY.public_key()
    whole = assemble_tbs(head(), [])
    other = EC_KEY.sign(whole + b"\0", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(VerificationError):
        complete_crl(whole, signature_algorithm(public, "sha256"), public, "sha256", other)


@pytest.mark.parametrize(
    "changes", [{"number": -1}, {"number": 1 << 159}, {"next_update": NOW}]
)  # fmt: skip
def test_heads_that_no_crl_may_have(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        assemble_tbs(head(**changes), [])


@given(st.binary(max_size=60) | st.builds(lambda b: b"\x30" + bytes([len(b)]) + b,
                                          st.binary(max_size=60)))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_nonsense_is_a_parse_error(data: bytes) -> None:
    for read in (read_tbs_crl, read_entry, serial_of, lambda d: list(split_entries(d))):
        with suppress(ParseError):
            read(data)


@given(st.integers(0, 200), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_changed_byte_is_read_or_a_parse_error(place: int, value: int) -> None:
    listed = [encode_entry(Entry(n, NOW, "superseded", NOW)) for n in (5, 1 << 100)]
    whole = bytearray(assemble_tbs(head(), listed))
    whole[place % len(whole)] = value
    with suppress(ParseError):
        crl = read_tbs_crl(bytes(whole))
        _ = crl.number, crl.aki
        for raw in split_entries(crl.entries):
            read_entry(raw)


# ── reasons ──────────────────────────────────────────────────────────────────


def test_reasons_in_many_spellings() -> None:
    for text in ("keyCompromise", "key-compromise", "KEY_COMPROMISE", "keycompromise"):
        assert reason_name(text) == "keyCompromise"
    for text in ("", "key", "7"):
        with pytest.raises(UsageError):
            reason_name(text)


@pytest.mark.parametrize("ca", [True, False])
@pytest.mark.parametrize("lint", ["pkix", "tls-br"])
def test_who_may_be_revoked_for_what(ca: bool, lint: str) -> None:
    allowed = set()
    for reason in CODES:
        try:
            check_reason(reason, ca=ca, lint=lint)
            allowed.add(reason)
        except (UsageError, RefusedError):
            pass
    never = {"certificateHold", "removeFromCRL", "aACompromise"}
    never |= set() if ca else {"cACompromise"}
    never |= {"unspecified"} if ca and lint == "tls-br" else set()
    assert allowed == set(CODES) - never


def test_holds_and_later_reasons() -> None:
    assert "4.9.13" in check_hold("pkix", web=True)
    assert check_hold("pkix", web=False) == check_hold("tls-br", web=False) == ""
    with pytest.raises(RefusedError):
        check_hold("tls-br", web=True)
    assert may_replace("superseded", "keyCompromise")
    assert not may_replace("keyCompromise", "superseded")
    assert not may_replace("superseded", "privilegeWithdrawn")


EDIT = st.tuples(st.integers(0, 60), st.integers(0, 255))


@given(
    st.integers(0, 1 << 160),
    st.datetimes(datetime(1950, 1, 1), datetime(2060, 1, 1)),
    st.sampled_from(["", *CODES]),
    st.lists(EDIT, max_size=2),
)
def test_what_is_read_the_short_way_is_exactly_what_is_written(serial, when, reason, edits):
    """Approvers are shown an entry that was read so, and its bytes are not compared again."""
    entry = Entry(serial, when.replace(microsecond=0, tzinfo=UTC), reason)
    raw = bytearray(encode_entry(entry))
    for at, octet in edits:
        raw[at % len(raw)] = octet
    raw = bytes(raw)
    if (usual := usual_entry(raw)) is not None:
        assert encode_entry(usual) == raw
    if not edits and when.year < 2050 and serial:
        assert usual == entry._replace(reason="" if reason == "unspecified" else reason)
