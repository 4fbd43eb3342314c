"""A key that may be copied, born in the chip under a parent whose secrets root has.

A chip gives a child of a parent out encrypted for that parent. Of fixedTPM keys it demands that the
parent is fixed, too; of keys that may be copied it does not (TCG TPM 2.0 Library Part 1 §23, Part 2
§8.3.3.2), and TPM2_CertifyCreation says truthfully that the key was made in the chip.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.attacks.auditor import Auditor, another_ak, sealed
from tests.attacks.house import House
from tests.attacks.root import declined, refused
from tests.attest.collecting import Collector

from tpmhsm.approval.request import KeyPart
from tpmhsm.attest.birthplaces import Birthplace, check_birthplace
from tpmhsm.attest.format import KeyEvidence
from tpmhsm.errors import ApprovalRefusedError, VerificationError
from tpmhsm.store.keys import KeyRow
from tpmhsm.tpm import objects
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.objects import CreatedKey, Loaded
from tpmhsm.tpm.receiving import certify_parent
from tpmhsm.wire.cfb import cfb_decrypt, cfb_encrypt
from tpmhsm.wire.codec import TPM2B, decode, encode
from tpmhsm.wire.commands import Certify, Create, Import, LoadExternal
from tpmhsm.wire.constants import ALG, RH
from tpmhsm.wire.constants import ObjectAttributes as A
from tpmhsm.wire.kdf import kdf_a
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public
from tpmhsm.wire.sealing import sealed_to
from tpmhsm.wire.structures import (
    AES128_CFB,
    NULL_SCHEME,
    EccPoint,
    Sensitive,
    SensitiveCreate,
)

MINE = ec.generate_private_key(ec.SECP256R1())
SEED = bytes(range(32))
"""What a storage key protects its children with: root's own is known to root."""


def own_parent(chip: Chip) -> Loaded:
    """A storage key of root's making, in the chip: encryptedDuplication is its children's, too."""
    n = MINE.public_key().public_numbers()
    public = objects.STORAGE_PARENT_TEMPLATE.replace(
        attributes=A.USER_WITH_AUTH | A.NO_DA | A.RESTRICTED | A.DECRYPT | A.ENCRYPTED_DUPLICATION,
        unique=EccPoint(n.x.to_bytes(32, "big"), n.y.to_bytes(32, "big")),
    )
    name, key = name_of_public(public), bytes(16)
    scalar = MINE.private_numbers().private_value.to_bytes(32, "big")
    sensitive = TPM2B.pack(encode(Sensitive(public.type, b"", SEED, scalar)))
    integrity = TPM2B.pack(sha256(sensitive + name).digest())
    under = objects.storage_parent(chip)
    inner = cfb_encrypt(key, bytes(16), integrity + sensitive)
    duplicate, seed = sealed_to(under.public, b"DUPLICATE", inner, name)
    made = chip.send(Import(under.handle, key, public, duplicate, seed, AES128_CFB))
    return objects.load_key(chip, under, encode(public), made.out_private)


def opened(made: CreatedKey) -> int:
    """The private scalar, from what TPM2_Create gave and root's seed (Part 1 §22.4, §22.5)."""
    size = int.from_bytes(made.private[:2], "big")
    integrity, rest = made.private[2 : 2 + size], made.private[2 + size :]
    hmac_key = kdf_a(ALG.SHA256, SEED, b"INTEGRITY", b"", b"", bits=256)
    assert hmac.digest(hmac_key, rest + made.name, "sha256") == integrity
    key = kdf_a(ALG.SHA256, SEED, b"STORAGE", made.name, b"", bits=128)
    vector, hidden = rest[2:18], rest[18:]
    sensitive = cfb_decrypt(key, vector, hidden)
    return int.from_bytes(decode(Sensitive, sensitive[2:]).sensitive, "big")


@dataclass(frozen=True)
class Stolen:
    """The honest key's policy and attributes, another birth. `honest` is the true key's row, `part`
    and `shown` what root can tell people and verifiers of his own, `above` his storage key.
    """

    honest: KeyRow
    part: KeyPart
    shown: KeyEvidence
    made: CreatedKey
    above: bytes


def stolen_at_birth(house: House, label: str) -> Stolen:
    """Root has the chip make a key like this one under his own storage key, and certify that."""
    row = house.app.keyring.create(label, "p256", policy="quorum(officers)", backup_to="officers")
    template = decode(Public, row.public).replace(unique=EccPoint(b"", b""))
    with house.app.device.transaction() as chip:
        parent = own_parent(chip)
        made = objects.create_from(chip, parent, template, "p256")
        key = objects.load_key(chip, parent, made.public, made.private)
        ak = objects.attestation_key(chip)
        said = objects.certify_creation(chip, ak, key, made, bytes(32))
        born = replace(
            row,
            public=made.public,
            creation_data=made.creation_data,
            creation_hash=made.creation_hash,
            creation_ticket=made.creation_ticket,
            creation_parent=encode(parent.public),
        )
        told = Collector(chip, ak).creation(born, key)
        chip.flush_all()
    part = KeyPart(label, made.public, row.policy_document, said.attest, said.signature)
    shown = KeyEvidence(label, row.use, made.public, row.policy, row.policy_document, told)
    return Stolen(row, part, shown, made, encode(parent.public))


