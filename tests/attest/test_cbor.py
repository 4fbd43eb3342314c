"""The CBOR of authenticators: read strictly, and never with anything but a ParseError."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpmhsm.attest.cbor import decode_cbor
from tpmhsm.errors import ParseError

# RFC 8949, appendix A
GOOD: list[tuple[str, Any]] = [
    ("00", 0),
    ("17", 23),
    ("1818", 24),
    ("1903e8", 1000),
    ("1bffffffffffffffff", (1 << 64) - 1),
    ("20", -1),
    ("3903e7", -1000),
    ("f4", False),
    ("f5", True),
    ("f6", None),
    ("4401020304", b"\1\2\3\4"),
    ("62c3bc", "ü"),
    ("80", []),
    ("8301820203820405", [1, [2, 3], [4, 5]]),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("a26162820203616101", {"a": 1, "b": [2, 3]}),  # in another order: older Windows
]

BAD = {
    "a float": "f93c00",
    "undefined": "f7",
    "a tag": "c074323031332d30332d32315432303a30343a30305a",
    "indefinite bytes": "5f42010243030405ff",
    "indefinite list": "9fff",
    "a break": "ff",
    "a long zero": "1800",
    "a long length": "580100",
    "a long number of eight bytes": "1b00000000ffffffff",
    "false in two bytes": "f814",
    "a key twice": "a2616101616102",
    "a list as a key": "a18000",
    "no UTF-8": "61ff",
    "bytes behind it": "0000",
    "nothing": "",
    "cut off in a string": "4401",
    "cut off in a head": "19",
    "a list of four thousand million": "9affffffff",
    "a map of four thousand million": "baffffffff",
    "five levels": "8181818181" + "80",
}


@pytest.mark.parametrize(("encoded", "value"), GOOD)
def test_examples_of_the_rfc(encoded: str, value: Any) -> None:
    assert decode_cbor(bytes.fromhex(encoded)) == value


@pytest.mark.parametrize("fault", BAD)
def test_what_ctap_has_not_is_refused(fault: str) -> None:
    with pytest.raises(ParseError):
        decode_cbor(bytes.fromhex(BAD[fault]))


def test_too_many_parts() -> None:
    with pytest.raises(ParseError, match="too many parts"):
        decode_cbor(b"\x99\x01\x2c" + bytes(300))


def test_too_large() -> None:
    with pytest.raises(ParseError, match="at most 65,536"):
        decode_cbor(b"\x5a\0\1\0\0" + bytes(1 << 16))


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        decode_cbor(data)
    except ParseError:
        return
