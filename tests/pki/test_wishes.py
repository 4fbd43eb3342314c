"""What a CSR asks for beyond names: TLS features, CA, extensions, attributes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.pki.makers import NOW, Authority, issue, key, root

from tpmhsm.errors import UsageError
from tpmhsm.pki.applicant import applicant_from_csr
from tpmhsm.pki.csr import load_csr
from tpmhsm.pki.describe import describe_certificate
from tpmhsm.pki.issue import assemble, prepare
from tpmhsm.pki.options import IssueOptions
from tpmhsm.pki.profiles import get_profile

STAPLING = x509.TLSFeature([x509.TLSFeatureType.status_request])
OCSP = {"base_url": "http://pki.example.com", "issuer_label": "issuing", "ocsp": True}


def csr(*extensions: x509.ExtensionType, host: str = "www.example.com"):
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    san = x509.SubjectAlternativeName([x509.DNSName(host)])
    for one in (san, *extensions):
        builder = builder.add_extension(one, critical=False)
    return builder.sign(key(), hashes.SHA256())


def prepared(request, issuer: Authority, profile: str = "tls-server", **options):
    who = applicant_from_csr(request)
    return prepare(get_profile(profile), who, issuer.certificate, IssueOptions(**options), NOW)


def test_stapling_is_promised_only_where_ocsp_is_answered() -> None:
    top = root()
    with pytest.raises(UsageError, match="answers no OCSP") as caught:
        prepared(csr(STAPLING), top)
    assert caught.value.code == "tls-feature"
    token = prepared(csr(STAPLING), top, **OCSP)
    assert token.facts["tls_features"] == ["status_request"]
    notes = prepared(csr(STAPLING), top, "tls-client").notes
    assert any("TLS features" in note for note in notes)
    assert "tls_features" not in prepared(csr(), top, **OCSP).facts


def test_a_feature_without_a_name_is_a_fault_of_the_csr() -> None:
    """`cryptography` has no word for 99, and says so by a KeyError."""
    oid = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.24")
    odd = x509.UnrecognizedExtension(oid, bytes.fromhex("3003020163"))
    with pytest.raises(UsageError, match="tlsFeature does not decode"):
        applicant_from_csr(csr(odd))
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([]))
    builder = builder.public_key(key().public_key()).serial_number(1).add_extension(odd, False)
    builder = builder.not_valid_before(NOW).not_valid_after(NOW)
    facts = describe_certificate(builder.sign(key(), hashes.SHA256()))
    assert any("tlsFeature" in mark for mark in facts["marks"])


def with_features(top: Authority, *features: x509.TLSFeatureType) -> Authority:
    """The same authority, certified anew with TLS features."""
    old = top.certificate
    builder = x509.CertificateBuilder(
        old.issuer, old.subject, old.public_key(), 1 << 70, old.not_valid_before_utc,
        old.not_valid_after_utc,
    )  # fmt: skip
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    builder = builder.add_extension(x509.TLSFeature(features), False)
    return Authority(top.key, builder.sign(top.key, hashes.SHA256()))


def test_an_issuers_features_are_in_all_below_it() -> None:
    both = (x509.TLSFeatureType.status_request, x509.TLSFeatureType.status_request_v2)
    top = with_features(root(), *both)
    with pytest.raises(UsageError, match="issuer's certificate demands"):
        prepared(csr(), top)
    facts = prepared(csr(STAPLING), top, **OCSP).facts
    assert facts["tls_features"] == ["status_request", "status_request_v2"]
    middle = issue(top, "intermediate", "CN=I,O=Example")
    assert describe_certificate(middle.certificate)["tls_features"] == facts["tls_features"]


def test_a_csr_for_a_ca_under_another_profile_names_the_profile() -> None:
    usage = x509.KeyUsage(*([False] * 5), key_cert_sign=True, crl_sign=True,
                          encipher_only=False, decipher_only=False)  # fmt: skip
    request = csr(x509.BasicConstraints(ca=True, path_length=None), usage)
    token = prepared(request, root())
    text = "\n".join(token.notes)
    assert "--profile intermediate" in text and "keyCertSign" in text
    assert not token.facts["ca"]


def test_what_else_a_csr_says_is_said_and_not_copied(tmp_path: Path) -> None:
    config = tmp_path / "c"
    config.write_text(
        "[req]\nprompt=no\ndistinguished_name=d\nreq_extensions=e\nattributes=a\n"
        "[d]\nCN=www.example.com\n[a]\nchallengePassword=secretsecret\nunstructuredName=x\n"
        "[e]\nsubjectAltName=DNS:www.example.com\nissuerAltName=DNS:x.example.com\n"
        "1.2.3.4=ASN1:UTF8String:boo\ncertificatePolicies=1.2.3.4\n"
    )
    command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
               "-nodes", "-keyout", "/dev/null", "-config", str(config)]  # fmt: skip
    made = subprocess.run(command, capture_output=True, check=True).stdout
    top = root()
    token = prepared(load_csr(made), top)
    text = "\n".join(token.notes)
    for word in ("challengePassword", "unstructuredName", "1.2.3.4", "certificatePolicies",
                 "issuerAltName"):  # fmt: skip
        assert word in text
    from tests.pki.makers import sign

    certificate = assemble(token, sign(top.key, token))
    names = {extension.oid.dotted_string for extension in certificate.extensions}
    assert names.isdisjoint({"1.2.3.4", "2.5.29.18", "2.5.29.32"})
    assert b"secretsecret" not in certificate.public_bytes(Encoding.DER)


def test_each_curve_has_its_hash_under_the_baseline_requirements() -> None:
    with pytest.raises(UsageError, match=r"7\.1\.3\.2\.2") as caught:
        root("p384", lint="tls-br", hash_name="sha256")
    assert "--hash sha384" in caught.value.hint
    root("p384", lint="tls-br", hash_name="sha384")
    root("p384", hash_name="sha256")
