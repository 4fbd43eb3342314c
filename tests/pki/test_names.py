"""Distinguished names: RFC 4514 both ways, and openssl as a second opinion."""

from __future__ import annotations

import datetime
import re
import subprocess
import unicodedata

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.pki import attributes, der
from tpmhsm.pki.names import format_dn, format_dn_der, make_attribute, parse_dn

PRINTABLE = "ABCXYZabcxyz019 '()+,-./:=?"


ANY = st.characters(codec="utf-8")


@st.composite
def attribute(draw, alphabet=ANY):
    row = draw(st.sampled_from(attributes.TYPES))
    if row.limit == 2:
        return make_attribute(row.oid, draw(st.text("ABCabc", min_size=2, max_size=2)))
    if row.string == "printable":
        text = st.text(PRINTABLE, min_size=1, max_size=row.limit)
    elif row.string == "ia5":
        text = st.text(st.characters(codec="ascii"), min_size=1, max_size=row.limit)
    else:
        text = st.text(alphabet, min_size=1, max_size=16)
    return make_attribute(row.oid, draw(text))


@st.composite
def name(draw, **kw):
    rdn = st.lists(attribute(**kw), min_size=1, max_size=3, unique=True)
    return x509.Name([x509.RelativeDistinguishedName(r) for r in draw(st.lists(rdn, max_size=5))])


@given(name())
def test_parse_undoes_format(value):
    assert parse_dn(format_dn(value)) == value
    assert parse_dn(format_dn(value)).public_bytes() == value.public_bytes()


@given(name())
def test_format_is_safe_on_a_terminal(value):
    text = format_dn(value)
    assert all(c.isprintable() or unicodedata.category(c) == "Zs" for c in text), text


@given(name())
def test_cryptography_reads_the_same(value):
    overrides = {n: x509.ObjectIdentifier(r.oid) for r in attributes.TYPES for n in r.names}
    text = format_dn(value)
    assert x509.Name.from_rfc4514_string(text, overrides) == value


@given(st.text(max_size=80))
def test_any_text_parses_or_is_refused(text):
    try:
        parsed = parse_dn(text)
    except UsageError as error:
        assert error.message
    else:
        assert parse_dn(format_dn(parsed)) == parsed


@given(st.binary(max_size=80))
def test_any_bytes_print_or_are_refused(data):
    try:
        format_dn_der(data)
    except ParseError as error:
        assert error.message


SIMPLE = st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name(alphabet=SIMPLE))
def test_openssl_prints_the_same(value):
    key = ec.generate_private_key(ec.SECP256R1())
    day = datetime.datetime(2026, 1, 1)
    certificate = (
        x509.CertificateBuilder(value, value, key.public_key(), 1, day, day)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    line = subprocess.run(
        ["openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253,-esc_msb"],
        input=certificate,
        capture_output=True,
        check=True,
    ).stdout.decode()
    # OpenSSL writes a value that is "#" as if it were hexadecimal
    assume(not re.search(r"=#(\n|\+|,)", line))
    theirs = parse_dn(line.removeprefix("subject=").rstrip("\n"))
    assert theirs == value
    if all(len(rdn) == 1 for rdn in value.rdns) and "=#" not in line:
        assert line.removeprefix("subject=").rstrip("\n").lower() == format_dn(value).lower()


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("CN=Example Root,O=Example", None),
        ("CN=Example Root, O=Example , C=DE", "CN=Example Root,O=Example,C=DE"),
        ("cn = a", "CN=a"),
        ("OU=a+CN=b,O=c", "CN=b+OU=a,O=c"),
        (r"CN=a\,b\+c\"\\d\<\>\;e", None),
        (r"CN=\ a\ ", None),
        (r"CN=\#a#b", None),
        (r"CN=Lu\C4\8Di\C4\87", "CN=Lučić"),
        ("CN=Lučić", None),
        ("DC=example,DC=com", None),
        ("UID=jo+CN=x", None),
        ("2.5.4.3=x", "CN=x"),
        ("OID.2.5.4.10=x", "O=x"),
        ("1.2.3.4=#0c03616263", None),
        ("1.2.3.4=abc", "1.2.3.4=#0c03616263"),
        ("emailAddress=a@example.com,CN=x", None),
        (r"CN=a\0Ab", None),
        ("CN=a\u202eb", r"CN=a\E2\80\AEb"),
        ("", None),
    ],
)
def test_forms(text, again):
    parsed = parse_dn(text)
    if text.count("+") == 0:
        assert format_dn(parsed) == (text if again is None else again)
    assert parse_dn(format_dn(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("/CN=a/O=b", "slash form"),
        ("a", "without '='"),
        ("CN=", "empty value"),
        ("CN=a,", "without '='"),
        ("CN=a;O=b", "backslash"),
        ('CN="a"', "backslash"),
        ("XYZ=a", "no attribute type"),
        ("3.1=a", "no object identifier"),
        ("1.2=#zz", "hexadecimal"),
        ("1.2=#0c0161ff", "hexadecimal"),
        ("CN=a\\", "backslash"),
        (r"CN=\q", "backslash"),
        (r"CN=\ff", "UTF-8"),
        ("C=Germany", "two letters"),
        ("CN=" + "a" * 65, "longer than 64"),
        ("C=ü1", "letters, digits"),
        ("DC=ü", "ASCII"),
        ("CN=a+CN=a", "twice"),
        ("O=" + "a" * 65, "longer than 64"),
    ],
)
def test_refused_with_a_reason(text, why):
    with pytest.raises(UsageError) as caught:
        parse_dn(text)
    assert why in caught.value.message + caught.value.hint


def _attribute(oid: str, tag: int, content: bytes) -> bytes:
    return der.encode(der.SEQUENCE, der.encode_oid(oid), der.encode(tag, content))


@pytest.mark.parametrize(
    ("attributes_", "text"),
    [
        ([("2.5.4.10", 12, b"aa"), ("2.5.4.3", 12, b"zz")], "O=aa+CN=zz"),  # not in DER order
        ([("2.5.4.10", 12, b"a"), ("2.5.4.10", 12, b"a")], "O=a+O=a"),
        ([("2.5.4.10", 12, b"\xff")], "O=#0c01ff"),
        ([("2.5.4.10", 20, b"caf\xe9")], "O=café"),
        ([("2.5.4.10", 30, b"\0a\0")], "O=#1e03006100"),
        ([("2.5.4.3", 12, b"")], "CN="),
        ([("2.5.4.6", 19, b"USA")], "C=USA"),
        ([("2.5.4.3", 2, b"\1")], "CN=#020101"),
        ([("1.2.3", 4, b"\0")], "1.2.3=#040100"),
        ([], ""),
    ],
)
def test_names_that_break_the_rules_print(attributes_, text):
    rdn = der.encode(der.SET, *(_attribute(*item) for item in attributes_))
    assert format_dn_der(der.encode(der.SEQUENCE, rdn)) == text
