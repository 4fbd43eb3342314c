"""Names that are flagged or refused: reserved, internal, disguised, out of place, out of order."""

from __future__ import annotations

import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st
from tests.pki.makers import NOW, applicant, issue, key, root

from tpmhsm.errors import UsageError
from tpmhsm.pki import der
from tpmhsm.pki.applicant import Applicant, applicant_from_csr
from tpmhsm.pki.host_checks import san_findings
from tpmhsm.pki.issue import prepare
from tpmhsm.pki.names import parse_dn
from tpmhsm.pki.options import IssueOptions
from tpmhsm.pki.profiles import get_profile
from tpmhsm.pki.sans import format_san, parse_san
from tpmhsm.pki.scripts import disguise
from tpmhsm.pki.subject_checks import subject_findings

BR = {"base_url": "http://pki.example.com", "issuer_label": "issuing", "lint": "tls-br"}


def codes(san: str, lint: str = "pkix") -> list[tuple[str, str]]:
    return [(one.code, one.severity) for one in san_findings([san], lint)]


# ── hosts and addresses ──────────────────────────────────────────────────────

INTERNAL = [
    "dns:intranet",
    "dns:localhost",
    "dns:www.local",
    "dns:www.internal",
    "dns:www.test",
    "dns:x.localhost",
    "dns:duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion",
    "dns:www.invalid",
    "dns:host.lan",
    "dns:host.corp",
    "dns:host.home",
    "dns:host.home.arpa",
    "dns:1.0.0.127.in-addr.arpa",
    "dns:foo.alt",
    "dns:*.intranet.private",
]


@pytest.mark.parametrize("san", INTERNAL)
def test_internal_names(san: str) -> None:
    assert codes(san) == [("name-internal", "warning")]
    assert codes(san, "tls-br") == [("name-internal", "refusal")]
    assert parse_san(san)  # a private CA may certify them


def test_names_without_a_top_level_domain_of_the_root_zone() -> None:
    for san in ("dns:www.nosuchtld", "dns:www.example"):
        assert codes(san) == []
        assert codes(san, "tls-br") == [("name-internal", "refusal")]
    for san in ("dns:www.example.com", "dns:www.example.co.uk", "dns:xn--e1afmkfd.xn--p1ai"):
        assert codes(san) == codes(san, "tls-br") == []


@pytest.mark.parametrize("suffix", ["co.uk", "com.au", "github.io", "xn--55qx5d.cn", "foo.ck"])
def test_wildcards_over_public_suffixes(suffix: str) -> None:
    assert codes(f"dns:*.{suffix}") == [("wildcard-suffix", "warning")]
    assert codes(f"dns:*.{suffix}", "tls-br") == [("wildcard-suffix", "refusal")]
    assert codes(f"dns:*.mine.{suffix}", "tls-br") == []
    assert codes(f"dns:{suffix}") == []


@pytest.mark.parametrize(
    "name",
    ["*", "*.com", "f*o.example.com", "*.*.example.com", "www.*.example.com", "*foo.example.com",
     "*xn--bcher-kva.example.com", "a_b.example.com", "www.example.com.", "www..example.com",
     ".example.com", f"{'a' * 64}.example.com", f"{'a.' * 126}com", "192.0.2.1", "example.123",
     "-a.example.com", "a-.example.com", "ab--c.example.com", "a b.example.com",
     "www.example.com\0.evil.com", "www.example.com\n", "xn--www-.example.com", "xn--0.example.com",
     "xn--a.example.com", "xn--ls8h.example.com", "xn--a-0hc.example.com", "xn--.example.com",
     "bücher\u202e.example.com", "xn--strasse-.example.com", "https://example.com",
     "example.com:443", "[::1]", ""],
)  # fmt: skip
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UsageError):
        csr_names(name)


def csr_names(*names: str) -> x509.Certificate:
    """Have exactly these dNSNames certified, as a CSR holds them."""
    sans = [x509.DNSName._init_without_validation(name) for name in names]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = builder.add_extension(x509.SubjectAlternativeName(sans), True).sign(
        key(), hashes.SHA256()
    )
    prepared = prepare(
        get_profile("tls-server"), applicant_from_csr(csr), root().certificate, now=NOW
    )
    return prepared.facts["sans"]


