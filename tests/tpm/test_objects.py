"""Keys of the chip, checked from outside with `cryptography`."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tpmhsm.attest.public_keys import public_key_of
from tpmhsm.errors import ChipRefusedError, NotFoundError, ParseError, UsageError, VerificationError
from tpmhsm.tpm import objects, software
from tpmhsm.tpm.sessions import start_policy, start_trial
from tpmhsm.wire.attest import Attest, CreationInfo
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.commands import Create, EvictControl, GetRandom, PolicyCommandCode, PolicyGetDigest
from tpmhsm.wire.constants import ALG, CC, CURVE, RH
from tpmhsm.wire.constants import ObjectAttributes as Attribute
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import EccPoint, Signature

MESSAGE = b"what is to be signed"
HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384()}


def verify(key, signature: bytes, hash_name: str) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, MESSAGE, padding.PKCS1v15(), HASHES[hash_name])
    else:
        key.verify(signature, MESSAGE, ec.ECDSA(HASHES[hash_name]))


def make(chip, algorithm="p256", policy=None, hash_name="sha256"):
    parent = objects.storage_parent(chip)
    created = objects.create_key(chip, parent, algorithm, policy, hash_name)
    return created, objects.load_key(chip, parent, created.public, created.private)


@pytest.mark.parametrize(
    ("algorithm", "hash_name"),
    [("p256", "sha256"), ("p256", "sha384"), ("p384", "sha384"), ("rsa2048", "sha256")],
)
def test_a_key_signs(chip, algorithm, hash_name):
    created, key = make(chip, algorithm, None, hash_name)
    assert key.name == created.name == name_of_public(created.public)
    assert objects.hash_of(key.public) == hash_name
    digest = hashlib.new(hash_name, MESSAGE).digest()
    signature = objects.sign_digest(chip, key, digest)
    public = public_key_of(created.public)
    verify(public, signature, hash_name)
    with pytest.raises(InvalidSignature):
        verify(public, objects.sign_digest(chip, key, bytes(len(digest))), hash_name)


@pytest.mark.long
@pytest.mark.parametrize("algorithm", ["rsa3072"])
def test_a_large_key_signs(chip, algorithm):
    created, key = make(chip, algorithm)
    signature = objects.sign_digest(chip, key, hashlib.sha256(MESSAGE).digest())
    verify(public_key_of(created.public), signature, "sha256")


def test_what_the_chip_lacks_is_said_in_words(chip):
    """libtpms makes RSA keys of up to 3,072 bits."""
    with pytest.raises(ChipRefusedError, match="this chip makes no rsa4096 keys") as e:
        make(chip, "rsa4096")
    assert e.value.code == "chip-unsupported"
    assert "device probe" in e.value.hint


def test_attributes_of_an_open_and_of_a_guarded_key(chip):
    born = Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.SENSITIVE_DATA_ORIGIN
    guarded = born | Attribute.ADMIN_WITH_POLICY | Attribute.SIGN | Attribute.NO_DA
    policy = bytes(range(32))
    _, key = make(chip, "p256", policy)
    assert key.public.attributes == guarded
    assert key.public.auth_policy == policy
    _, key = make(chip)
    assert key.public.attributes == guarded | Attribute.USER_WITH_AUTH
    assert key.public.auth_policy == b""


def test_a_guarded_key_signs_under_its_policy_only(chip):
    trial = start_trial(chip)
    chip.send(PolicyCommandCode(trial.handle, CC.Sign))
    policy = chip.send(PolicyGetDigest(trial.handle)).policy_digest
    chip.flush(trial.handle)
    created, key = make(chip, "p256", policy)
    digest = hashlib.sha256(MESSAGE).digest()
    with pytest.raises(ChipRefusedError) as e:
        objects.sign_digest(chip, key, digest)
    assert e.value.rc == 0x12F  # no password for a key without userWithAuth
    session = start_policy(chip)
    with pytest.raises(ChipRefusedError) as e:
        objects.sign_digest(chip, key, digest, session)
    assert e.value.rc == 0x99D
    chip.send(PolicyCommandCode(session.handle, CC.Sign))
    signature = objects.sign_digest(chip, key, digest, session)
    verify(public_key_of(created.public), signature, "sha256")


@pytest.mark.parametrize(
    ("algorithm", "policy", "hash_name"),
    [("p521", None, "sha256"), ("p256", None, "sha1"), ("p256", b"short", "sha256")],
)
def test_impossible_wishes(algorithm, policy, hash_name):
    with pytest.raises(UsageError):
        objects.signing_template(algorithm, policy, hash_name)


def test_primaries_are_kept_and_found_again_by_name(device, software_home):
    with device.transaction() as chip:
        parent, ak = objects.storage_parent(chip), objects.attestation_key(chip)
        before = chip.commands
        assert objects.storage_parent(chip, parent.name) == parent
        assert chip.commands - before == 1
        assert objects.attestation_key(chip) == ak
        assert parent.handle >> 24 == ak.handle >> 24 == 0x81
        assert parent.name != ak.name
    software.stop(software.directory_of(software_home))
    with device.transaction() as chip:
        assert objects.storage_parent(chip, parent.name) == parent
        assert objects.attestation_key(chip) == ak


def test_primaries_are_the_same_after_removal_and_elsewhere(chip):
    """Whoever removes ours only makes us make it again."""
    parent = objects.storage_parent(chip)
    chip.send(EvictControl(RH.OWNER, parent.handle, parent.handle))
    with pytest.raises(NotFoundError, match="no persistent key"):
        objects.storage_parent(chip, parent.name)
    ak = objects.attestation_key(chip)  # takes no handle of the parent's
    again = objects.storage_parent(chip)
    assert again.name == parent.name
    assert again.handle != ak.handle


def test_a_taken_handle_is_passed_over(chip):
    """Somebody else's key stands where ours would go."""
    parent = objects.storage_parent(chip)
    created, key = make(chip)
    del created
    chip.send(EvictControl(RH.OWNER, parent.handle, parent.handle))
    chip.send(EvictControl(RH.OWNER, key.handle, parent.handle))
    again = objects.storage_parent(chip)
    assert again.name == parent.name
    assert again.handle == parent.handle + 1


