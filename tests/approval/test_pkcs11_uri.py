"""RFC 7512, section 3 gives the examples."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpmhsm.approval.pkcs11_uri import parse_uri
from tpmhsm.errors import TpmHsmError, UsageError


def test_an_empty_path_matches_everything():
    found = parse_uri("pkcs11:")
    assert not found.token and not found.names_a_key


def test_the_example_with_all_attributes():
    found = parse_uri(
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;"
        "model=1.0;object=my-certificate;type=private;id=%69%95%3E%5C%F4%BD%EC%91;serial="
        "?pin-source=file:/etc/token_pin"
    )
    assert found.token == {
        "token": "The Software PKCS#11 Softtoken",
        "manufacturer": "Snake Oil, Inc.",
        "model": "1.0",
        "serial": "",
    }
    assert found.label == "my-certificate"
    assert found.key_id == b"\x69\x95\x3e\x5c\xf4\xbd\xec\x91"
    assert found.pin_file == "/etc/token_pin"


def test_modules_and_slots():
    found = parse_uri(
        "pkcs11:slot-id=7;library-version=2.6?module-path=/usr/lib/x.so&module-name=x"
    )
    assert found.token == {"slot-id": "7", "library-version": "2.6"}
    assert (found.module_path, found.module_name) == ("/usr/lib/x.so", "x")
    assert parse_uri("pkcs11:?pin-source=file:///a%20b").pin_file == "/a b"
    assert parse_uri("pkcs11:?pin-source=/a").pin_file == "/a"


@pytest.mark.parametrize("place", ["?", ";"])
def test_a_pin_is_no_argument(place):
    with pytest.raises(UsageError, match="other programs see arguments") as refused:
        parse_uri(f"pkcs11:token=x{place}pin-value=1234")
    assert refused.value.code == "pin-in-argument"
    assert "1234" not in refused.value.message + refused.value.hint


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("alice.key", "no PKCS #11 URI"),
        ("pkcs11:tokn=x", "not known"),
        ("pkcs11:x-vendor=x", "not known"),
        ("pkcs11:token", "not known"),
        ("pkcs11:token=x;", "not known"),
        ("pkcs11:token=x;token=y", "twice"),
        ("pkcs11:token=x?module-path=/a&module-path=/b", "twice"),
        ("pkcs11:token=x%2", "percent-encoded"),
        ("pkcs11:token=é", "percent-encoded"),
        ("pkcs11:token=%ff", "UTF-8"),
        ("pkcs11:token=a%00b", "zero byte"),
        ("pkcs11:type=cert;object=x", "private key"),
        ("pkcs11:token=x?module-path=lib.so", "not absolute"),
        ("pkcs11:token=x?module-name=../lib", "is a path"),
        ("pkcs11:token=x?pin-source=%7Ccat%20/pin", "command"),
        ("pkcs11:token=x?pin-source=file:pin", "not absolute"),
    ],
)
def test_what_is_not_understood_is_refused(uri, reason):
    with pytest.raises(UsageError, match=reason):
        parse_uri(uri)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text):
    for uri in (text, "pkcs11:" + text):
        with contextlib.suppress(TpmHsmError):
            parse_uri(uri)
