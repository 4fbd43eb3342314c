"""AK certificates: made by whoever saw an activation, and what they prove to others."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tpmhsm.attest import format as form
from tpmhsm.attest.aik_certificates import judge_attestation_key
from tpmhsm.attest.aik_issuing import Issuer, certify_attestation_key
from tpmhsm.attest.bonds import bond_of_certificate, bond_of_response, ek_urn
from tpmhsm.attest.credential import (
    answer_of,
    make_challenge,
    parse_challenge,
    parse_kept,
    parse_response,
)
from tpmhsm.attest.device_findings import Bond
from tpmhsm.attest.ek_reading import EkHints
from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.tpm.ek_templates import TEMPLATES
from tpmhsm.tpm.objects import ATTESTATION_KEY_TEMPLATE
from tpmhsm.wire.codec import encode
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.structures import EccPoint

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
YEAR = timedelta(days=365)
HINTS = EkHints("IFX", "Infineon", "SLB9672", "000F0010")


@cache
def point(name: str) -> EccPoint:
    made = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    return EccPoint(made.x.to_bytes(32, "big"), made.y.to_bytes(32, "big"))


def ak(name: str = "ak") -> bytes:
    return encode(ATTESTATION_KEY_TEMPLATE.replace(unique=point(name)))


def ek(name: str = "ek") -> bytes:
    return encode(TEMPLATES[0x01C0000A].replace(unique=point(name)))


def bond(of: str = "ak", beside: str = "ek") -> Bond:
    return Bond(ek(beside), name_of_public(ak(of)), "as in a test")


@cache
def issuer(kind: str = "ec", *, ca: bool = True, days: int = 1000, named: bool = True) -> Issuer:
    key: Any = (
        ec.generate_private_key(ec.SECP384R1())
        if kind == "ec"
        else rsa.generate_private_key(65537, 2048)
    )
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "AK CA")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - YEAR)
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    if named:
        usage = x509.KeyUsage(*(False,) * 5, ca, *(False,) * 3)
        builder = builder.add_extension(usage, critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    return Issuer(key, builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))


def certified(who: Issuer, of: str = "ak", beside: str = "ek") -> bytes:
    return certify_attestation_key(ak(of), bond(of, beside), HINTS, who, (NOW, YEAR))


def evidence(certificates: tuple[bytes, ...], eks: tuple[str, ...] = ("other", "ek")) -> Any:
    return form.Evidence(
        made=NOW,
        nonce=bytes(8),
        device=form.DeviceClaims("hardware", "", "", "", ""),
        eks=tuple(form.EndorsementPart(ek(name)) for name in eks),
        aks=(form.AttestationPart(ak(), certificates),),
    )


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("named", [True, False])
def test_a_certificate_binds(kind: str, named: bool) -> None:
    who = issuer(kind, named=named)
    made = certified(who)
    found = bond_of_certificate(evidence((made,)), [who.certificate], NOW)
    assert found is not None
    assert (found.ek, found.ak) == (ek(), name_of_public(ak()))


def test_the_profile_is_that_of_webauthn() -> None:
    who = issuer()
    made = certified(who)
    judged = judge_attestation_key((made,), [who.certificate], NOW, webauthn=True)
    assert judged.names is not None
    assert (judged.names.letters, judged.names.model) == ("IFX", "SLB9672")
    read = x509.load_der_x509_certificate(made)
    assert read.subject == x509.Name([])
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [ek_urn(ek())]
    assert "id:49465800" in names.value.get_values_for_type(x509.DirectoryName)[0].rfc4514_string()


def test_without_a_certificate_there_is_no_bond() -> None:
    assert bond_of_certificate(evidence(()), [issuer().certificate], NOW) is None


@pytest.mark.parametrize(
    ("made", "roots", "eks", "at", "code"),
    [
        (("ak2", "ek"), "ec", ("ek",), NOW, "aik-other-key"),
        (("ak", "ek2"), "ec", ("ek",), NOW, "aik-other-chip"),
        (("ak", "ek"), "ec", (), NOW, "aik-other-chip"),
        (("ak", "ek"), "rsa", ("ek",), NOW, "untrusted-root"),
        (("ak", "ek"), "ec", ("ek",), NOW + 2 * YEAR, "aik-path"),
    ],
)
def test_certificates_that_bind_nothing(
    made: tuple[str, str], roots: str, eks: tuple[str, ...], at: datetime, code: str
) -> None:
    found = evidence((certified(issuer("ec"), *made),), eks)
    with pytest.raises(VerificationError) as error:
        bond_of_certificate(found, [issuer(roots).certificate], at)
    assert error.value.code == code


def test_who_may_not_certify() -> None:
    for who, code in (
        (issuer(ca=False), "no-ca"),
        (replace(issuer(), key=issuer("rsa").key), "other-key"),
        (issuer(days=-1), "issuer-expired"),
        (replace(issuer(), certificate=b"0"), "no-ca"),
    ):
        with pytest.raises(UsageError) as error:
            certified(who)
        assert error.value.code == code
    with pytest.raises(VerificationError):
        certify_attestation_key(ak("ak2"), bond(), HINTS, issuer(), (NOW, YEAR))


def test_no_certificate_outlives_its_issuer() -> None:
    made = x509.load_der_x509_certificate(certified(issuer(days=30)))
    assert made.not_valid_after_utc == NOW + timedelta(days=30)


def test_files_of_an_activation_are_read_again() -> None:
    kept = make_challenge(ek(), ak(), NOW)
    assert parse_challenge(kept.challenge.encoded) == kept.challenge
    assert parse_kept(kept.encoded) == kept
    response = answer_of(kept.challenge, kept.secret)
    assert parse_response(response.encoded) == response
    found = bond_of_response(kept, response, NOW)
    assert (found.ek, found.ak) == (ek(), name_of_public(ak()))
    assert repr(kept.secret) not in repr(kept)


@pytest.mark.parametrize("part", ["format", "made", "ek", "ak", "credential", "secret"])
def test_damaged_challenges(part: str) -> None:
    import json

    value = json.loads(make_challenge(ek(), ak(), NOW).challenge.encoded)
    for wrong in (1, "!", ""):
        if (part, wrong) in {("credential", ""), ("secret", "")}:
            continue
        with pytest.raises(ParseError):
            parse_challenge(json.dumps({**value, part: wrong}).encode())
    del value[part]
    with pytest.raises(ParseError):
        parse_challenge(json.dumps(value).encode())


def test_keys_that_no_challenge_is_made_for() -> None:
    for first, second in ((ak(), ak()), (ek(), ek()), (b"", ak()), (ek(), b"")):
        with pytest.raises(ParseError):
            make_challenge(first, second, NOW)
    off = TEMPLATES[0x01C0000A].replace(unique=EccPoint(bytes(31) + b"\1", bytes(31) + b"\1"))
    with pytest.raises(VerificationError):
        make_challenge(encode(off), ak(), NOW)
