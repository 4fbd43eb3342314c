"""Keys: pinned by evidence, and only of the shape that people guard."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from tests.approval.doubles import (
    Chip,
    World,
    builder,
    ecc_public,
    root_tbs,
    rsa_public,
    tbs_of,
)
from tests.approval.looking import founded, look, refused

from tpmhsm.approval.request import KeyPart
from tpmhsm.attest.statements import QUORUM_KEY_ATTRIBUTES
from tpmhsm.errors import ApprovalRefusedError, ParseError
from tpmhsm.policy.tree import key_policy
from tpmhsm.wire.constants import ALG, CC, CURVE, ObjectAttributes
from tpmhsm.wire.names import cp_hash, name_of_public
from tpmhsm.wire.public import EccParms, Public
from tpmhsm.wire.structures import (
    AsymScheme,
    EccPoint,
    EccSignature,
    RsaSignature,
    SchemeHash,
    Signature,
)

# ── keys ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_signature_is_bound_to_the_key_and_the_very_bytes(world: World) -> None:
    memory = founded(world)
    content = root_tbs(world.key)
    (act,) = look(world.certificate(content), memory).acts
    name = name_of_public(world.key_public(key_policy(world.group)))
    parameters = b"\0\x20" + sha256(content).digest() + bytes.fromhex("0018000b8024400000070000")
    assert act.cp_hash == cp_hash(CC.Sign, (name,), parameters)
    assert act.preimage == bytes(4) + act.cp_hash + act.policy_ref


def test_a_key_is_pinned_once_and_then_known(world: World) -> None:
    memory = founded(world)
    first = look(world.certificate(), memory)
    assert "NEW" in first.key_words
    memory.keep(first.entries)
    part = replace(world.key_part(), attest=b"", signature=b"")
    again = look(world.certificate(key=part), memory)
    assert "PINNED" in again.key_words and again.entries.key is None
    other = look(world.certificate(key=replace(part, label="test")), memory)
    assert "KEY" in [f.head for f in other.flags]
    assert other.entries.key is None


def test_another_key_under_a_known_label_is_flagged(world: World) -> None:
    memory = founded(world)
    memory.keep(look(world.certificate(), memory).entries)
    world.key = ec.generate_private_key(ec.SECP256R1())
    assert "OTHER KEY" in [f.head for f in look(world.certificate(), memory).flags]


@pytest.mark.parametrize("missing", [b"", b"\0" * 20])
def test_a_new_key_needs_its_birth_certified(world: World, missing: bytes) -> None:
    memory = founded(world)
    part = replace(world.key_part(), attest=missing)
    with pytest.raises((ApprovalRefusedError, ParseError)):
        look(world.certificate(key=part), memory)


def test_evidence_by_another_chip_or_of_another_key_is_refused(world: World) -> None:
    memory = founded(world)
    part = world.key_part()
    foreign = Chip().creation(part.public)
    refused(
        world.certificate(key=replace(part, attest=foreign[0], signature=foreign[1])),
        memory,
        "key-evidence",
    )
    other = ecc_public(
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        QUORUM_KEY_ATTRIBUTES,
        key_policy(world.group),
    )
    refused(world.certificate(key=replace(part, public=other)), memory, "key-evidence")


@pytest.mark.parametrize("fault", ["rsa", "null", "sha384", "flipped", "junk"])
def test_attestations_with_other_signatures_are_refused(world: World, fault: str) -> None:
    from tpmhsm.wire.codec import decode, encode

    part = world.key_part()
    good = decode(Signature, part.signature).signature
    assert isinstance(good, EccSignature)
    signature = {
        "rsa": lambda: encode(Signature(ALG.RSASSA, RsaSignature(ALG.SHA256, good.r + good.s))),
        "null": lambda: encode(Signature(ALG.NULL, None)),
        "sha384": lambda: encode(Signature(ALG.ECDSA, good.replace(hash_alg=ALG.SHA384))),
        "flipped": lambda: part.signature[:-1] + bytes([part.signature[-1] ^ 1]),
        "junk": lambda: b"junk",
    }[fault]()
    with pytest.raises((ApprovalRefusedError, ParseError)):
        look(world.certificate(key=replace(part, signature=signature)), founded(world))


A = ObjectAttributes


@pytest.mark.parametrize(
    "attributes",
    [
        QUORUM_KEY_ATTRIBUTES | A.USER_WITH_AUTH,
        QUORUM_KEY_ATTRIBUTES | A.DECRYPT,
        QUORUM_KEY_ATTRIBUTES | A.RESTRICTED,
        QUORUM_KEY_ATTRIBUTES & ~A.FIXED_TPM,
        QUORUM_KEY_ATTRIBUTES & ~A.FIXED_PARENT,
        QUORUM_KEY_ATTRIBUTES & ~A.SENSITIVE_DATA_ORIGIN,
        QUORUM_KEY_ATTRIBUTES & ~A.ADMIN_WITH_POLICY,
        QUORUM_KEY_ATTRIBUTES & ~A.NO_DA,
    ],
)
def test_keys_with_other_attributes_are_refused(world: World, attributes: int) -> None:
    public = ecc_public(world.key.public_key(), attributes, key_policy(world.group))
    part = KeyPart("root", public, "quorum(officers)", *world.chip.creation(public))
    refused(world.certificate(key=part), founded(world), "key-evidence")


def test_keys_with_other_policies_are_refused(world: World) -> None:
    for policy in (b"", bytes(32), key_policy(World().group)):
        part = world.key_part(policy=policy)
        refused(world.certificate(key=part), founded(world), "key-evidence")


def test_keys_without_a_fixed_scheme_are_refused(world: World) -> None:
    from tpmhsm.wire.codec import decode, encode

    area = decode(Public, world.key_public(key_policy(world.group)))
    assert isinstance(area.parameters, EccParms)
    free = area.replace(parameters=area.parameters.replace(scheme=AsymScheme(ALG.NULL)))
    public = encode(free)
    part = KeyPart("root", public, "quorum(officers)", *world.chip.creation(public))
    with pytest.raises(ParseError, match="scheme"):
        look(world.certificate(key=part), founded(world))


@pytest.mark.parametrize("fault", ["sha1", "off the curve", "curve", "name"])
def test_keys_of_other_shapes_are_refused(world: World, fault: str) -> None:
    from tpmhsm.wire.codec import decode, encode

    area = decode(Public, world.key_public(key_policy(world.group)))
    parameters = area.parameters
    assert isinstance(parameters, EccParms)
    changed = {
        "sha1": lambda: area.replace(
            parameters=parameters.replace(scheme=AsymScheme(ALG.ECDSA, SchemeHash(ALG.SHA1)))
        ),
        "off the curve": lambda: area.replace(unique=EccPoint(bytes(32), bytes(32))),
        "curve": lambda: area.replace(parameters=parameters.replace(curve=CURVE.BN_P256)),
        "name": lambda: area.replace(name_alg=ALG.SHA384),
    }[fault]()
    public = encode(changed)
    part = KeyPart("root", public, "quorum(officers)", *world.chip.creation(public))
    with pytest.raises((ParseError, ApprovalRefusedError)):
        look(world.certificate(key=part), founded(world))


def test_rsa_and_p384_keys_sign_with_their_own_scheme_and_hash(world: World) -> None:
    memory = founded(world)
    policy = key_policy(world.group)
    p384 = ec.generate_private_key(ec.SECP384R1())
    public = ecc_public(p384.public_key(), QUORUM_KEY_ATTRIBUTES, policy)
    part = KeyPart("big", public, "quorum(officers)", *world.chip.creation(public))
    made = builder(p384.public_key(), "Root", "Root")
    content = tbs_of(made, p384, hashes.SHA384())
    (act,) = look(world.certificate(content, key=part), memory).acts
    assert act.bound.parameters[:2] == b"\0\x30"
    refused(world.certificate(root_tbs(world.key), key=part), memory, "content-refused")
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    public = rsa_public(key.public_key(), QUORUM_KEY_ATTRIBUTES, policy)
    part = KeyPart("rsa", public, "quorum(officers)", *world.chip.creation(public))
    made = builder(key.public_key(), "Root", "Root")  # type: ignore[arg-type]
    content = tbs_of(made, key)  # type: ignore[arg-type]
    (act,) = look(world.certificate(content, key=part), memory).acts
    assert act.bound.parameters.endswith(bytes.fromhex("0014000b8024400000070000"))