def test_names_are_normalised() -> None:
    assert csr_names("WWW.Example.COM", "www.example.com") == ["dns:www.example.com"]
    assert format_san(parse_san("dns:BÜCHER.example.com")) == "dns:xn--bcher-kva.example.com"
    assert format_san(parse_san("dns:*.bücher。example.com")) == "dns:*.xn--bcher-kva.example.com"
    assert format_san(parse_san("dns:straße.example.com")) == "dns:xn--strae-oqa.example.com"


@pytest.mark.parametrize("name", [" www.example.com", "www.example.com ", "\u00a0www.example.com"])
def test_spaces_in_a_csr_are_part_of_the_name(name: str) -> None:
    with pytest.raises((UsageError, ValueError)):
        csr_names(name)


DISGUISED = [
    "dns:xn--80ak6aa92e.com",  # аррӏе
    "dns:xn--pypal-4ve.com",  # pаypal
    "dns:xn--xample-2of.com",  # еxample
    "dns:www.xn--pypal-4ve.example.com",
    "email:joe@xn--pypal-4ve.com",
    "uri:https://xn--pypal-4ve.com/",
]


@pytest.mark.parametrize("san", DISGUISED)
def test_disguised_names(san: str) -> None:
    assert ("name-disguised", "warning") in codes(san)
    assert ("name-disguised", "warning") in codes(san, "tls-br")


@pytest.mark.parametrize(
    "word",
    [
        "bücher",
        "пример",
        "παράδειγμα",
        "例え",
        "例えテスト",
        "東京tower",
        "한국abc",
        "ab12",
        "ー々ア",
    ],
)
def test_words_of_one_language(word: str) -> None:
    assert disguise(word) == ""


@pytest.mark.parametrize(
    "word", ["pаypal", "аррӏе", "scοpe", "Αlpha", "кириллицаΩ", "漢字Я", "օսո"]
)
def test_words_that_mislead(word: str) -> None:
    assert disguise(word)


@pytest.mark.parametrize(
    ("san", "code", "pkix", "br"),
    [
        ("ip:10.0.0.1", "ip-reserved", "warning", "refusal"),
        ("ip:192.168.1.1", "ip-reserved", "warning", "refusal"),
        ("ip:100.64.0.1", "ip-reserved", "warning", "refusal"),
        ("ip:127.0.0.1", "ip-reserved", "warning", "refusal"),
        ("ip:169.254.1.1", "ip-reserved", "warning", "refusal"),
        ("ip:192.0.2.1", "ip-reserved", "warning", "refusal"),
        ("ip:fd00::1", "ip-reserved", "warning", "refusal"),
        ("ip:fe80::1", "ip-reserved", "warning", "refusal"),
        ("ip:::1", "ip-reserved", "warning", "refusal"),
        ("ip:2001:db8::1", "ip-reserved", "warning", "refusal"),
        ("ip:0.0.0.0", "ip-no-host", "refusal", "refusal"),
        ("ip:::", "ip-no-host", "refusal", "refusal"),
        ("ip:255.255.255.255", "ip-no-host", "refusal", "refusal"),
        ("ip:224.0.0.1", "ip-no-host", "refusal", "refusal"),
        ("ip:ff02::1", "ip-no-host", "refusal", "refusal"),
        ("ip:::ffff:8.8.8.8", "ip-mapped", "refusal", "refusal"),
        ("ip:10.0.0.0/8", "ip-range", "refusal", "refusal"),
    ],
)
def test_addresses(san: str, code: str, pkix: str, br: str) -> None:
    assert codes(san) == [(code, pkix)]
    assert codes(san, "tls-br") == [(code, br)]


def test_addresses_of_the_internet() -> None:
    for san in ("ip:8.8.8.8", "ip:2606:4700::1111"):
        assert codes(san, "tls-br") == []
    with pytest.raises(UsageError):
        parse_san("ip:fe80::1%eth0")


