"""Subject alternative names and host names."""

from __future__ import annotations

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from tpmhsm.errors import UsageError
from tpmhsm.pki.hosts import match_host, normalize_host
from tpmhsm.pki.sans import format_san, host_san, parse_san, parse_sans


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("dns:www.example.com", None),
        ("DNS:WWW.Example.COM", "dns:www.example.com"),
        ("dns:*.example.com", None),
        ("dns:bücher.example", "dns:xn--bcher-kva.example"),
        ("dns:*.bücher.example", "dns:*.xn--bcher-kva.example"),
        ("dns:localhost", None),
        ("ip:192.0.2.1", None),
        ("ip:2001:db8::1", None),
        ("ip:2001:DB8:0::1", "ip:2001:db8::1"),
        ("email:a.b+c@Example.com", "email:a.b+c@example.com"),
        ("uri:https://example.com/x?y=1", None),
        ("uri:urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", None),
        ("uri:spiffe://example.org/a", None),
        ("dirname:CN=a,O=b", None),
        ("rid:1.2.3.4", None),
        ("upn:user@example.com", None),
        ("othername:1.2.3.4;UTF8:hello", None),
        ("othername:1.2.3.4;HEX:0403010203", None),
        ("othername:1.2.3.4;hex:0c0161", "othername:1.2.3.4;UTF8:a"),
    ],
)
def test_every_type_round_trips(text, again):
    name = parse_san(text)
    assert format_san(name) == (again or text)
    assert parse_san(format_san(name)) == name


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("www.example.com", "no name type"),
        ("foo:bar", "no name type"),
        ("dns:", "no value"),
        ("dns:192.0.2.1", "ip:192.0.2.1"),
        ("dns:1.2.3", "last label is a number"),
        ("dns:0x7f.1.0x2", "last label is a number"),
        ("dns:0X7F000001", "last label is a number"),
        ("dns:a_b.example.com", "underscore"),
        ("dns:-a.example.com", "hyphens"),
        ("dns:a..b", "empty label"),
        ("dns:example.com.", "ends with a dot"),
        ("dns:exa mple.com", "letters, digits"),
        ("dns:*", "two labels"),
        ("dns:*.com", "two labels"),
        ("dns:a.*.com", "leftmost"),
        ("dns:w*.example.com", "leftmost"),
        ("dns:" + "a" * 64 + ".com", "63"),
        ("dns:" + "a." * 127 + "com", "253"),
        ("dns:xn--a.example", "internationalised"),
        ("dns:ab--c.example", "reserved"),
        ("dns:a\u202eb.example", ""),
        ("dns:ex\0ample.com", ""),
        ("ip:300.1.1.1", "no IPv4"),
        ("ip:10.0.0.0/8", "no IPv4"),
        ("email:a", "mail address"),
        ("email:a@b_c", "underscore"),
        ("email:a\u0308@example.com", "NFC"),
        ("uri:example.com", "absolute"),
        ("uri:http://", "host"),
        ("uri:http://a b/", "percent"),
        ("uri:http://[::1", ""),
        ("uri:http://x_y/", "underscore"),
        ("dirname:nonsense", "without '='"),
        ("rid:1", "object identifier"),
        ("rid:9.9", "object identifier"),
        ("upn:joe", "user@realm"),
        ("othername:1.2.3", "otherName"),
        ("othername:1.2.3;HEX:zz", "otherName"),
        ("othername:1.2.3;HEX:0c05", "otherName"),
    ],
)
def test_refused_with_a_reason(text, why):
    with pytest.raises(UsageError) as caught:
        parse_san(text)
    assert why in caught.value.message + caught.value.hint


def test_order_kept_and_each_once():
    names = parse_sans(["dns:b.example", "dns:a.example", "DNS:B.example", "ip:192.0.2.1"])
    assert [format_san(n) for n in names] == ["dns:b.example", "dns:a.example", "ip:192.0.2.1"]


def test_a_bare_host_or_address():
    assert format_san(host_san("WWW.example.com")) == "dns:www.example.com"
    assert format_san(host_san("::1")) == "ip:::1"
    assert format_san(host_san("email:a@example.com")) == "email:a@example.com"


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_refused(text):
    for kind in ("dns", "ip", "email", "uri", "dirname", "rid", "upn", "othername"):
        try:
            name = parse_san(f"{kind}:{text}")
        except UsageError:
            continue
        assert parse_san(format_san(name)) == name
        x509.SubjectAlternativeName([name]).public_bytes()


@given(st.from_regex(r"(?:[a-z0-9]([a-z0-9]{0,9}[a-z0-9])?\.){1,4}[a-z]{2,8}", fullmatch=True))
def test_ordinary_hosts_stay(host):
    assert normalize_host(host.upper()) == host


@pytest.mark.parametrize(
    ("pattern", "host", "covers"),
    [
        ("www.example.com", "WWW.EXAMPLE.COM", True),
        ("*.example.com", "www.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.b.example.com", False),
        ("*.com", "example.com", False),
        ("www.example.com", "www.example.com.", True),
    ],
)
def test_wildcards_cover_one_label(pattern, host, covers):
    assert match_host(pattern, host) is covers
