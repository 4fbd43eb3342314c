"""What a certificate says beyond the rows of the screen is said, and shown in hex."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AttributeOID, AuthorityInformationAccessOID
from tests.approval.doubles import CA_USAGE, World, builder, name_of, tbs_of
from tests.approval.looking import founded, look

from tpmhsm.approval.display import render
from tpmhsm.pki import der
from tpmhsm.pki.oddities import unshown_extensions
from tpmhsm.pki.tbs import read_tbs_certificate

LEAF = ec.generate_private_key(ec.SECP256R1()).public_key()
URL = x509.UniformResourceIdentifier("http://ca.example/x")
OID = x509.ObjectIdentifier("1.2.3.4")
CPS = x509.PolicyInformation(OID, ["http://cps.example/"])
NOTICE = x509.PolicyInformation(OID, [x509.UserNotice(None, "you owe Mallory")])
REASONS = frozenset([x509.ReasonFlags.key_compromise])
BAD_POINTS = (
    x509.DistributionPoint([URL], None, REASONS, None),
    x509.DistributionPoint([URL], None, None, [x509.DirectoryName(name_of("Mallory"))]),
    x509.DistributionPoint(None, name_of("x").rdns[0], None, None),
)
ODD_METHOD = x509.AccessDescription(x509.ObjectIdentifier("1.3.6.1.5.5.7.48.3"), URL)
METHOD = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, URL)

HIDING = {
    "cRLDistributionPoints": [x509.CRLDistributionPoints([point]) for point in BAD_POINTS],
    "authorityInfoAccess": [x509.AuthorityInformationAccess([METHOD, ODD_METHOD])],
    "certificatePolicies": [x509.CertificatePolicies([p]) for p in (CPS, NOTICE)],
    "authorityKeyIdentifier": [
        x509.AuthorityKeyIdentifier(bytes(20), [x509.DirectoryName(name_of("Mallory"))], 5)
    ],
    "subjectKeyIdentifier": [x509.SubjectKeyIdentifier(b"you owe Mallory a million, and more..")],
}
CASES = [(name, value) for name, values in HIDING.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_what_an_extension_hides_is_said(
    world: World, name: str, value: x509.ExtensionType
) -> None:
    made = builder(LEAF, "www", "Example Root").add_extension(value, critical=False)
    found = flags_of(world, tbs_of(made, world.key))
    assert any(head == "NOT SHOWN ABOVE" and text.startswith(name) for head, text in found)
    checked = look(world.certificate(tbs_of(made, world.key)), founded(world))
    shown = "".join(render(checked).split()).replace("─", "")
    (raw,) = read_tbs_certificate(tbs_of(made, world.key)).extensions
    assert raw.raw[:16].hex() in shown and raw.raw[-8:].hex()[-6:] in shown


def flags_of(world: World, tbs: bytes) -> list[tuple[str, str]]:
    checked = look(world.certificate(tbs), founded(world))
    return [(flag.head, flag.text) for flag in checked.content.flags]


def test_usual_extensions_hide_nothing(world: World) -> None:
    made = builder(LEAF, "Sub", "Example Root", 1000)
    for value, critical in (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (CA_USAGE, True),
        (x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, OID]), False),
        (x509.SubjectAlternativeName([x509.DNSName("a.example"), x509.RegisteredID(OID)]), False),
        (x509.NameConstraints([x509.DNSName("example")], [x509.DNSName("b.example")]), True),
        (x509.CertificatePolicies([x509.PolicyInformation(OID, None)]), False),
        (x509.AuthorityInformationAccess([METHOD]), False),
        (x509.CRLDistributionPoints([x509.DistributionPoint([URL], None, None, None)]), False),
        (x509.SubjectKeyIdentifier.from_public_key(LEAF), False),
        (x509.AuthorityKeyIdentifier(bytes(20), None, None), False),
        (x509.UnrecognizedExtension(OID, bytes(32)), False),
    ):
        made = made.add_extension(value, critical=critical)
    heads = {head for head, _ in flags_of(world, tbs_of(made, world.key))}
    assert not heads & {"NOT SHOWN ABOVE", "ODD"}


def test_a_long_unknown_extension_is_shown_to_its_end(world: World) -> None:
    value = x509.UnrecognizedExtension(OID, bytes(32) + b"\xab\xcd\xef")
    made = builder(LEAF, "www", "Example Root").add_extension(value, critical=False)
    checked = look(world.certificate(tbs_of(made, world.key)), founded(world))
    assert "abcdef" in render(checked)


def test_constraints_that_are_not_critical_are_said(world: World) -> None:
    made = builder(LEAF, "Sub", "Example Root").add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=False
    )
    limits = x509.NameConstraints([x509.DNSName("example")], None)
    made = made.add_extension(limits, critical=False)
    odd = [text for head, text in flags_of(world, tbs_of(made, world.key)) if head == "ODD"]
    assert [text.split(" is not critical")[0] for text in odd] == [
        "basicConstraints",
        "nameConstraints",
    ]


def changed(world: World, number: int, raw: bytes, *more: bytes) -> bytes:
    tbs = tbs_of(builder(LEAF, "www", "Example Root"), world.key)
    parts = [part.raw for part in der.children(der.read_whole(tbs).content)]
    parts[number] = raw or parts[number]
    return der.encode(der.SEQUENCE, *parts, *more)


def test_odd_fields_are_said(world: World) -> None:
    ecdsa = der.encode_oid("1.2.840.10045.4.3.2")
    for tbs, head, word in (
        (changed(world, 0, b"", b"\x81\x03\x00ab"), "NOT SHOWN ABOVE", "issuerUniqueID"),
        (changed(world, 0, b"", b"\x82\x03\x00ab"), "NOT SHOWN ABOVE", "subjectUniqueID"),
        (
            changed(world, 2, der.encode(0x30, ecdsa, der.encode(0x0C, b"hidden"))),
            "NOT SHOWN ABOVE",
            "parameters of the signature algorithm",
        ),
        (changed(world, 1, der.encode(2, b"\1" * 21)), "ODD", "21 octets"),
        (changed(world, 1, der.encode(2, b"\0\0" + b"\1" * 10)), "ODD", "not strict DER"),
        (changed(world, 1, der.encode(2, b"\xf0" + b"\1" * 10)), "SERIAL", "not allowed"),
    ):
        assert any(h == head and word in text for h, text in flags_of(world, tbs)), word


def test_a_csrs_attributes_are_shown(world: World) -> None:
    made = x509.CertificateSigningRequestBuilder().subject_name(name_of("www"))
    made = made.add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"you owe Mallory")
    info = made.sign(world.key, hashes.SHA256()).tbs_certrequest_bytes
    checked = look(world.request("csr", info), founded(world))
    shown = render(checked)
    assert "! NOT SHOWN ABOVE  attribute 1.2.840.113549.1.9.7" in shown
    assert b"Mallory".hex() in shown.replace(" ", "").replace("\n", "")


def test_a_criticality_that_der_leaves_out(world: World) -> None:
    made = builder(LEAF, "www", "Example Root").add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=False
    )
    (item,) = read_tbs_certificate(tbs_of(made, world.key)).extensions
    assert not unshown_extensions([item])
    parts = [part.raw for part in der.children(der.read_whole(item.raw).content)]
    stated = der.encode(0x30, parts[0], b"\1\1\0", parts[1])
    assert unshown_extensions([item._replace(raw=stated)])
