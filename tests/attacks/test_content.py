"""Bytes that an approver must not sign, and words of the host that the bytes belie.

Root writes requests as it likes; the approver's tool decodes the very bytes that would be signed.
"""

from __future__ import annotations

from base64 import b64encode, encodebytes, urlsafe_b64encode
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from tests.approval.doubles import NOW, builder, csr_der, csr_info, name_of, root_tbs, tbs_of
from tests.attacks.house import House
from tests.attacks.root import declined

from tpmhsm.approval.display import render
from tpmhsm.errors import RefusedError

KEY = ec.generate_private_key(ec.SECP256R1())


def crl() -> x509.CertificateRevocationList:
    made = x509.CertificateRevocationListBuilder().issuer_name(name_of("Example root"))
    made = made.last_update(NOW).next_update(NOW + timedelta(days=7))
    return made.sign(KEY, hashes.SHA256())


def certificate() -> x509.Certificate:
    return builder(KEY.public_key(), "root", "root").sign(KEY, hashes.SHA256())


def ocsp_response() -> ocsp.OCSPResponse:
    one = certificate()
    made = ocsp.OCSPResponseBuilder().add_response(
        one, one, hashes.SHA256(), ocsp.OCSPCertStatus.GOOD, NOW, None, None, None
    )
    made = made.responder_id(ocsp.OCSPResponderEncoding.NAME, one)
    return made.sign(KEY, hashes.SHA256())


def pem(der: bytes, label: str) -> bytes:
    body = encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n".encode()


def ber(der: bytes) -> bytes:
    """The length in ten octets: OpenSSL reads it as well."""
    content = der[4:]
    return b"\x30\x8a" + len(content).to_bytes(10, "big") + content


STRUCTURES = {
    "TBSCertificate": lambda: root_tbs(KEY),
    "TBSCertificate and more": lambda: root_tbs(KEY) + b"%PDF-1.7\n",
    "TBSCertList": lambda: crl().tbs_certlist_bytes,
    "OCSP ResponseData": lambda: ocsp_response().tbs_response_bytes,
    "CertificationRequestInfo": lambda: csr_info(KEY),
    "Certificate": lambda: certificate().public_bytes(Encoding.DER),
    "CertificateList": lambda: crl().public_bytes(Encoding.DER),
    "OCSPResponse": lambda: ocsp_response().public_bytes(Encoding.DER),
    "CSR": lambda: csr_der(KEY, "root", []),
    "PEM": lambda: b"a note\n" + pem(certificate().public_bytes(Encoding.DER), "CERTIFICATE"),
    "TBS in PEM": lambda: pem(root_tbs(KEY), "DATA"),
    "TBSCertificate in BER": lambda: ber(root_tbs(KEY)),
    "CertificateVerify": lambda: b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + bytes(32),
    "SSHSIG": lambda: b"SSHSIG\0\0\0\4file",
}
DIGEST = sha256(root_tbs(KEY)).digest()
DIGESTS = {
    "SHA-256": DIGEST,
    "hexadecimal": DIGEST.hex().encode() + b"\n",
    "colons": DIGEST.hex(":").encode(),
    "base64": b64encode(DIGEST) + b"\n",
    "base64url": urlsafe_b64encode(DIGEST).rstrip(b"="),
    "newline": b"\xff" + bytes(31) + b"\n",
    "prefix": b"sha256:" + DIGEST.hex().encode(),
    "SHA-384": b"\xff" + bytes(47),
    "SHA-1": b"\xff" + bytes(19),
    "DigestInfo": bytes.fromhex("3031300d060960864801650304020105000420") + DIGEST,
}


@pytest.mark.parametrize("what", STRUCTURES)
def test_a_structure_as_a_file(still: House, what: str) -> None:
    """Signed as a file it would be a certificate, a CRL, an OCSP response or a CSR."""
    data = STRUCTURES[what]()
    alice = still.machines["alice"]
    with declined("structure-as-data"):
        alice.look(still.draft("data", data, "papers").data)
    assert alice.look(still.draft("data", b"hello\n", "papers").data).acts


@pytest.mark.parametrize(
    "what",
    [
        *("TBSCertificate", "TBSCertificate in BER", "TBSCertList", "OCSP ResponseData"),
        *("CertificationRequestInfo", "CertificateVerify"),
    ],
)
def test_a_structure_as_a_file_on_the_host(still: House, what: str) -> None:
    """An honest host does not even ask, be the key open or not."""
    for label in ("papers", "open"):
        with pytest.raises(RefusedError) as caught:
            still.app.desk.sign_file(label, STRUCTURES[what](), name="x")
        assert caught.value.code == "to-be-signed"
    assert still.app.desk.sign_file("open", b"hello\n", name="x")


