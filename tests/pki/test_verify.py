"""Path validation, and why a chain fails, in words."""

from __future__ import annotations

import functools
import glob
import json
import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pki.makers import NOW, Authority, issue, key, root

from tpmhsm.errors import TpmHsmError, UsageError, VerificationError
from tpmhsm.pki.load import certificate_ders
from tpmhsm.pki.verify import VerifyOptions, verify_certificate


def chain(**leaf_options):
    top = root()
    middle = issue(
        top, "intermediate", "CN=Example Issuing,O=Example", permitted=("dns:example.com",)
    )
    leaf = issue(
        middle,
        "tls-server",
        "CN=www.example.com",
        "dns:www.example.com",
        "ip:192.0.2.1",
        **leaf_options,
    )
    return top, middle, leaf


def crl(issuer: Authority, *revoked: Authority, this=NOW, days=7, reason="key_compromise") -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(this - timedelta(days=1))
        .next_update(this + timedelta(days=days))
        .add_extension(x509.CRLNumber(1), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), False
        )
    )
    for item in revoked:
        entry = (
            x509.RevokedCertificateBuilder()
            .serial_number(item.certificate.serial_number)
            .revocation_date(this - timedelta(days=1))
            .add_extension(x509.CRLReason(x509.ReasonFlags[reason]), False)
        )
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def verify(leaf, trust, untrusted=(), **options):
    options.setdefault("at", NOW)
    return verify_certificate(
        leaf.certificate,
        [item.certificate for item in trust],
        [item.certificate for item in untrusted],
        VerifyOptions(**options),
    )


def refused(leaf, trust, untrusted=(), **options) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        verify(leaf, trust, untrusted, **options)
    json.dumps(caught.value.details)
    return caught.value


def test_a_good_chain():
    top, middle, leaf = chain()
    found = verify(
        leaf,
        [top],
        [middle],
        purpose="server",
        host="WWW.example.com",
        crls=(crl(middle), crl(top)),
    )
    assert [c["subject"] for c in found.facts["chain"]] == [
        "CN=www.example.com",
        "CN=Example Issuing,O=Example",
        "CN=Example Root,O=Example,C=DE",
    ]
    assert len(found.facts["crl_checked"]) == 2
    assert found.facts["notes"] == []
    json.dumps(found.facts)
    partly = verify(leaf, [top], [middle], crls=(crl(middle),)).facts
    assert len(partly["crl_checked"]) == 1 and "Example Issuing" in partly["notes"][0]
    assert "not checked" in verify(leaf, [top], [middle]).facts["notes"][0]
    assert verify(leaf, [top], [middle], host="192.0.2.1").chain == found.chain


def test_an_anchor_may_stand_anywhere_in_the_chain():
    top, middle, leaf = chain()
    assert len(verify(leaf, [middle]).chain) == 2
    assert len(verify(leaf, [leaf], purpose="server").chain) == 1
    assert len(verify(top, [top]).chain) == 1
    assert len(verify(middle, [top]).chain) == 2


def _other_root() -> Authority:
    return root(subject="CN=Other Root")


def _expired_middle():
    top = root()
    middle = issue(top, "intermediate", "CN=Short", days=10)
    return top, middle, _forged(middle, "long", names=("a.example",))


def test_the_reasons_in_words():
    top, middle, leaf = chain()
    cases = [
        (refused(leaf, [top]), "unknown-issuer", "CN=Example Issuing,O=Example"),
        (refused(leaf, [_other_root()], [top, middle]), "untrusted-root", "CN=Example Root"),
        (refused(_other_root(), [top]), "untrusted-root", "signs itself"),
        (refused(leaf, [top], [middle], host="example.com"), "wrong-host", "www.example.com"),
        (refused(leaf, [top], [middle], host="192.0.2.2"), "wrong-host", "192.0.2.1"),
        (refused(leaf, [top], [middle], purpose="client"), "wrong-purpose", "serverAuth"),
        (refused(leaf, [top], [middle], purpose="code"), "wrong-purpose", "codeSigning"),
        (refused(leaf, [top], [middle], at=NOW + timedelta(200)), "expired", "the certificate CN="),
        (refused(leaf, [top], [middle], at=NOW - timedelta(1)), "not-yet-valid", "not valid until"),
        (refused(leaf, [top], [middle], crls=(crl(middle, leaf),)), "revoked", "2026-11-22"),
        (refused(leaf, [top], [middle], crls=(crl(top, middle),)), "revoked", "Example Issuing"),
        (
            refused(leaf, [top], [middle], crls=(crl(middle, this=NOW - timedelta(30)),)),
            "crl-stale",
            "too old",
        ),
        (refused(leaf, [top], [middle], require_crl=True), "crl-missing", "no CRL given covers"),
        (refused(leaf, [top], [middle], crls=(crl(top),)), "crl-missing", "CN=www.example.com"),
        (
            refused(leaf, [top], [middle], crls=(crl(middle),), require_crl=True),
            "crl-missing",
            "CN=Example Issuing",
        ),
    ]
    for error, reason, words in cases:
        assert error.details["reason"] == reason, (error.message, error.details)
        assert words in error.message, error.message
    short_top, short, below = _expired_middle()
    error = refused(below, [short_top], [short], at=NOW + timedelta(11))
    assert error.details["reason"] == "expired"
    assert "CN=Short" in error.message and "intermediate" in error.message
    assert error.details["certificate"] == "CN=Short"


def test_a_revoked_middle_names_the_reason():
    top, middle, leaf = chain()
    error = refused(leaf, [top], [middle], crls=(crl(top, middle), crl(middle)))
    assert "compromise" in error.message
    assert error.details["certificate"] == "CN=Example Issuing,O=Example"


