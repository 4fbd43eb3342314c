"""Chip keys are `cryptography` private keys: one suite of rules for every algorithm of the chip."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID
from tests.support.shell import Shell

from tpmhsm.errors import ChipRefusedError, RefusedError, UsageError
from tpmhsm.keys.keyring import Keyring
from tpmhsm.store import Store
from tpmhsm.tpm.device import open_device

# few chips make rsa4096, and those take a minute
KINDS = [
    ("p256", "sha256"),
    ("p256", "sha384"),
    ("p384", "sha384"),
    ("p384", "sha256"),
    ("rsa2048", "sha256"),
    ("rsa2048", "sha384"),
    ("rsa3072", "sha256"),
    pytest.param(("rsa4096", "sha256"), marks=pytest.mark.long),
]
HASHES: dict[str, hashes.HashAlgorithm] = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384()}
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chip key")])


@pytest.fixture(scope="module")
def keyring(governed_template: Shell, tmp_path_factory: pytest.TempPathFactory,
            ) -> Iterator[Keyring]:  # fmt: skip
    machine = governed_template.copy(tmp_path_factory.mktemp("keys") / "m")
    with Store.open(machine.home) as store:
        yield Keyring(store, open_device("software", machine.home))
    machine.close()


@pytest.fixture(params=KINDS, ids="-".join, scope="module")
def made(request: pytest.FixtureRequest, keyring: Keyring) -> tuple[Any, hashes.HashAlgorithm]:
    """A private-key object in the chip, and its hash."""
    alg, name = request.param
    try:
        keyring.create(f"{alg}-{name}", alg, policy="open", hash_name=name)
    except ChipRefusedError as error:
        assert error.code == "chip-unsupported"
        pytest.skip(f"{alg}: not made by this chip")
    return keyring.private_key(f"{alg}-{name}"), HASHES[name]


def arguments(key: Any, digest: Any) -> tuple[Any, ...]:
    """What `sign` and `verify` take after data (and signature)."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return (ec.ECDSA(digest),)
    return (padding.PKCS1v15(), digest)


def test_it_is_one(made: Any) -> None:
    key, _ = made
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    public = key.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    assert key.key_size == public.key_size
    if isinstance(key, ec.EllipticCurvePrivateKey):
        assert key.curve.name == public.curve.name
    assert copy.copy(key) is key
    assert copy.deepcopy(key) is key


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(100_000)], ids=["empty", "one", "large"])
def test_what_it_signs_the_public_key_verifies(made: Any, data: bytes) -> None:
    key, digest = made
    signature = key.sign(data, *arguments(key, digest))
    key.public_key().verify(signature, data, *arguments(key, digest))
    from cryptography.exceptions import InvalidSignature

    with pytest.raises(InvalidSignature):
        key.public_key().verify(signature, data + b"!", *arguments(key, digest))


def test_bytes_of_other_types(made: Any) -> None:
    key, digest = made
    for data in (bytearray(b"data"), memoryview(b"data")):
        key.public_key().verify(
            key.sign(data, *arguments(key, digest)), b"data", *arguments(key, digest)
        )


def test_prehashed(made: Any) -> None:
    key, digest = made
    given = hashlib.new(digest.name, b"data").digest()
    signature = key.sign(given, *arguments(key, Prehashed(digest)))
    key.public_key().verify(signature, b"data", *arguments(key, digest))
    with pytest.raises(UsageError, match="bytes"):
        key.sign(given[:-1], *arguments(key, Prehashed(digest)))


def test_builders_of_certificates_requests_and_crls(made: Any) -> None:
    key, digest = made
    now = datetime.now(UTC)
    request = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(key, digest)
    assert request.is_signature_valid
    certificate = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, digest)
    )
    certificate.verify_directly_issued_by(certificate)
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(NAME)
        .last_update(now)
        .next_update(now + timedelta(days=1))
        .sign(key, digest)
    )
    assert crl.is_signature_valid(key.public_key())


def test_another_hash_is_refused_in_words(made: Any) -> None:
    key, digest = made
    other = hashes.SHA384() if digest.name == "sha256" else hashes.SHA256()
    for wrong in (other, hashes.SHA512(), hashes.SHA1(), Prehashed(other)):
        with pytest.raises(UsageError, match=f"signs with {digest.name}"):
            key.sign(b"data", *arguments(key, wrong))


def test_another_scheme_is_refused_in_words(made: Any) -> None:
    key, digest = made
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
        with pytest.raises(UsageError, match="PKCS1-v1_5"):
            key.sign(b"data", pss, digest)
        with pytest.raises(UsageError, match="hash"):
            key.sign(b"data", padding.PKCS1v15(), None)
        return
    with pytest.raises(UsageError, match="ECDSA"):
        key.sign(b"data", object())
    deterministic = ec.ECDSA(digest, deterministic_signing=True)
    with pytest.raises(UsageError, match="deterministic"):
        key.sign(b"data", deterministic)


def test_the_private_half_stays(made: Any) -> None:
    key, _ = made
    with pytest.raises(RefusedError, match="never leaves"):
        key.private_numbers()
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        with pytest.raises(RefusedError, match="never leaves"):
            key.private_bytes(
                encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )


def test_it_does_nothing_but_sign(made: Any) -> None:
    key, _ = made
    if isinstance(key, rsa.RSAPrivateKey):
        box = key.public_key().encrypt(b"secret", padding.PKCS1v15())
        with pytest.raises(RefusedError, match="does not decrypt"):
            key.decrypt(box, padding.PKCS1v15())
        return
    other = ec.generate_private_key(key.curve)
    with pytest.raises(RefusedError, match="does not agree"):
        key.exchange(ec.ECDH(), other.public_key())


def test_libraries_that_want_the_private_half_fail(made: Any) -> None:
    key, _ = made
    with pytest.raises((RefusedError, TypeError, ValueError)):
        pkcs12.serialize_key_and_certificates(b"x", key, None, None, serialization.NoEncryption())


def test_a_key_with_a_quorum_is_no_such_object(keyring: Keyring) -> None:
    with pytest.raises(RefusedError, match="approvals of 'officers'") as caught:
        keyring.private_key("root")
    assert caught.value.code == "needs-people"
