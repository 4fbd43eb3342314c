"""Prepare, sign, assemble; openssl and pkilint as judges."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.pki.makers import NOW, Authority, applicant, issue, key, pem, root, sign

from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.pki.describe import describe_certificate
from tpmhsm.pki.issue import Prepared, assemble, new_serial, prepare, restore
from tpmhsm.pki.profiles import get_profile
from tpmhsm.pki.validity import tls_max_days

BASE = {"base_url": "http://pki.example.com", "issuer_label": "issuing"}
BR = {**BASE, "lint": "tls-br"}


def lint(tool: str, certificate: Authority, tmp_path: Path, *args: str) -> list[str]:
    file = tmp_path / "c.pem"
    file.write_bytes(pem(certificate))
    command = [str(Path(sys.executable).parent / tool), "lint", *args, "-s", "ERROR", "-f", "JSON"]
    result = subprocess.run([*command, str(file)], capture_output=True, check=False)
    findings = json.loads(result.stdout)["results"]
    return [d["code"] for f in findings for d in f["finding_descriptions"]]


def openssl_verify(tmp_path: Path, chain: list[Authority], *args: str) -> None:
    leaf, *middle, top = chain
    for name, part in (("leaf", [leaf]), ("middle", middle), ("top", [top])):
        (tmp_path / name).write_bytes(pem(*part))
    at = str(int(NOW.timestamp()))
    command = ["openssl", "verify", "-x509_strict", "-attime", at, "-CAfile", tmp_path / "top"]
    if middle:
        command += ["-untrusted", tmp_path / "middle"]
    result = subprocess.run(
        [*command, *args, tmp_path / "leaf"], capture_output=True, check=False, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("alg", ["p256", "p384", "rsa2048", "rsa3072"])
def test_openssl_accepts_a_chain(alg, tmp_path):
    hash_name = "sha384" if alg in ("p384", "rsa3072") else "sha256"
    top = root(alg, hash_name=hash_name)
    middle = issue(
        top,
        "intermediate",
        "CN=Example Issuing,O=Example",
        alg=alg,
        permitted=("dns:example.com", "ip:192.0.2.0/24", "dirname:O=Example"),
        excluded=("dns:secret.example.com", "email:.secret.example.com"),
        hash_name=hash_name,
        **BASE,
    )
    server = issue(middle, "tls-server", "", "dns:www.example.com", "ip:192.0.2.7", alg=alg, **BASE)
    client = issue(middle, "tls-client", "CN=Joe,O=Example", "upn:joe@example.com", alg=alg, **BASE)
    openssl_verify(tmp_path, [middle, top])
    openssl_verify(tmp_path, [server, middle, top], "-purpose", "sslserver")
    openssl_verify(
        tmp_path, [server, middle, top], "-verify_hostname", "www.example.com", "-policy_check"
    )
    openssl_verify(tmp_path, [client, middle, top], "-purpose", "sslclient")


@pytest.mark.parametrize("alg", ["p256", "rsa2048"])
def test_pkilint_accepts_a_dv_certificate_and_its_cas(alg, tmp_path):
    top = root(alg, lint="tls-br")
    middle = issue(top, "intermediate", "CN=Example Issuing,O=Example,C=DE", alg=alg, **BR)
    leaf = issue(middle, "tls-server", "", "dns:www.example.com", alg=alg, **BR)
    named = issue(middle, "tls-server", "CN=www.example.com,O=Dropped", "dns:www.example.com", **BR)
    tool = "lint_cabf_serverauth_cert"
    assert lint(tool, leaf, tmp_path, "-t", "DV-FINAL-CERTIFICATE") == []
    assert lint(tool, named, tmp_path, "-t", "DV-FINAL-CERTIFICATE") == []
    assert lint(tool, top, tmp_path, "-t", "ROOT-CA") == []
    assert lint(tool, middle, tmp_path, "-t", "INTERNAL-UNCONSTRAINED-TLS-CA") == []


@pytest.mark.parametrize("options", [{}, BASE, {**BASE, "ocsp": True}])
def test_pkilint_accepts_every_profile(options, tmp_path):
    top = root()
    middle = issue(top, "intermediate", "CN=Example Issuing,O=Example", **options)
    leaves = [
        issue(
            middle, "tls-server", "CN=www.example.com,O=Example", "dns:www.example.com", **options
        ),
        issue(
            middle,
            "tls-client",
            "CN=Joe",
            "email:joe@example.com",
            "uri:https://example.com/joe",
            **options,
        ),
        issue(middle, "tls-client", "", "upn:joe@example.com", **options),
    ]
    for certificate in (top, middle, *leaves):
        assert lint("lint_pkix_cert", certificate, tmp_path) == []


def test_pkilint_accepts_a_constrained_intermediate(tmp_path):
    top = root()
    middle = issue(
        top,
        "intermediate",
        "CN=Example Constrained,O=Example,C=DE",
        permitted=("dns:example.com", "dirname:O=Example,C=DE"),
        excluded=("ip:0.0.0.0/0", "ip:::/0"),
        **BR,
    )
    tool = "lint_cabf_serverauth_cert"
    assert lint(tool, middle, tmp_path, "-t", "INTERNAL-CONSTRAINED-TLS-CA") == []


def test_pkilint_can_find_fault(tmp_path):
    """The judge above is awake: a certificate with a year of validity is told off."""
    top = root()
    leaf = issue(top, "tls-server", "", "dns:www.example.com", days=365, **BASE)
    assert lint("lint_cabf_serverauth_cert", leaf, tmp_path, "-t", "DV-FINAL-CERTIFICATE")


def test_the_bytes_signed_are_the_certificates():
    top = root()
    prepared = prepare(
        get_profile("tls-server"), applicant(key(), "", "dns:a.example"), top.certificate, now=NOW
    )
    certificate = assemble(prepared, sign(top.key, prepared))
    assert certificate.tbs_certificate_bytes == prepared.tbs
    assert describe_certificate(certificate)["serial"] == prepared.facts["serial"]
    assert certificate.serial_number == prepared.serial


def test_a_token_is_used_once_and_only_with_a_good_signature():
    top = root()
    prepared = prepare(
        get_profile("tls-server"), applicant(key(), "", "dns:a.example"), top.certificate, now=NOW
    )
    good = sign(top.key, prepared)
    for bad in (good[:-1], b"", sign(key("p256", 99), prepared), bytes(len(good))):
        with pytest.raises(VerificationError):
            assemble(prepared, bad)
    assemble(prepared, good)
    with pytest.raises(VerificationError, match="already"):
        assemble(prepared, good)


def test_nobody_else_makes_tokens():
    top = root()
    prepared = prepare(
        get_profile("tls-server"), applicant(key(), "", "dns:a.example"), top.certificate, now=NOW
    )
    with pytest.raises(UsageError):
        Prepared(object(), prepared._unsigned, prepared.profile, "pkix", ())


def test_a_token_survives_the_process_and_is_checked_again():
    top = root()
    prepared = prepare(
        get_profile("tls-server"), applicant(key(), "", "dns:a.example"), top.certificate, now=NOW
    )
    document = json.loads(json.dumps(prepared.to_document()))
    again = restore(document, top.key.public_key())
    assert (again.tbs, again.digest, again.notes) == (prepared.tbs, prepared.digest, prepared.notes)
    assemble(again, sign(top.key, again))
    with pytest.raises(VerificationError, match="another key"):
        restore(document, key("p256", 99).public_key())
    for field, value in (("profile", "root"), ("tbs", "AAAA"), ("format", "x"), ("tbs", 7)):
        with pytest.raises((UsageError, VerificationError)):
            restore({**document, field: value}, top.key.public_key())
    with pytest.raises(ParseError):
        restore({}, top.key.public_key())


def test_the_schedule_of_the_baseline_requirements():
    dates = [
        datetime(2026, 3, 14),
        datetime(2026, 3, 15),
        datetime(2027, 3, 15),
        datetime(2029, 3, 15),
    ]
    assert [tls_max_days(day.replace(tzinfo=UTC)) for day in dates] == [398, 200, 100, 47]


@pytest.mark.parametrize(
    ("now", "days"),
    [(NOW, 199), (datetime(2027, 4, 1, tzinfo=UTC), 99), (datetime(2029, 4, 1, tzinfo=UTC), 46)],
)
def test_default_lifetimes_keep_the_schedule(now, days):
    top = root()
    leaf = issue(top, "tls-server", "", "dns:www.example.com", now=now, **BR)
    assert describe_certificate(leaf.certificate)["valid_days"] == days


def test_dates_are_whole_seconds_a_little_back_and_never_past_the_issuer():
    now = NOW + timedelta(microseconds=123456)
    top = root(days=100)
    leaf = issue(top, "tls-server", "", "dns:a.example", now=now)
    assert leaf.certificate.not_valid_after_utc == top.certificate.not_valid_after_utc
    assert leaf.certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    fresh = root(subject="CN=Fresh", now=NOW)
    assert issue(fresh, "tls-server", "", "dns:a.example").certificate.not_valid_before_utc >= (
        fresh.certificate.not_valid_before_utc
    )


def test_a_shortened_lifetime_is_said():
    top = root(days=100)
    prepared = prepare(
        get_profile("tls-server"), applicant(key(), "", "dns:a.example"), top.certificate, now=NOW
    )
    assert "shortened" in prepared.notes[0]


def test_serials_are_random_and_positive():
    serials = {new_serial() for _ in range(200)}
    assert len(serials) == 200
    assert all(64 < s.bit_length() <= 128 for s in serials)
    certificate = issue(
        root(), "tls-server", "", "dns:a.example", serial=(1 << 127) + 5
    ).certificate
    assert certificate.serial_number == (1 << 127) + 5


def _no_ca() -> Authority:
    top = root()
    return issue(top, "tls-server", "CN=leaf.example", "dns:leaf.example")


REFUSALS = [
    ("tls-server", "", (), {}, "subject or"),
    ("tls-server", "CN=Not A Host", (), {}, "host name"),
    ("tls-server", "", ("email:a@example.com",), {}, "none of the names"),
    ("tls-server", "", ("dns:a.example",), {"days": 9000}, "outlive"),
    ("tls-server", "", ("dns:a.example",), {"days": 0}, "0 days"),
    ("tls-server", "", ("dns:a.example",), {"days": 10**9}, "dates"),
    ("tls-server", "", ("dns:a.example",), {"not_after": NOW - timedelta(1)}, "expired already"),
    ("tls-server", "", ("dns:a.example",), {"not_after": datetime(2027, 1, 1)}, "time zone"),
    ("tls-server", "", ("dns:a.example",), {"permitted": ("dns:x.example",)}, "constraints belong"),
    ("tls-server", "", ("dns:a.example",), {"policies": ("x",)}, "dotted OID"),
    ("tls-server", "", ("dns:a.example",), {"base_url": "ftp://x", "issuer_label": "a"}, "http"),
    ("tls-server", "", ("dns:a.example",), {"base_url": "http://x"}, "name of the issuing"),
    ("tls-server", "", ("dns:a.example",), {"lint": "nonsense"}, "lint"),
    ("tls-server", "", ("dns:a.example",), {"lint": "tls-br"}, "base_url"),
    ("tls-server", "", ("dns:www.example.com",), {**BR, "days": 201}, "201 days"),
    ("tls-server", "", ("dns:localhost",), BR, "internal name"),
    ("tls-server", "", ("dns:a.local",), BR, "internal name"),
    ("tls-server", "", ("ip:10.0.0.1",), BR, "reserved address"),
    (
        "tls-server",
        "",
        ("dns:www.example.com",),
        {**BR, "base_url": "https://x.example"},
        "must be http",
    ),
    ("tls-server", "", ("dns:a.example",), {"serial": 5}, "serial"),
    ("tls-server", "", ("dns:a.example",), {"extended_key_usage": ("foo",)}, "extended key usage"),
    ("tls-server", "", ("dns:a.example",), {"hash_name": "md5"}, "md5"),
    ("tls-client", "", (), {}, "subject or"),
    ("tls-client", "CN=Example Root,O=Example,C=DE", (), {}, "name of its issuer"),
    ("intermediate", "", (), {}, "needs a subject"),
    ("intermediate", "CN=Example Root,O=Example,C=DE", (), {}, "must not"),
    ("intermediate", "CN=I", (), {"permitted": ("foo:x",)}, "no name constraint"),
    ("intermediate", "CN=I", (), {"permitted": ("ip:10.0.0.1/8",)}, "no network"),
    ("intermediate", "CN=I", (), {"permitted": ("dns:a b",)}, "no host name"),
    ("intermediate", "CN=I", (), {"path_length": -1}, "0 or more"),
    ("intermediate", "CN=I", (), BASE | {"lint": "tls-br", "base_url": ""}, "base_url"),
]


@pytest.mark.parametrize(("profile", "subject", "sans", "options", "why"), REFUSALS)
def test_refused_with_a_reason(profile, subject, sans, options, why):
    top = root()
    with pytest.raises(UsageError) as caught:
        try:
            issue(top, profile, subject, *sans, **options)
        except UsageError as error:
            assert error.code != "error"
            raise
    assert why in caught.value.message + caught.value.hint


def test_issuers_that_may_not_issue():
    top = root(days=400)
    cases = [
        (_no_ca(), NOW, "no CA"),
        (top, NOW + timedelta(401), "expired"),
        (top, NOW - timedelta(1), "not valid until"),
    ]
    for issuer, now, why in cases:
        with pytest.raises(UsageError, match=why):
            issue(issuer, "tls-server", "", "dns:a.example", now=now)
    with pytest.raises(UsageError, match="needs an issuer"):
        prepare(get_profile("tls-server"), applicant(key(), "", "dns:a.example"), None)
    with pytest.raises(UsageError, match="signs itself"):
        prepare(get_profile("root"), applicant(key(), "CN=a"), top.certificate)
    with pytest.raises(UsageError, match="no profile"):
        get_profile("nonsense")


def test_path_lengths_shrink_downwards():
    top = root(path_length=2)
    one = issue(top, "intermediate", "CN=one", path_length=1)
    two = issue(one, "intermediate", "CN=two")
    assert describe_certificate(two.certificate)["path_length"] == 0
    with pytest.raises(UsageError, match="certifies no CAs"):
        issue(two, "intermediate", "CN=three")
    with pytest.raises(UsageError, match="does not fit"):
        issue(top, "intermediate", "CN=four", path_length=2)
    issue(two, "tls-server", "", "dns:a.example")


@pytest.mark.parametrize(
    ("sans", "subject", "why"),
    [
        (("dns:www.example.com",), "", ""),
        (("dns:*.example.com",), "", "excluded"),
        (("dns:*.b.example.com",), "", ""),
        (("dns:example.org",), "", "outside"),
        (("dns:notexample.com",), "", "outside"),
        (("dns:secret.example.com",), "", "excluded"),
        (("dns:x.secret.example.com",), "", "excluded"),
        (("ip:192.0.2.200",), "", ""),
        (("ip:192.0.3.1",), "", "outside"),
        (("ip:2001:db8::1",), "", "outside"),
        (("dns:www.example.com",), "O=Example", ""),
        (("dns:www.example.com",), "O=EXAMPLE", ""),
        (("dns:www.example.com",), "O=Other", "outside"),
    ],
)
def test_the_issuers_name_constraints_hold_before_anybody_signs(sans, subject, why):
    top = root()
    middle = issue(
        top,
        "intermediate",
        "CN=Example Issuing,O=Example",
        permitted=("dns:example.com", "ip:192.0.2.0/24", "dirname:O=Example"),
        excluded=("dns:secret.example.com",),
    )
    if not why:
        issue(middle, "tls-server", subject, *sans)
        return
    with pytest.raises(UsageError, match=why) as caught:
        issue(middle, "tls-server", subject, *sans)
    assert caught.value.code == "constraint"


def test_an_issuers_usages_limit_what_is_below():
    top = root()
    middle = issue(top, "intermediate", "CN=I,O=E,C=DE", **BR)
    issue(middle, "tls-server", "", "dns:www.example.com", **BR)
    with pytest.raises(UsageError, match="do not cover"):
        issue(middle, "tls-client", "CN=Joe")


def test_what_a_csr_asks_is_granted_only_as_the_profile_says():
    top = root()
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "WWW.Example.com")])
    )
    for extension in (
        x509.BasicConstraints(ca=True, path_length=None),
        x509.ExtendedKeyUsage([x509.OID_CODE_SIGNING]),
        x509.SubjectAlternativeName(
            [x509.DNSName("www.example.com"), x509.RFC822Name("a@b.example")]
        ),
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"),
    ):
        builder = builder.add_extension(extension, critical=False)
    from tpmhsm.pki.applicant import applicant_from_csr

    who = applicant_from_csr(builder.sign(key(), hashes.SHA256()))
    prepared = prepare(get_profile("tls-server"), who, top.certificate, now=NOW)
    facts = prepared.facts
    assert (facts["ca"], facts["extended_key_usage"]) == (False, ["serverAuth"])
    assert (facts["sans"], facts["subject"]) == (["dns:www.example.com"], "CN=www.example.com")
    text = " ".join(prepared.notes)
    assert all(word in text for word in ("CA:TRUE", "codeSigning", "a@b.example", "1.2.3"))


def test_a_csr_cannot_bring_names_that_are_none():
    top = root()
    for bad in ("a_b.example", "exa mple.com", "192.0.2.1", "*.com"):
        who = applicant(key(), "CN=x", "dns:ok.example")
        who = type(who)(who.public_key, who.subject, (x509.DNSName(bad),), {})
        with pytest.raises(UsageError, match=r"host name|address"):
            prepare(get_profile("tls-server"), who, top.certificate, now=NOW)


def test_cn_alone_becomes_a_name():
    leaf = issue(root(), "tls-server", "CN=Www.Example.com")
    facts = describe_certificate(leaf.certificate)
    assert (facts["sans"], facts["subject"]) == (["dns:www.example.com"], "CN=www.example.com")


def test_weak_keys_are_not_certified():
    top = root()
    numbers = key("rsa2048").public_key().public_numbers()
    weak = [
        rsa.RSAPublicNumbers(3, numbers.n),
        rsa.RSAPublicNumbers(65537, numbers.n // 2 | 1),
        rsa.RSAPublicNumbers(65537, numbers.n - numbers.n % 15 + 15),
    ]
    for bad in weak:
        who = copy.copy(applicant(key(), "", "dns:a.example"))
        who = type(who)(bad.public_key(), who.subject, who.sans, {})
        with pytest.raises(UsageError, match="refused"):
            prepare(get_profile("tls-server"), who, top.certificate, now=NOW)


def test_descriptions_have_the_stable_names():
    top = root()
    middle = issue(
        top, "intermediate", "CN=I,O=Example", permitted=("dns:example.com",), ocsp=True, **BASE
    )
    facts = describe_certificate(middle.certificate, NOW)
    names = (
        "subject issuer serial not_before not_after days_left sans key sha256 ca path_length "
        "key_usage extended_key_usage policies name_constraints aia crl_urls ski aki self_signed "
        "signature_algorithm"
    )
    assert set(names.split()) <= facts.keys()
    assert facts["name_constraints"] == {"permitted": ["dns:example.com"], "excluded": []}
    assert facts["aia"] == {
        "ca_issuers": ["http://pki.example.com/ca/issuing.cer"],
        "ocsp": ["http://pki.example.com/ocsp/issuing"],
    }
    assert facts["crl_urls"] == ["http://pki.example.com/crl/issuing.crl"]
    assert facts["key_usage"] == ["keyCertSign", "cRLSign"]
    assert facts["not_before"] == "2026-11-23T09:55:00Z"
    assert (facts["days_left"], facts["valid_days"]) == (1825, 1826)
    assert facts["aki"] == describe_certificate(top.certificate)["ski"]
    assert not facts["problems"] and not facts["unknown_critical"]
    json.dumps(facts)