def test_attestation_key_is_restricted(chip):
    ak = objects.attestation_key(chip)
    attributes = Attribute(ak.public.attributes)
    wanted = Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.SENSITIVE_DATA_ORIGIN
    wanted |= Attribute.RESTRICTED | Attribute.SIGN | Attribute.USER_WITH_AUTH | Attribute.NO_DA
    assert attributes == wanted
    with pytest.raises(ChipRefusedError):  # it does not sign digests that it has no ticket for
        objects.sign_digest(chip, ak, hashlib.sha256(MESSAGE).digest())


def check_creation(attestation, ak, created, nonce):
    signature = objects.plain_signature(decode(Signature, attestation.signature))
    public = public_key_of(ak.public)
    public.verify(signature, attestation.attest, ec.ECDSA(hashes.SHA256()))
    attest = decode(Attest, attestation.attest)
    assert isinstance(attest.attested, CreationInfo)
    assert attest.extra_data == nonce
    assert attest.attested.object_name == created.name
    assert attest.attested.creation_hash == hashlib.sha256(created.creation_data).digest()


def test_creation_is_certified_after_a_restart(device, software_home):
    with device.transaction() as chip:
        ak = objects.attestation_key(chip)
        created, key = make(chip, "p256", bytes(range(32)))
        check_creation(
            objects.certify_creation(chip, ak, key, created, b"first"), ak, created, b"first"
        )
    software.stop(software.directory_of(software_home))
    with device.transaction() as chip:
        parent, ak = objects.storage_parent(chip), objects.attestation_key(chip)
        key = objects.load_key(chip, parent, created.public, created.private)
        check_creation(
            objects.certify_creation(chip, ak, key, created, b"second"), ak, created, b"second"
        )


def test_creation_of_another_key_is_not_certified(chip):
    parent, ak = objects.storage_parent(chip), objects.attestation_key(chip)
    created, key = make(chip)
    chip.flush(key.handle)
    _, other = make(chip)
    with pytest.raises(ChipRefusedError):
        objects.certify_creation(chip, ak, other, created, b"nonce")
    del parent


def test_halves_that_do_not_belong_together(chip):
    parent = objects.storage_parent(chip)
    one = objects.create_key(chip, parent, "p256", None)
    two = objects.create_key(chip, parent, "p256", None)
    with pytest.raises(ChipRefusedError) as e:
        objects.load_key(chip, parent, one.public, two.private)
    assert e.value.rc == 0x1DF
    with pytest.raises(ParseError):
        objects.load_key(chip, parent, one.public[:-1], one.private)


def test_a_public_area_with_a_weakened_policy_does_not_load(chip):
    parent = objects.storage_parent(chip)
    created = objects.create_key(chip, parent, "p256", bytes(32))
    area = decode(Public, created.public)
    weak = area.replace(attributes=area.attributes | Attribute.USER_WITH_AUTH)
    with pytest.raises(ChipRefusedError):
        objects.load_key(chip, parent, encode(weak), created.private)


def test_a_chip_that_makes_another_key_than_asked_is_caught(chip, monkeypatch):
    parent = objects.storage_parent(chip)
    send = chip.send

    def without_policy(command, *auths):
        if isinstance(command, Create):
            command = command.replace(in_public=objects.signing_template("p256", None))
        return send(command, *auths)

    monkeypatch.setattr(chip, "send", without_policy)
    with pytest.raises(VerificationError, match="another kind of key"):
        objects.create_key(chip, parent, "p256", bytes(32))


def test_short_coordinates_are_the_same_key():
    """A chip may leave out leading zeros of x or y; about one key in 128 has some."""
    for secret in range(1, 2000):
        key = ec.derive_private_key(secret, ec.SECP256R1()).public_key()
        numbers = key.public_numbers()
        if numbers.x >> 248 == 0:
            break
    x = numbers.x.to_bytes(32, "big")
    assert x[0] == 0
    for form in (x, x.lstrip(b"\0")):
        area = objects.signing_template("p256", None).replace(
            unique=EccPoint(form, numbers.y.to_bytes(32, "big"))
        )
        assert public_key_of(area) == key


def test_public_areas_without_a_key():
    template = objects.signing_template("p256", None)
    with pytest.raises(ParseError, match="without a valid key"):
        public_key_of(template.replace(unique=EccPoint(b"\1", b"\1")))
    with pytest.raises(ParseError, match="unknown curve"):
        public_key_of(template.replace(parameters=template.parameters.replace(curve=CURVE.BN_P256)))
    with pytest.raises(ParseError):
        public_key_of(b"garbage")
    with pytest.raises(ParseError, match="unknown kind"):
        objects.plain_signature(Signature(ALG.NULL, None))


def test_chip_fixture_reaches_a_chip(chip):
    assert len(chip.send(GetRandom(16)).random_bytes) == 16