# ── mail ─────────────────────────────────────────────────────────────────────


def test_mail_beyond_ascii_is_a_mailbox_of_rfc_9598() -> None:
    name = parse_san("email:jörg@bücher.example.com")
    assert isinstance(name, x509.OtherName)
    assert name.type_id.dotted_string == "1.3.6.1.5.5.7.8.9"
    text = "jörg@xn--bcher-kva.example.com"
    assert name.value == der.encode(der.UTF8_STRING, text.encode())
    assert format_san(name) == f"email:{text}"
    assert parse_san(format_san(name)) == name
    strange = x509.OtherName(name.type_id, der.encode(der.UTF8_STRING, "ö".encode()))
    assert format_san(strange).startswith("othername:1.3.6.1.5.5.7.8.9;")


def test_constraints_on_mail_hold_for_mailboxes() -> None:
    top = root()
    middle = issue(top, "intermediate", "CN=I,O=E", permitted=("email:example.com",))
    issue(middle, "tls-client", "", "email:jörg@example.com")
    with pytest.raises(UsageError, match="outside"):
        issue(middle, "tls-client", "", "email:jörg@example.org")
    single = issue(top, "intermediate", "CN=J,O=E", permitted=("email:joe@example.com",))
    with pytest.raises(UsageError, match="outside"):
        issue(single, "tls-client", "", "email:jörg@example.com")


# ── subjects ─────────────────────────────────────────────────────────────────


def attribute(oid: str, value: bytes, tag: int = der.UTF8_STRING) -> bytes:
    pair = der.encode(der.SEQUENCE, der.encode_oid(oid), der.encode(tag, value))
    return der.encode(der.SET, pair)


def name(*rdns: bytes) -> bytes:
    return der.encode(der.SEQUENCE, *rdns)


def subject_codes(encoded: bytes, lint: str = "pkix", *, ca: bool = False) -> list[tuple[str, str]]:
    return [(f.code, f.severity) for f in subject_findings(encoded, lint, ca=ca)]


SUBJECTS = [
    (attribute("2.5.4.10", b""), "dn-empty", "refusal", "refusal"),
    (attribute("2.5.4.10", b"   "), "dn-empty", "refusal", "refusal"),
    (attribute("2.5.4.10", b"-"), "dn-empty", "warning", "refusal"),
    (attribute("2.5.4.10", b". -"), "dn-empty", "warning", "refusal"),
    (attribute("2.5.4.10", b" Example"), "dn-spaces", "warning", "refusal"),
    (attribute("2.5.4.10", b"Exa\0mple"), "dn-control", "refusal", "refusal"),
    (attribute("2.5.4.10", b"Exa\nmple"), "dn-control", "refusal", "refusal"),
    (attribute("2.5.4.10", "Exa\u202emple".encode()), "dn-hidden", "warning", "refusal"),
    (attribute("2.5.4.10", "Exa\u200bmple".encode()), "dn-hidden", "warning", "refusal"),
    (attribute("2.5.4.10", b"\xff"), "dn-encoding", "refusal", "refusal"),
    (attribute("2.5.4.10", b"x" * 65), "dn-length", "refusal", "refusal"),
    (attribute("2.5.4.3", b"x" * 65), "dn-length", "refusal", "refusal"),
    (attribute("2.5.4.7", b"x" * 129), "dn-length", "refusal", "refusal"),
    (attribute("2.5.4.10", b"Example", 0x14), "dn-encoding", "warning", "refusal"),
    (attribute("2.5.4.10", b"\0E\0x", 0x1E), "dn-encoding", "warning", "refusal"),
    (attribute("2.5.4.6", b"DEU", der.PRINTABLE_STRING), "dn-country", "refusal", "refusal"),
    (attribute("2.5.4.6", b"D1", der.PRINTABLE_STRING), "dn-country", "refusal", "refusal"),
    (attribute("2.5.4.6", b"de", der.PRINTABLE_STRING), "dn-country", "warning", "refusal"),
    (attribute("2.5.4.6", b"QQ", der.PRINTABLE_STRING), "dn-country", "warning", "refusal"),
    (attribute("2.5.4.10", "Exаmple".encode()), "name-disguised", "warning", "warning"),
]  # fmt: skip