def test_an_expired_root_is_refused_as_openssl_does():
    top, middle, leaf = chain()
    error = refused(leaf, [top], [middle], at=NOW + timedelta(20 * 366))
    assert error.details["reason"] == "expired"


def _forged(issuer: Authority, subject: str, *extensions, names=(), ca=False) -> Authority:
    """What no profile would give: built by hand."""
    private = key("p256", hash(("forged", subject)))
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer.certificate.subject)
        .serial_number(77)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=30))
        .public_key(private.public_key())
    )
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False
        )
    for extension in extensions:
        builder = builder.add_extension(extension, True)
    return Authority(private, builder.sign(issuer.key, hashes.SHA256()))


def test_chains_that_no_profile_makes():
    top, middle, leaf = chain()
    outside = _forged(middle, "outside", names=("evil.example",))
    cases = [
        (
            refused(outside, [top], [middle]),
            "name-constraint",
            "outside what the issuer may certify",
        ),
        (refused(_forged(leaf, "below a leaf"), [top], [middle, leaf]), None, "CN=www.example.com"),
        (
            refused(
                _forged(_forged(middle, "sub", ca=True), "deep"),
                [top],
                [middle, _forged(middle, "sub", ca=True)],
            ),
            "path-length",
            "path length",
        ),
        (
            refused(
                _forged(
                    top, "odd", x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0")
                ),
                [top],
            ),
            "unknown-critical",
            "1.2.3",
        ),
    ]
    for error, reason, words in cases:
        assert reason is None or error.details["reason"] == reason, error.message
        assert words in error.message, error.message


def test_weak_keys_serve_no_purpose():
    top = root()
    weak = rsa.generate_private_key(65537, 1024)
    builder = x509.CertificateBuilder(
        top.certificate.subject, x509.Name([]), weak.public_key(), 9, NOW, NOW + timedelta(1)
    ).add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), True)
    leaf = Authority(weak, builder.sign(top.key, hashes.SHA256()))
    error = refused(leaf, [top], purpose="server", host="a.example")
    assert error.details["reason"] == "weak-key" and "1024" in error.message


def test_a_changed_certificate_has_a_bad_signature():
    top, middle, leaf = chain()
    raw = bytearray(leaf.certificate.public_bytes(Encoding.DER))
    at = raw.index(b"www.example.com")
    raw[at] = ord("x")
    with pytest.raises(VerificationError) as caught:
        verify_certificate(
            bytes(raw), [top.certificate], [middle.certificate], VerifyOptions(at=NOW)
        )
    assert caught.value.details["reason"] == "bad-signature", caught.value.message


def test_a_root_with_the_same_name_and_another_key():
    top, middle, leaf = chain()
    impostor = Authority(key("p384", 5), None)
    from tests.pki.makers import applicant, assemble, prepare, sign

    from tpmhsm.pki.profiles import get_profile

    prepared = prepare(
        get_profile("root"),
        applicant(impostor.key, "CN=Example Root,O=Example,C=DE"),
        None,
        now=NOW,
    )
    fake = Authority(impostor.key, assemble(prepared, sign(impostor.key, prepared)))
    assert refused(leaf, [fake], [middle]).details["reason"] in ("bad-signature", "unknown-issuer")
    assert len(verify(leaf, [fake, top], [middle]).chain) == 3
    assert len(verify(leaf, [top], [fake, middle]).chain) == 3


def test_purposes_and_moments_by_name():
    top, middle, leaf = chain()
    with pytest.raises(UsageError, match="no purpose"):
        verify(leaf, [top], [middle], purpose="cooking")
    with pytest.raises(UsageError, match="nothing is trusted"):
        verify(leaf, [])
    with pytest.raises(UsageError, match="time zone"):
        verify(leaf, [top], at=datetime(2026, 1, 1))
    with pytest.raises(UsageError, match="no host name"):
        verify(leaf, [top], [middle], host="a b")


SMALL = functools.cache(chain)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_damaged_certificates_are_refused_in_words(at, flip):
    top, middle, leaf = SMALL()
    raw = bytearray(leaf.certificate.public_bytes(Encoding.DER))
    raw[at % len(raw)] ^= flip
    with pytest.raises(TpmHsmError):
        verify_certificate(
            bytes(raw), [top.certificate], [middle.certificate], VerifyOptions(at=NOW)
        )


@pytest.mark.parametrize("name", ["SECRET.Example.com", "x.Secret.EXAMPLE.com"])
def test_excluded_names_do_not_slip_by_in_capitals(name):
    top = root()
    middle = issue(top, "intermediate", "CN=No Secrets", excluded=("dns:secret.example.com",))
    assert refused(_forged(middle, "x", names=(name,)), [top], [middle]).details["reason"] == (
        "name-constraint"
    )


def _data(name: str) -> Path:
    folder = os.environ.get("TPMHSM_TEST_DATA")
    if not folder:
        pytest.skip(f"{name}: TPMHSM_TEST_DATA is not set")
    return Path(folder) / name


def test_real_tpm_vendor_chains():
    """169 real certificates: an intermediate either chains to a vendor root or says why not."""
    roots, middles = [], []
    for file in glob.glob(str(_data("tpm-roots") / "**" / "*.pem"), recursive=True):
        ders = certificate_ders(Path(file).read_bytes(), file)
        (middles if "intermediate" in Path(file).name else roots).extend(ders)
    good = 0
    for raw in middles[:40]:
        try:
            verify_certificate(raw, roots, middles, VerifyOptions(at=NOW))
            good += 1
        except VerificationError as error:
            assert error.details["reason"] != "broken", error.message
    assert good >= 10