@pytest.mark.parametrize("what", DIGESTS)
def test_a_bare_digest(still: House, what: str) -> None:
    """The digest of a TBSCertificate shows nobody what it is of."""
    alice = still.machines["alice"]
    with declined("bare-digest"):
        alice.look(still.draft("data", DIGESTS[what], "papers").data)
    assert alice.look(still.draft("data", b"\xff" + bytes(32), "papers").data).acts


def test_what_chip_and_tool_say_is_no_file(still: House) -> None:
    """A file that would be taken for a TPMS_ATTEST, or for an approver's statement."""
    alice = still.machines["alice"]
    assert still.loot.request.state is not None
    with declined("attestation-as-data"):
        alice.look(still.draft("data", still.loot.request.state.roster_attest, "papers").data)
    for tag in (b"tpmhsm/card/1\0", b"tpmhsm/possession/1\0{}"):
        with declined("statement-as-data"):
            alice.look(still.draft("data", tag + bytes(200), "papers").data)
    assert alice.look(still.draft("data", b"tpmhsm/other/1\n", "papers").data).acts


def test_an_authoritys_key_signs_no_file(still: House) -> None:
    """Alice approved a CA certificate for this key: it signs to-be-signed structures alone."""
    alice = still.machines["alice"]
    with declined("authority-key"):
        alice.look(still.draft("data", b"hello\n", "root").data)
    with pytest.raises(RefusedError) as caught:
        still.app.desk.sign_file("root", b"hello\n", name="x")
    assert caught.value.code == "authority-key"
    assert alice.look(still.draft("certificate", still.loot.request.content, "root").data).acts


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("certificate", "CertificationRequestInfo"),
        ("certificate", "TBSCertList"),
        ("certificate", "Certificate"),
        ("certificate", "TBSCertificate and more"),
        ("csr", "TBSCertificate"),
        ("csr", "CertificationRequestInfo"),  # of another key
        ("certificate", "nothing of the kind"),
    ],
)
def test_one_thing_under_the_name_of_another(still: House, kind: str, what: str) -> None:
    data = STRUCTURES.get(what, lambda: b"hello\n")()
    with declined("content-refused"):
        still.machines["alice"].look(still.draft(kind, data).data)
    assert still.machines["alice"].look(still.loot.request.data).acts


def test_claims_that_contradict_the_bytes(still: House) -> None:
    """Not refused, since claims prove nothing either way: shown, each with what the bytes say."""
    made = builder(KEY.public_key(), "evil", "Example root", 4000).add_extension(
        x509.SubjectAlternativeName([x509.DNSName("*.example.com")]), critical=False
    )
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    claims = {
        "reason": "the web server's certificate",
        "profile": "tls-server",
        "profile_days": 90,
        "csr": csr_der(KEY, "www", [x509.DNSName("www.example.com")]),
        "issuer": certificate().public_bytes(Encoding.DER),
        "texts": {
            "subject": "CN=www,O=Example",
            "not_after": "2027-01-01T00:00:00Z",
            "digest": DIGEST.hex(),
        },
    }
    content = tbs_of(made, KEY)
    review = still.machines["alice"].look(still.draft("certificate", content, **claims).data)
    flags = [(flag.head, flag.text) for flag in (*review.flags, *review.content.flags)]
    said = {head for head, _ in flags}
    assert [head for head, _ in flags].count("CLAIM") == 3
    assert {"CA:TRUE", "NO PATHLEN", "WILDCARD", "4,000 DAYS", "CSR", "ISSUER"} <= said
    assert "+ CA:TRUE" in dict(flags)["CSR"] and "subject was CN=www" in dict(flags)["CSR"]
    shown = render(review)
    decoded, claimed = shown.split("the host claims (unchecked)")
    assert "CN=evil" in decoded and "evil" not in claimed
    assert "web server" in claimed and "web server" not in decoded
    assert review.request.digest.hex()[:8] in shown.replace(" ", "")
    honest = still.machines["alice"].look(still.loot.request.data)
    assert not {"CLAIM", "CSR", "ISSUER"} & {f.head for f in (*honest.flags, *honest.content.flags)}


def test_a_policy_claimed_for_the_key(still: House) -> None:
    """What the host says of the key's policy is compared with the policy in its public area."""
    request = still.loot.request
    assert request.key is not None
    lying = replace(request, key=replace(request.key, policy="all(quorum(officers), pin)"))
    alice = still.machines["alice"]
    assert "CLAIM" in {flag.head for flag in alice.look(lying.data).flags}
    assert "CLAIM" not in {flag.head for flag in alice.look(request.data).flags}
