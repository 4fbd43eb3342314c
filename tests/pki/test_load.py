"""Files that are certificates, and the many that are not."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pki.makers import Authority, applicant, issue, key, pem, root
from tests.pki.test_verify import crl

from tpmhsm.errors import NotFoundError, ParseError
from tpmhsm.pki.chains import build_chain, chain_tree, export_bundle, tree_lines
from tpmhsm.pki.crl_file import crl_ders
from tpmhsm.pki.csr import CsrContent, build_csr, load_csr
from tpmhsm.pki.describe import certificate_lines, describe_certificate
from tpmhsm.pki.load import certificate_ders, load_certificate, load_certificates, to_pem
from tpmhsm.pki.names import parse_dn


def test_bundles_with_comments_and_windows_lines():
    top = root()
    middle = issue(top, "intermediate", "CN=I")
    data = b"# mine\r\n" + pem(middle).replace(b"\n", b"\r\n") + b"subject=x\n" + pem(top)
    assert load_certificates(data) == [middle.certificate, top.certificate]
    assert certificate_ders(data) == [
        c.certificate.public_bytes(Encoding.DER) for c in (middle, top)
    ]
    raw = top.certificate.public_bytes(Encoding.DER)
    assert load_certificate(raw) == load_certificate(raw + b"\n") == top.certificate
    assert to_pem(raw) == pem(top)
    assert load_certificate(to_pem(raw + b"\x30\0", "TRUSTED CERTIFICATE")) == top.certificate


def _bad() -> dict[str, tuple[bytes, str]]:
    top = root()
    raw, text = top.certificate.public_bytes(Encoding.DER), pem(top)
    csr = build_csr(key(), CsrContent(parse_dn("CN=x")))
    return {
        "empty": (b"", "empty"),
        "blank": (b" \n", "empty"),
        "too big": (b"\x30" + bytes(1 << 20), "1 MiB"),
        "garbage": (os.urandom(8).replace(b"\x30", b"") + b"garbage", "neither PEM nor DER"),
        "text": (b"hello", "neither PEM nor DER"),
        "truncated DER": (raw[:-5], "truncated"),
        "truncated PEM": (text[:-40], "cut off"),
        "PEM of half": (to_pem(raw[: len(raw) // 2]), "truncated"),
        "bad base64": (text.replace(b"M", b"!", 1), "base64"),
        "followed": (raw + b"\x30\x09\x02", "truncated"),
        "a CSR": (csr.public_bytes(Encoding.PEM), "CSR"),
        "a CSR in DER": (csr.public_bytes(Encoding.DER), "CSR"),
        "a CSR mislabelled": (to_pem(csr.public_bytes(Encoding.DER)), "CSR"),
        "a CRL": (crl(top), "CRL"),
        "a CRL in PEM": (to_pem(crl(top), "X509 CRL"), "CRL"),
        "a key": (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "private key"),
        "a TPM key": (to_pem(b"x", "TSS2 PRIVATE KEY"), "TPM key"),
        "a sequence": (b"\x30\x03\x02\x01\x05", "is"),
        "indefinite": (b"\x30\x80\x02\x01\x05\0\0", "nothing known"),
        "deep": (b"\x30\x80" * 5000, ""),
        "long length": (b"\x30\x88" + b"\xff" * 8, "truncated"),
    }


@pytest.mark.parametrize("name", list(_bad()))
def test_bad_files_are_refused_in_words(name):
    data, why = _bad()[name]
    for loader in (load_certificates, certificate_ders):
        with pytest.raises(ParseError) as caught:
            loader(data, "x.pem")
        assert "x.pem" in caught.value.message
        assert why in caught.value.message, caught.value.message


def test_files_that_are_no_csr_and_no_crl():
    top = root()
    for data, why in ((pem(top), "no CSR"), (b"", "empty"), (b"x", "neither"), (crl(top), "CRL")):
        with pytest.raises(ParseError, match=why):
            load_csr(data, "f")
    assert len(crl_ders(to_pem(crl(top), "X509 CRL"))) == 1
    for data, why in (
        (pem(top), "no CRL"),
        (pem(top)[:50], "cut|neither|no CRL"),
        (b"\x30\0", "no CRL"),
    ):
        with pytest.raises(ParseError, match=why):
            crl_ders(data, "f")


@given(st.binary(max_size=300))
def test_any_bytes_load_or_are_refused(data):
    for loader in (load_certificates, certificate_ders, load_csr, crl_ders):
        with pytest.raises(ParseError):
            loader(b"\x30" + data)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_flipped_byte_is_shown_or_refused(at, flip):
    raw = bytearray(SAMPLE)
    raw[at % len(raw)] ^= flip
    try:
        facts = describe_certificate(bytes(raw))
    except ParseError:
        return
    certificate_lines(facts)


SAMPLE = issue(
    root(), "tls-client", "CN=Joe,O=Example", "dns:a.example", "upn:a@b.example"
).certificate.public_bytes(Encoding.DER)


def test_chains_and_their_export():
    top = root()
    middle = issue(top, "intermediate", "CN=I")
    leaf = issue(middle, "tls-server", "", "dns:a.example")
    pool = [c.certificate for c in (leaf, top, middle)]
    chain = build_chain(leaf.certificate, pool)
    assert chain == [leaf.certificate, middle.certificate, top.certificate]
    assert export_bundle(chain, "leaf") == chain[:1]
    assert export_bundle(chain, "chain") == chain[1:2]
    assert export_bundle(chain, "fullchain") == chain[:2]
    assert export_bundle([top.certificate], "fullchain") == [top.certificate]
    assert build_chain(top.certificate, pool) == [top.certificate]
    with pytest.raises(NotFoundError):
        export_bundle(chain, "half")
    with pytest.raises(NotFoundError):
        export_bundle([], "leaf")


def test_the_tree_with_days_left():
    top, other = root(), root(subject="CN=Other")
    middle = issue(top, "intermediate", "CN=I")
    leaf = issue(middle, "tls-server", "", "dns:a.example")
    orphan = issue(issue(other, "intermediate", "CN=Gone"), "tls-client", "CN=Joe")
    from tests.pki.makers import NOW

    tree = chain_tree([c.certificate for c in (leaf, orphan, middle, top)], NOW)
    assert [node["subject"] for node in tree] == ["CN=Joe", "CN=Example Root,O=Example,C=DE"]
    assert tree[1]["issued"][0]["issued"][0]["days_left"] == 198
    assert not tree[0]["complete"]
    lines = tree_lines(tree)
    assert lines[0].endswith("its issuer CN=Gone is not here")
    assert lines[2].startswith("└─ CN=I  1825 days left")
    assert lines[3].startswith("   └─ dns:a.example  198 days left")
    late = chain_tree([leaf.certificate], NOW.replace(year=2028))
    assert "EXPIRED" in tree_lines(late)[0]


def test_the_issuer_valid_longest_is_chosen():
    short, long = root(days=3000), root(days=4000)
    assert short.key is long.key
    leaf = issue(short, "tls-server", "", "dns:a.example")
    pool = [short.certificate, long.certificate]
    assert build_chain(leaf.certificate, pool)[1:] == [long.certificate]


def crossed(subject: Authority, issuer: Authority, days: int, begun: int = 1) -> Authority:
    """The key and name of one CA, certified by another one."""
    of, now = subject.certificate, datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(of.subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(of.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=begun))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(issuer.key, hashes.SHA256())
    )
    return Authority(subject.key, made)


def _of_root(*, own_days: int = 3650):
    """A root, what is below it, and others that certified it or are certified by it."""
    now = datetime.now(UTC) - timedelta(days=1)
    top = root(subject="CN=Ours", now=now, days=own_days)
    other = root(subject="CN=Theirs", now=now)
    middle = issue(top, "intermediate", "CN=I", now=now, days=min(own_days, 700))
    leaf = issue(middle, "tls-server", "", "dns:a.example", now=now, days=min(own_days, 90))
    return top, other, middle, leaf


@pytest.mark.parametrize("turn", [1, -1])
def test_crossed_certificates_do_not_displace_our_own(turn):
    top, other, middle, leaf = _of_root()
    above, loop = crossed(top, other, 9000), crossed(other, top, 9000)
    again = crossed(middle, other, 9000)
    pool = [c.certificate for c in (above, loop, again, top, other, middle)][::turn]
    own = {top.certificate, middle.certificate}
    chain = build_chain(leaf.certificate, pool, own)
    assert chain == [leaf.certificate, middle.certificate, top.certificate]
    tree = chain_tree([leaf.certificate, *pool], own=own)
    ours = next(n for n in tree if (n["subject"], n["self_signed"]) == ("CN=Ours", True))
    theirs = next(n for n in tree if (n["subject"], n["self_signed"]) == ("CN=Theirs", True))
    assert {n["subject"] for n in ours["issued"]} == {"CN=I", "CN=Theirs"}
    assert {n["subject"] for n in theirs["issued"]} == {"CN=I", "CN=Ours"}


def test_a_chain_goes_on_where_our_own_is_not_in_force():
    top, other, middle, leaf = _of_root()
    late = crossed(middle, top, -1, begun=30)
    pool = [late.certificate, top.certificate, other.certificate, middle.certificate]
    chain = build_chain(leaf.certificate, pool, {late.certificate, top.certificate})
    assert chain[1] == middle.certificate
    only = build_chain(leaf.certificate, [late.certificate, top.certificate])
    assert only == [leaf.certificate, late.certificate, top.certificate]  # better than none


def test_a_path_that_ends_nowhere_gives_way_to_one_with_a_root():
    top, other, middle, leaf = _of_root()
    gone = root(subject="CN=Gone")
    dead_end = crossed(middle, gone, 9000)
    pool = [dead_end.certificate, middle.certificate, top.certificate, other.certificate]
    assert build_chain(leaf.certificate, pool)[1:] == [middle.certificate, top.certificate]


def test_many_crossed_certificates_take_bounded_time():
    """Every CA certified every other one, and none of them is a root."""
    cas = [root(subject=f"CN=CA {number}") for number in range(12)]
    pool = [crossed(a, b, 300).certificate for a in cas for b in cas if a is not b]
    leaf = issue(cas[0], "tls-server", "", "dns:a.example")
    begun = time.process_time()
    chain = build_chain(leaf.certificate, pool)
    assert len(chain) == len(set(map(fingerprint, chain))) > 1
    assert time.process_time() - begun < 10


def fingerprint(certificate: x509.Certificate) -> bytes:
    return certificate.fingerprint(hashes.SHA256())


def _data(*parts: str) -> Path:
    folder = os.environ.get("TPMHSM_TEST_DATA")
    if not folder:
        pytest.skip(f"{parts[0]}: TPMHSM_TEST_DATA is not set")
    return Path(folder, *parts)


def test_real_certificates_that_break_rules_are_shown():
    for file in _data("ek-certs").iterdir():
        facts = describe_certificate(certificate_ders(file.read_bytes(), file.name)[0])
        assert facts["subject"] == "" and "tpmModel" in facts["sans"][0]
        assert certificate_lines(facts)
    assert "RSA-OAEP" in {
        describe_certificate(f.read_bytes())["key"]["alg"] for f in _data("ek-certs").iterdir()
    }
    count = 0
    for file in _data("tpm-roots").glob("*.pem"):
        for raw in certificate_ders(file.read_bytes(), file.name):
            assert certificate_lines(describe_certificate(raw))
            count += 1
    assert count == 169


def test_fuzzers_certificates_are_shown_or_refused():
    for file in _data("fuzz", "x509").iterdir():
        for loader in (
            certificate_ders,
            load_certificates,
            lambda data: [describe_certificate(data)],
        ):
            try:
                for item in loader(file.read_bytes()):
                    if not isinstance(item, dict):
                        certificate_lines(describe_certificate(item))
            except ParseError as error:
                assert error.message


def test_an_applicant_is_its_csr():
    who = applicant(key(), "CN=x,O=y", "dns:a.example")
    assert who.subject == parse_dn("CN=x,O=y").public_bytes()