@pytest.mark.parametrize(("rdn", "code", "pkix", "br"), SUBJECTS)
def test_values_of_subjects(rdn: bytes, code: str, pkix: str, br: str) -> None:
    assert (code, pkix) in subject_codes(name(rdn))
    assert (code, br) in subject_codes(name(rdn), "tls-br")


@pytest.mark.parametrize(
    ("text", "pkix", "br"),
    [
        ("CN=x,O=Example,C=DE", None, None),
        ("CN=x,OU=y,O=Example,L=z,ST=s,C=DE", None, None),
        ("CN=x,OU=y,DC=example,DC=com", None, None),
        ("C=DE,O=Example,CN=x", "warning", "refusal"),
        ("O=Example,CN=x", "warning", "refusal"),
        ("CN=x,L=z,O=Example,C=DE", None, "refusal"),
    ],
)
def test_the_order_of_subjects(text: str, pkix: str | None, br: str | None) -> None:
    encoded = parse_dn(text).public_bytes()
    for lint, expected in (("pkix", pkix), ("tls-br", br)):
        found = [one for one in subject_codes(encoded, lint) if one[0] == "dn-order"]
        assert found == ([("dn-order", expected)] if expected else [])


def test_the_baseline_requirements_want_one_attribute_each() -> None:
    several = parse_dn("CN=x+O=y,C=DE").public_bytes()
    assert ("dn-multiple", "refusal") in subject_codes(several, "tls-br")
    twice = parse_dn("CN=x,O=y,O=z,C=DE").public_bytes()
    assert ("dn-twice", "refusal") in subject_codes(twice, "tls-br")
    assert subject_codes(several) == subject_codes(twice) == []
    assert subject_codes(parse_dn("CN=x,C=DE").public_bytes(), "tls-br", ca=True) == [
        ("dn-missing", "refusal")
    ]


def test_what_is_wrong_with_a_subject_stops_the_issuance() -> None:
    top = root()
    bad = name(attribute("2.5.4.10", b"Exa\0mple"))
    sans = (parse_san("dns:www.example.com"),)
    for profile in ("tls-server", "tls-client"):
        with pytest.raises(UsageError, match="control characters") as caught:
            prepare(
                get_profile(profile), Applicant(key().public_key(), bad, sans), top.certificate,
                now=NOW,
            )  # fmt: skip
        assert caught.value.code == "lint"
        assert caught.value.details["findings"][0]["code"] == "dn-control"


def test_warnings_are_notes() -> None:
    top = root()
    who = applicant(key(), "C=DE,O=Example,CN=www.local", "dns:www.local", "ip:10.0.0.1")
    notes = prepare(get_profile("tls-server"), who, top.certificate, now=NOW).notes
    text = "\n".join(notes)
    for words in ("out of order", "dns:www.local is an internal name", "ip:10.0.0.1 is a reserved"):
        assert words in text
    with pytest.raises(UsageError) as caught:
        prepare(get_profile("tls-server"), who, top.certificate, IssueOptions(**BR), NOW)
    assert len(caught.value.details["findings"]) >= 2


@given(st.text(max_size=60))
def test_any_text_is_judged(text: str) -> None:
    for kind in ("dns", "ip", "email", "uri", "upn", "x", ""):
        for lint in ("pkix", "tls-br"):
            list(san_findings([f"{kind}:{text}"], lint))
    list(subject_findings(name(attribute("2.5.4.10", text.encode(errors="replace"))), "tls-br"))


def test_names_are_checked_quickly() -> None:
    sans = ["dns:www.example.com", "dns:example.com"]
    encoded = parse_dn("CN=www.example.com,O=Example,C=DE").public_bytes()
    best = 1e9
    for _ in range(30):
        start = time.perf_counter()
        list(san_findings(sans, "tls-br"))
        list(subject_findings(encoded, "tls-br"))
        best = min(best, time.perf_counter() - start)
    assert best < 0.0002
