"""Every extension is shown, known or not."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from tests.pki.makers import issue, root
from tests.pki.odd import ODD, Odd

from tpmhsm.pki import der
from tpmhsm.pki.extension_view import extension_lines, extensions_of

SECRET = der.encode(
    der.SEQUENCE,
    der.encode_oid("1.2.3.4"),
    der.encode(der.BOOLEAN, b"\xff"),
    der.encode(der.OCTET_STRING, der.encode(der.SEQUENCE, der.encode_integer(42), b"\x0c\x02hi")),
)


def test_all_of_a_certificate_that_we_issued() -> None:
    made = issue(root(), "tls-server", "", "dns:a.example").certificate
    raw = made.public_bytes(Encoding.DER)
    views = extensions_of(raw)
    assert [(v["oid"], v["critical"]) for v in views] == [
        (one.oid.dotted_string, one.critical) for one in made.extensions
    ]
    words = extension_lines(views)
    assert "extKeyUsage (2.5.29.37), " in words and "OID 1.3.6.1.5.5.7.3.1 serverAuth" in words
    assert "subjectAltName (2.5.29.17), critical" in words and "a.example" in words


def test_what_nobody_knows_is_shown_as_asn1_and_hex() -> None:
    raw = Odd(extensions=(SECRET,)).raw()
    (view,) = extensions_of(raw)
    assert (view["oid"], view["name"], view["critical"]) == ("1.2.3.4", None, True)
    assert view["value"] == ["SEQUENCE", "  INTEGER 42", "  UTF8String hi"]
    assert bytes.fromhex(view["hex"]) == b"\x30\x07\x02\x01\x2a\x0c\x02hi"
    words = extension_lines([view])
    assert words.startswith("1.2.3.4 (unknown), critical, 9 bytes") and "INTEGER 42" in words


@pytest.mark.parametrize("name", list(ODD))
def test_odd_certificates_have_a_view(name: str) -> None:
    assert extension_lines(extensions_of(ODD[name][0].raw()))


@given(st.binary(max_size=300))
def test_any_value_has_a_view(value: bytes) -> None:
    item = der.encode(der.SEQUENCE, der.encode_oid("1.2.3"), der.encode(der.OCTET_STRING, value))
    for view in extensions_of(Odd(extensions=(item,)).raw()):
        words = extension_lines([view])
        assert words.isprintable() or "\n" in words


def test_deep_values_are_bounded() -> None:
    value = b"\x05\x00"
    for _ in range(300):
        value = der.encode(der.SEQUENCE, value)
    wide = der.encode(der.SEQUENCE, *[b"\x05\x00"] * 5000)
    for one in (value, wide):
        item = der.encode(der.SEQUENCE, der.encode_oid("1.2.3"), der.encode(der.OCTET_STRING, one))
        (view,) = extensions_of(Odd(extensions=(item,)).raw())
        assert len(view["value"]) <= 201