def birthplaces(stolen: Stolen) -> list[tuple[str, dict[str, bytes]]]:
    """What root can say of where his key was made, and what is found on it."""
    row, made = stolen.honest, stolen.made
    fixed = decode(Public, stolen.above)
    fixed = fixed.replace(attributes=fixed.attributes | A.FIXED_TPM | A.FIXED_PARENT)
    return [
        ("is not shown", {}),
        ("is not shown", {"parent": stolen.above}),
        ("not fixed to the chip", {"creation": made.creation_data, "parent": stolen.above}),
        ("another storage key", {"creation": made.creation_data, "parent": row.creation_parent}),
        ("another storage key", {"creation": made.creation_data, "parent": encode(fixed)}),
        ("not what the chip", {"creation": row.creation_data, "parent": row.creation_parent}),
    ]


def test_born_under_a_parent_of_roots(house: House) -> None:
    """The chip made it, and root reads it; approvers refuse it."""
    stolen = stolen_at_birth(house, "twice")
    scalar = opened(stolen.made)
    own = ec.derive_private_key(scalar, ec.SECP256R1()).public_key().public_numbers()
    area = decode(Public, stolen.made.public).unique
    assert isinstance(area, EccPoint) and own.x == int.from_bytes(area.x, "big")
    honest = house.draft("data", b"a file", label="twice")
    carol = house.machines["carol"]
    carol.look(honest.data)
    for words, place in birthplaces(stolen):
        part = replace(stolen.part, **place)
        with pytest.raises(ApprovalRefusedError, match=words) as refused:
            carol.look(replace(honest, key=part).data)
        assert refused.value.code == "key-evidence"
    with declined("key-evidence"):
        bare = replace(honest.key, creation=b"", parent=b"")
        house.machines["alice"].look(replace(honest, key=bare).data)


def test_born_under_a_parent_of_roots_in_a_file(auditor: Auditor) -> None:
    """The same shown to a verifier: no original."""
    house = auditor.house
    stolen = stolen_at_birth(house, "thrice")
    assert stolen.shown.creation is not None
    codes = []
    for _, place in birthplaces(stolen):
        told = replace(
            stolen.shown.creation, data=place.get("creation", b""), parent=place.get("parent", b"")
        )
        file = sealed(house, replace(auditor.honest, keys=(replace(stolen.shown, creation=told),)))
        judged = auditor.judge(file)
        assert judged.verdict("born").answer == "refuted"
        assert [key.origin for key in judged.keys] == ["unproven"]
        codes.append(judged.verdict("born").code)
    assert set(codes[:2]) <= {"no-birthplace", "other-creation-data"}
    assert codes[2:] == [
        "open-birthplace", "other-birthplace", "other-birthplace", "other-creation-data",
    ]  # fmt: skip


def test_a_birthplace_of_which_only_the_public_part_is_there(house: House) -> None:
    """The public area of a storage key that says it is fixed, over a point of root's: the chip
    loads it, makes no key under it and certifies nothing of it.
    """
    n, secret = MINE.public_key().public_numbers(), MINE.private_numbers().private_value
    point = EccPoint(n.x.to_bytes(32, "big"), n.y.to_bytes(32, "big"))
    own = Sensitive(int(ALG.ECC), b"", SEED, secret.to_bytes(32, "big"))
    public = objects.STORAGE_PARENT_TEMPLATE.replace(unique=point)
    takes = objects.RECEIVING_PARENT_TEMPLATE.replace(unique=point)
    template = objects.signing_template("p256", bytes(32), copied=True)
    with house.app.device.transaction() as chip:
        ak = objects.attestation_key(chip)
        for hierarchy in (RH.OWNER, RH.NULL):
            handle = chip.send(LoadExternal(None, public, hierarchy)).object_handle
            with refused(0x12F, "Create"):
                chip.send(Create(handle, SensitiveCreate(), template, b"", ()))
            with refused(0x12F, "Certify"):
                chip.send(Certify(handle, ak.handle, b"", NULL_SCHEME))
            chip.flush(handle)
            handle = chip.send(LoadExternal(None, takes, hierarchy)).object_handle
            with refused(0x12F, "Certify"):
                certify_parent(chip, ak, Loaded(handle, takes, name_of_public(takes)), b"")
            chip.flush(handle)
        for area in (public, takes):
            with refused(0x2C2, "LoadExternal"):
                chip.send(LoadExternal(own, area, RH.NULL))
        chip.flush_all()


def test_a_birthplace_with_a_weak_name(house: House) -> None:
    """Two public areas with one SHA-1 Name are within reach: one that is fixed, to be shown, and
    one that root has outside. The chip makes keys under a key of such a Name.
    """
    row = house.app.keyring.create("weak", "p256", policy="quorum(officers)", backup_to="officers")
    template = decode(Public, row.public).replace(unique=EccPoint(b"", b""))
    weak = objects.STORAGE_PARENT_TEMPLATE.replace(name_alg=ALG.SHA1)
    with house.app.device.transaction() as chip:
        above = another_ak(chip, weak, RH.OWNER)
        made = objects.create_from(chip, above, template, "p256")
        chip.flush_all()
    place = Birthplace(made.creation_data, encode(above.public))
    with pytest.raises(VerificationError) as refused_here:
        check_birthplace(place, made.creation_hash)
    assert refused_here.value.code == "weak-birthplace"
