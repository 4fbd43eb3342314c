"""Certificates in every form that the world has, read back as the bytes that they were."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pki.makers import NOW, issue, root
from tests.pki.odd import ODD, Odd
from tests.pki.test_verify import crl

from tpmhsm.cli.show import known, says_it_is
from tpmhsm.errors import ParseError, TpmHsmError
from tpmhsm.pki import der
from tpmhsm.pki.bundle import read_bundle
from tpmhsm.pki.containers import certificates_only, read_signed_data
from tpmhsm.pki.crl_facts import describe_crl
from tpmhsm.pki.crl_file import crl_ders
from tpmhsm.pki.describe import certificate_lines, describe_certificate
from tpmhsm.pki.load import certificate_ders, load_certificates, to_pem
from tpmhsm.pki.pkcs12 import NamedCertificate, certificates_pkcs12, open_pkcs12

TOP = root()
LEAF = issue(TOP, "tls-client", "CN=Joe,O=Example", "dns:a.example")
ONE, TWO = (c.certificate.public_bytes(Encoding.DER) for c in (LEAF, TOP))
CRL = crl(TOP, LEAF)


def openssl(*arguments: object, data: bytes = b"") -> bytes:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], input=data, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def indefinite(tag: int, *parts: bytes) -> bytes:
    return bytes((tag, 0x80)) + b"".join(parts) + b"\0\0"


def ber_pkcs7(*certificates: bytes) -> bytes:
    """As NSS and older Java write it: every length of the container indefinite."""
    signed = indefinite(
        der.SEQUENCE,
        der.encode_integer(1),
        indefinite(der.SET),
        indefinite(der.SEQUENCE, der.encode_oid("1.2.840.113549.1.7.1")),
        indefinite(0xA0, *certificates),
        indefinite(der.SET),
    )
    kind = der.encode_oid("1.2.840.113549.1.7.2")
    return indefinite(der.SEQUENCE, kind, indefinite(0xA0, signed))


def files() -> dict[str, bytes]:
    """Files that hold the two certificates, in this order."""
    one, two = to_pem(ONE), to_pem(TWO)
    together = b"subject=x\n" + one + b"issuer: \xc3\xa4\n" + two + b"\ngarbage \0\1 after it"
    indented = b"".join(b"    " + line + b"  \r\n" for line in (one + two).splitlines())
    aux = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, der.encode_oid("2.5.29.37.0")))
    return {
        "PEM with text": together,
        "PEM with CRLF": (one + two).replace(b"\n", b"\r\n"),
        "PEM indented": indented,
        "PEM on long lines": b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(ONE)
        + b"\n-----END CERTIFICATE-----" + two,
        "PEM of UTF-16": (one + two).decode().encode("utf-16"),
        "PEM with a mark": b"\xef\xbb\xbf" + one + two,
        "other labels": to_pem(ONE, "X509 CERTIFICATE") + to_pem(TWO + aux, "TRUSTED CERTIFICATE"),
        "DER": ONE + TWO,
        "DER with line ends": ONE + b"\r\n" + TWO + b"\n",
        "DER, then PEM": ONE + b"\n" + two,
        "PEM, then DER": one + TWO,
        "DER between PEM": to_pem(b"0\0", "EC PARAMETERS") + ONE + b"\n" + two,
        "base64 alone": base64.encodebytes(ber_pkcs7(ONE, TWO)),
        "PKCS #7 of cryptography": pkcs7.serialize_certificates(
            [LEAF.certificate], Encoding.DER) + TWO,
        "PKCS #7 in PEM": to_pem(ber_pkcs7(ONE), "PKCS7") + two,
        "PKCS #7 mislabelled": to_pem(ber_pkcs7(ONE, TWO)),
        "BER": ber_pkcs7(ONE, TWO),
        "PKCS #7 of OpenSSL": openssl(
            "crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin", data=one) + two,
        "Netscape sequence": der.encode(
            der.SEQUENCE, der.encode_oid("2.16.840.1.113730.2.5"),
            der.encode(0xA0, der.encode(der.SEQUENCE, ONE, TWO))),
        "repeated": one + two + ONE,
    }  # fmt: skip


@pytest.mark.parametrize("form", list(files()))
def test_each_form_gives_the_same_bytes(form):
    found = list(dict.fromkeys(certificate_ders(files()[form])))
    assert found == [ONE, TWO]


def test_crls_and_keys_beside_certificates_are_told_apart():
    key = openssl("genpkey", "-algorithm", "ed25519")
    data = to_pem(CRL, "X509 CRL") + key + to_pem(ONE) + certificates_only([TWO], [CRL])
    bundle = read_bundle(data)
    kinds = [item.kind for item in bundle.items]
    assert kinds == ["crl", "private-key", "certificate", "certificate"]
    assert bundle.repeated == 1
    assert crl_ders(CRL) == [CRL]
    signed = read_signed_data(certificates_only([ONE, TWO], [CRL]))
    assert (sorted([ONE, TWO]), [CRL]) == (signed.certificates, signed.crls)


def test_signed_messages_are_containers_too(tmp_path):
    pem, key = tmp_path / "c.pem", tmp_path / "k.pem"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", pem,
            "-subj", "/CN=signer")  # fmt: skip
    for options in ((), ("-nodetach",), ("-nodetach", "-stream")):
        message = openssl("cms", "-sign", "-in", pem, "-signer", pem, "-inkey", key,
                          "-outform", "DER", *options)  # fmt: skip
        assert to_pem(certificate_ders(message)[0]) == pem.read_bytes()
        kind, (found, words) = known(message, "f")
        assert kind == "pkcs7" and found["signers"][0]["issuer"] == "CN=signer"
        assert found["detached"] is not bool(options)
        assert "Signing time" in words


def test_where_in_the_file_it_breaks():
    data = b"# a\n" + to_pem(ONE) + to_pem(TWO)[:300] + b"\n" + to_pem(b"0\3\2\1\5")
    found = read_bundle(data, "f")
    assert len(found.items) == 1
    assert [fault.where for fault in found.faults] == [
        "PEM block 2 (line 16)" if data.count(b"\n", 0, data.index(to_pem(TWO)[:300])) == 15
        else found.faults[0].where,
        found.faults[1].where,
    ]  # fmt: skip
    assert "cut off" in found.faults[0].reason
    with pytest.raises(ParseError, match=r"f, PEM block 2 \(line \d+\): .*cut off.*and 1 more"):
        certificate_ders(data, "f")
    with pytest.raises(ParseError, match=f"f, byte {len(ONE)}: .*truncated"):
        certificate_ders(ONE + TWO[:-9], "f")
    note = f"byte {len(ONE)}: 4 bytes follow that are nothing known"
    assert read_bundle(ONE + b"junk").notes == [note]


# ── what breaks rules ────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", list(ODD))
def test_odd_certificates_are_kept_shown_and_marked(fault):
    odd, mark = ODD[fault]
    raw = odd.raw()
    assert certificate_ders(to_pem(raw)) == [raw]
    facts = describe_certificate(raw)
    assert any(mark in one for one in facts["marks"]), facts["marks"]
    assert mark in dict(certificate_lines(facts))["Marks"]
    assert facts["subject"] in ("CN=Subject", "") or "subject" in mark or facts["marks"]


def test_what_breaks_no_rule_has_no_mark():
    for raw in (ONE, TWO, Odd().raw()):
        assert describe_certificate(raw)["marks"] == []


def test_names_beside_a_broken_one_are_shown():
    facts = describe_certificate(ODD["names that are none"][0].raw())
    assert facts["sans"] == ["dns:a.example", "unknown:#8703616263"]
    facts = describe_certificate(ODD["criticality written out"][0].raw())
    assert facts["sans"] == ["dns:a.example"]


def test_times_that_are_none_are_null():
    facts = describe_certificate(ODD["time of no day"][0].raw())
    assert (facts["not_after"], facts["days_left"], facts["expired"]) == (None, None, None)
    assert facts["not_before"] == "2026-01-01T00:00:00Z"


def test_a_certificate_that_is_ber_itself_is_not_altered():
    parts = der.children(der.read_whole(ONE).content)
    raw = indefinite(der.SEQUENCE, *(part.raw for part in parts))
    assert certificate_ders(ber_pkcs7(raw)) == certificate_ders(raw) == [raw]
    facts = describe_certificate(raw)
    assert facts["subject"] == "CN=Joe,O=Example"
    assert any("not strict DER" in mark for mark in facts["marks"])
    assert certificate_ders(certificates_only([raw])) == [raw]
    assert open_pkcs12(certificates_pkcs12([NamedCertificate(raw, "x")], None), None).certificates[
        0
    ] == (raw, "x")


# ── PKCS #12 ─────────────────────────────────────────────────────────────────

VARIANTS: dict[str, tuple[str, ...]] = {
    "default": (),
    "legacy": ("-legacy",),  # RC2-40, 3DES, SHA-1
    "3des": ("-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"),
    "rc2-128": ("-legacy", "-certpbe", "PBE-SHA1-RC2-128"),
    "aes-128, sha512": ("-certpbe", "aes-128-cbc", "-macalg", "sha512"),
    "no MAC": ("-nomac",),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("p12")
    pem, key = folder / "c.pem", folder / "k.pem"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", pem, "-subj", "/CN=p12")  # fmt: skip
    return pem, key


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_pkcs12_of_openssl(variant, pair):
    pem, key = pair
    raw = openssl("pkcs12", "-export", "-in", pem, "-inkey", key, "-name", "Größe",
                  "-passout", "pass:geheim ä", *VARIANTS[variant])  # fmt: skip
    found = open_pkcs12(raw, "geheim ä".encode)
    assert [to_pem(one.der) for one in found.certificates] == [pem.read_bytes()]
    assert [one.name for one in found.certificates] == found.keys == ["Größe"]
    assert open_pkcs12(raw, None).closed == (variant != "no MAC")
    if variant != "no MAC":  # OpenSSL leaves the encryption of certificates out then
        with pytest.raises(ParseError, match="passphrase is wrong"):
            open_pkcs12(raw, lambda: b"other")
    items = read_bundle(raw, "f", lambda _: "geheim ä".encode()).items
    assert [item.kind for item in items] == ["certificate", "private-key"]
    assert b"" in [item.der for item in items]  # a key is never handed on


def test_pkcs12_without_a_passphrase_and_as_ber(pair):
    pem, _ = pair
    for options in (("-passout", "pass:"), ("-passout", "pass:", "-certpbe", "NONE", "-nomac")):
        raw = openssl("pkcs12", "-export", "-in", pem, "-nokeys", *options)
        assert len(open_pkcs12(raw, None).certificates) == 1
    version, info, *mac = der.children(der.read_whole(raw).content)
    kind, content = der.children(info.content)
    octets = der.read_whole(content.content).content
    pieces = [der.encode(der.OCTET_STRING, octets[i : i + 100]) for i in range(0, len(octets), 100)]
    again = indefinite(
        der.SEQUENCE,
        version.raw,
        indefinite(der.SEQUENCE, kind.raw, indefinite(0xA0, indefinite(0x24, *pieces))),
        *(part.raw for part in mac),
    )
    assert open_pkcs12(again, None) == open_pkcs12(raw, None)


@pytest.mark.skipif(not shutil.which("certtool"), reason="certtool is not installed")
def test_pkcs12_of_gnutls_and_pkcs7_for_it(pair, tmp_path):
    pem, key = pair
    out = tmp_path / "g.p12"
    subprocess.run(
        ["certtool", "--to-p12", "--load-certificate", pem, "--load-privkey", key, "--p12-name",
         "x", "--password", "geheim", "--outder", "--outfile", out],
        check=True, capture_output=True,
    )  # fmt: skip
    found = open_pkcs12(out.read_bytes(), lambda: b"geheim")
    assert [to_pem(one.der) for one in found.certificates] == [pem.read_bytes()]
    done = subprocess.run(
        ["certtool", "--p7-info"], input=to_pem(certificates_only([ONE, TWO]), "PKCS7"),
        capture_output=True, check=True,
    )  # fmt: skip
    assert b"Number of certificates: 2" in done.stdout


@pytest.mark.parametrize("passphrase", [None, b"geheim"])
def test_pkcs12_that_is_written(passphrase, tmp_path):
    path = tmp_path / "t.p12"
    named = [NamedCertificate(ONE, "Joe"), NamedCertificate(TWO, "Wurzel Ä")]
    path.write_bytes(certificates_pkcs12(named, passphrase))
    assert open_pkcs12(path.read_bytes(), lambda: b"geheim").certificates == named
    secret = (passphrase or b"").decode()
    shown = openssl("pkcs12", "-in", path, "-nokeys", "-passin", f"pass:{secret}")
    assert shown.count(b"BEGIN CERTIFICATE") == 2
    assert b"PRIVATE" not in shown and b"friendlyName: Joe" in shown
    if shutil.which("keytool"):
        done = subprocess.run(
            ["keytool", "-list", "-keystore", path, "-storetype", "PKCS12",
             *(["-storepass", secret] if secret else [])],
            input=b"\n", capture_output=True, check=True,
        )  # fmt: skip
        assert done.stdout.count(b"trustedCertEntry") == 2, done.stdout


def pbkdf2(rounds: int, *, scheme: str, inner: bytes) -> bytes:
    """AlgorithmIdentifier of PBES2 or PBMAC1 with so many iterations."""

    def algorithm(oid: str, *parameters: bytes) -> bytes:
        return der.encode(der.SEQUENCE, der.encode_oid(oid), *parameters)

    function = algorithm("1.2.840.113549.2.9", der.encode(der.NULL))
    salt = der.encode(der.OCTET_STRING, b"12345678")
    values = der.encode(der.SEQUENCE, salt, der.encode_integer(rounds), function)
    derivation = algorithm("1.2.840.113549.1.5.12", values)
    return algorithm(scheme, der.encode(der.SEQUENCE, derivation, inner or function))


def pkcs12_of(parts: list[bytes], mac: bytes = b"") -> bytes:
    def content(kind: str, data: bytes) -> bytes:
        return der.encode(der.SEQUENCE, der.encode_oid(kind), der.encode(0xA0, data))

    safe = der.encode(der.SEQUENCE, *(content("1.2.840.113549.1.7.6", one) for one in parts))
    whole = content("1.2.840.113549.1.7.1", der.encode(der.OCTET_STRING, safe))
    return der.encode(der.SEQUENCE, der.encode_integer(3), whole, mac)


def encrypted(rounds: int) -> bytes:
    vector = der.encode(der.OCTET_STRING, bytes(16))
    aes = der.encode(der.SEQUENCE, der.encode_oid("2.16.840.1.101.3.4.1.42"), vector)
    info = der.encode(
        der.SEQUENCE,
        der.encode_oid("1.2.840.113549.1.7.1"),
        pbkdf2(rounds, scheme="1.2.840.113549.1.5.13", inner=aes),
        der.encode(0x80, bytes(32)),
    )
    return der.encode(der.SEQUENCE, der.encode_integer(0), info)


def test_pkcs12_of_many_iterations_is_refused_at_once():
    """Each part within the limit, all of them together a day's work; and PBMAC1's own count."""
    started = time.monotonic()
    with pytest.raises(ParseError, match="iterations for the parts") as caught:
        open_pkcs12(pkcs12_of([encrypted(9_000_000)] * 1000), lambda: b"geheim")
    assert caught.value.code == "too-many-iterations"
    digest = pbkdf2(9_000_000, scheme="1.2.840.113549.1.5.14", inner=b"")
    info = der.encode(der.SEQUENCE, digest, der.encode(der.OCTET_STRING, bytes(32)))
    mac = der.encode(der.SEQUENCE, info, der.encode(der.OCTET_STRING, b"x"), der.encode_integer(1))
    assert open_pkcs12(pkcs12_of([encrypted(1)], mac), None).closed == 1
    assert open_pkcs12(pkcs12_of([encrypted(9_000_000)]), None).closed == 1
    assert time.monotonic() - started < 2


def test_pkcs7_that_is_written():
    shown = openssl("pkcs7", "-print_certs", data=to_pem(certificates_only([ONE, TWO]), "PKCS7"))
    assert shown.count(b"BEGIN CERTIFICATE") == 2
    loaded = pkcs7.load_der_pkcs7_certificates(certificates_only([ONE, TWO]))
    assert {c.public_bytes(Encoding.DER) for c in loaded} == {ONE, TWO}


# ── CRLs ─────────────────────────────────────────────────────────────────────


def test_a_crl_in_full():
    facts = describe_crl(CRL)
    assert (facts["issuer"], facts["number"], facts["entries"]) == (
        "CN=Example Root,O=Example,C=DE", "1", 1)  # fmt: skip
    assert facts["reasons"] == {"keyCompromise": 1} and facts["marks"] == []
    assert facts["revoked"][0]["serial"] == f"{LEAF.certificate.serial_number:x}".zfill(32)
    outer, _ = der.read(CRL)
    again = indefinite(der.SEQUENCE, outer.content)
    assert describe_crl(again)["marks"][0].startswith("not DER")
    assert describe_crl(again)["revoked"] == facts["revoked"]


def test_a_delta_crl_with_a_distribution_point():
    extensions = (
        (x509.CRLNumber(9), False),
        (x509.DeltaCRLIndicator(7), True),
        (
            x509.IssuingDistributionPoint(
                [x509.UniformResourceIdentifier("http://a.example/x.crl")],
                None, True, False, None, True, False,
            ),
            True,
        ),
    )  # fmt: skip
    builder = x509.CertificateRevocationListBuilder(TOP.certificate.subject, NOW, NOW)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    facts = describe_crl(builder.sign(TOP.key, hashes.SHA256()).public_bytes(Encoding.DER))
    assert (facts["number"], facts["delta_base"], facts["entries"]) == ("9", "7", 0)
    assert facts["idp"]["names"] == ["uri:http://a.example/x.crl"]
    assert facts["idp"]["only_user"] and facts["idp"]["indirect"]


def many_entries(count: int) -> bytes:
    reason = bytes.fromhex("300c300a0603551d1504030a0101")
    date = b"\x17\x0d261123100000Z"
    entries = [
        der.encode(der.SEQUENCE, der.encode_integer(i + (1 << 120)), date, reason * (i % 3 == 0))
        for i in range(count)
    ]
    tbs, algorithm, signature = der.children(der.read_whole(CRL).content)
    fields = [part.raw for part in der.children(tbs.content)]
    listed = der.encode(der.SEQUENCE, *entries)
    inner = der.encode(der.SEQUENCE, *fields[:5], listed, *fields[6:])
    return der.encode(der.SEQUENCE, inner, algorithm.raw, signature.raw)


def test_a_large_crl_takes_no_time():
    raw = many_entries(100_000)
    begun = time.process_time()
    kind, (facts, words) = known(raw, "f")
    assert time.process_time() - begun < 2
    assert (kind, facts["entries"]) == ("crl", 100_000)
    assert facts["reasons"] == {"none": 66_666, "keyCompromise": 33_334}
    assert "and 99,980 more" in words


# ── the world's ──────────────────────────────────────────────────────────────


def test_vendor_bundles_are_whole(test_data):
    counts, refused, marked = {}, 0, 0
    for name in ("ca", "intermediate-ca"):
        file = test_data("tpm-roots") / f"MIRROR.tpm-{name}-certificates.pem"
        ders = certificate_ders(file.read_bytes(), file.name)
        counts[name] = len(ders)
        for raw in ders:
            facts = describe_certificate(raw)
            marked += bool(facts["marks"])
            try:
                certificate = x509.load_der_x509_certificate(raw)
                assert certificate.public_key() and certificate.extensions is not None
                assert certificate.subject.public_bytes()
            except ValueError:
                refused += 1
                assert facts["marks"]
            assert to_pem(raw) and facts["key"]["alg"] in ("EC", "RSA")
    assert counts == {"ca": 26, "intermediate-ca": 143}
    assert refused == REFUSED_BY_CRYPTOGRAPHY and marked == MARKED


REFUSED_BY_CRYPTOGRAPHY, MARKED = 5, 9


def test_endorsement_certificates_of_real_chips(test_data):
    marks = {
        file.name[3:7]: describe_certificate(file.read_bytes())["marks"]
        for file in test_data("ek-certs").iterdir()
    }
    assert "RSA-OAEP" in marks["411a"][0] and not marks["2344"]


@pytest.mark.parametrize("corpus", ["x509", "crl", "cms", "cmp"])
def test_fuzzers_files_give_a_result_or_an_error(corpus, test_data):
    """And whatever OpenSSL reads as a certificate or CRL is shown as one."""
    for file in sorted(test_data("fuzz").joinpath(corpus).iterdir()):
        data, shown = file.read_bytes(), None
        begun = time.process_time()
        try:
            shown, _ = known(data, file.name)
        except TpmHsmError as error:
            assert error.message
        for load in (load_certificates, crl_ders, says_it_is):
            try:
                load(data)
            except ParseError as error:
                assert error.message
        assert time.process_time() - begun < 1, file.name
        if corpus == "x509" and shown not in ("certificate", "bundle"):
            done = subprocess.run(
                ["openssl", "x509", "-inform", "DER", "-noout", "-in", file],
                capture_output=True,
                check=False,
            )
            assert done.returncode, f"{file.name}: OpenSSL reads it"


# ── what is meant to harm ────────────────────────────────────────────────────

MIB = 1 << 20
HARMFUL = {
    "many beginnings": b"-----BEGIN CERTIFICATE-----\n" * (MIB // 28),
    "beginnings and ends": b"-----BEGIN CERTIFICATE-----\n-----END X-----\n" * (MIB // 44),
    "many small structures": b"\x30\0" * (MIB // 4),
    "deep": b"\x30\x80" * (MIB // 2),
    "deep and wide": (b"\x30\x80" * 60 + b"\2\1\1" * 300_000 + b"\0\0" * 60),
    "a huge length": b"\x30\x88" + b"\x7f" * 8 + bytes(100),
    "a length of lengths": b"\x30\xfe" + b"\xff" * 200,
    "many extensions": Odd(extensions=(b"\x30\5\6\1\x2a\4\0",) * 60_000).raw(),
    "a huge identifier": Odd(extensions=(der.encode(
        der.SEQUENCE, der.encode(der.OID, b"\xff" * 500_000 + b"\1"), b"\4\0"),)).raw(),
    "a huge serial": Odd(serial=der.encode(der.INTEGER, b"\x7f" * 500_000)).raw(),
    "many names": Odd(subject=der.encode(der.SEQUENCE, *[der.encode(
        der.SET, der.encode(der.SEQUENCE, b"\6\3\x55\4\3", b"\x0c\1x"))] * 50_000)).raw(),
    "pieces of a string": b"\x30\x80" + b"\x24\x80" * 63 + b"\4\1x" * 100_000,
    "colons": b"-----BEGIN CERTIFICATE-----\n" + b"a:\n\n" * 200_000 + b"-----END CERTIFICATE-----",
    "text": b"M" * MIB,
}  # fmt: skip


@pytest.mark.parametrize("kind", list(HARMFUL))
def test_harm_is_bounded(kind):
    begun = time.process_time()
    for use in (read_bundle, lambda data: known(data, "f")):
        try:
            use(HARMFUL[kind][:MIB])
        except TpmHsmError as error:
            assert error.message and len(error.message) < 2000
    assert time.process_time() - begun < 8  # on a busy machine; a second or two on a quiet one


@pytest.mark.parametrize("kind", ["pkcs7", "pem", "pkcs12", "crls"])
def test_thousands_of_copies_cost_no_more_than_one(kind):
    """One certificate is described in a millisecond, 20,000 copies were in 24 s."""
    many = 20_000
    data = {
        "pkcs7": certificates_only([ONE] * many),
        "pem": to_pem(ONE) * many,
        "pkcs12": certificates_pkcs12([NamedCertificate(ONE, "x")] * many, None),
        "crls": certificates_only([ONE], [CRL] * many),
    }[kind]
    begun = time.process_time()
    found, (facts, words) = known(data, "f")
    assert time.process_time() - begun < 4  # under one on a quiet machine
    if kind == "pkcs12":
        assert len(facts["certificates"]) == many
    else:
        assert facts["repeated"] == many - 1 and "19,999 more are copies" in words
    if kind in ("pkcs7", "crls"):
        assert found == "pkcs7" and len(facts["certificates"]) == 1


GOOD = {
    "certificate": ONE,
    "bundle": to_pem(ONE) + to_pem(CRL, "X509 CRL"),
    "crl": CRL,
    "pkcs7": ber_pkcs7(ONE, TWO),
    "pkcs12": certificates_pkcs12([NamedCertificate(ONE, "x")], None),
    "odd": ODD["RDN out of order"][0].raw(),
}
EDITS = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 3), st.binary(min_size=1, max_size=6)),
    min_size=1,
    max_size=4,
)


def _mutated(data: bytes, edits) -> bytes:
    for where, how, piece in edits:
        at = where % (len(data) + 1)
        cut = (len(piece), 0, 0, 40)[how]
        data = data[:at] + (piece if how < 3 else b"") + data[at + cut :]
    return data


@pytest.mark.parametrize("what", list(GOOD))
@settings(max_examples=60, deadline=None)
@given(edits=EDITS)
def test_mutations_give_a_result_or_an_error(what, edits):
    try:
        kind, (facts, words) = known(_mutated(GOOD[what], edits), "f")
    except TpmHsmError as error:
        assert error.message
    else:
        assert kind and words is not None and isinstance(facts, dict)


@pytest.mark.long
@pytest.mark.parametrize("what", list(GOOD))
@settings(max_examples=5000, deadline=None)
@given(edits=EDITS)
def test_many_mutations(what, edits):
    try:
        known(_mutated(GOOD[what], edits), "f")
    except TpmHsmError as error:
        assert error.message
