"""Keys that are not what the host says: twins from outside the chip, other policies, other AKs.

An approver's tool believes a key only when the group's own attestation key certified its creation
(CertifyCreation), and its attributes and policy are exactly those of a key that this group guards.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from tests.approval.doubles import Chip as ForgingChip
from tests.approval.doubles import ecc_public, root_tbs
from tests.attacks.auditor import TWIN
from tests.attacks.house import House
from tests.attacks.root import Root, declined, refused

from tpmhsm.approval.cards import create_device_card
from tpmhsm.approval.request import KeyPart, Request
from tpmhsm.attest.statements import QUORUM_KEY_ATTRIBUTES, ChipState
from tpmhsm.errors import ParseError, TpmHsmError
from tpmhsm.keys.host import load_host
from tpmhsm.policy.tree import key_policy
from tpmhsm.tpm import objects
from tpmhsm.tpm.objects import Loaded
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.commands import (
    Certify,
    CertifyCreation,
    Create,
    CreatePrimary,
    Hash,
    HashSequenceStart,
    Import,
    Load,
    LoadExternal,
    SequenceComplete,
    SequenceUpdate,
    Sign,
)
from tpmhsm.wire.constants import ALG, RH, ObjectAttributes
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import EccParms, Public
from tpmhsm.wire.structures import (
    NULL_HASHCHECK,
    NULL_SCHEME,
    NULL_SYM,
    AsymScheme,
    EccPoint,
    Sensitive,
    SensitiveCreate,
    Ticket,
)

A = ObjectAttributes
FAKE_ATTEST = b"\xffTCG" + b"\x80\x1a whatever root likes"


def twin_public(house: House, attributes: int = QUORUM_KEY_ATTRIBUTES) -> bytes:
    """The public area of a guarded key of the group, around root's own point."""
    return ecc_public(TWIN.public_key(), attributes, key_policy(house.loot.group))


def asking(house: House, public: bytes, attest: bytes, signature: bytes) -> Request:
    """The root certificate again, to be signed by a key with this evidence."""
    part = KeyPart("root", public, "quorum(officers)", attest, signature)
    request = replace(house.loot.request, key=part, content=root_tbs(TWIN), state=None)
    return replace(request, approvals=())


def certified(house: House, request: Request) -> Request:
    """The same, with what the chip certifies of the group over its content."""
    held = house.app.groups.certify(request.group, request.digest)
    return replace(request, state=ChipState(*held.counter, *held.roster))


def look(house: House, request: Request) -> None:
    """Bob's machine, which has pinned the group and none of its keys, looks at a request."""
    bob = house.machines["bob"].copy()
    bob.memory.keys.clear()
    bob.look(request.data)


def honest(house: House) -> None:
    look(house, replace(house.loot.request, approvals=()))


def genuine(house: House) -> KeyPart:
    """The evidence of the group's true key."""
    part = house.loot.request.key
    assert part is not None
    return part


# ── a twin from outside ──────────────────────────────────────────────────────────────────────────


def sensitive() -> Sensitive:
    return Sensitive(ALG.ECC, b"", b"", TWIN.private_numbers().private_value.to_bytes(32, "big"))


def imported(root: Root, public: Public) -> Any:
    """TPM2_Import of root's key."""
    body = encode(sensitive())
    duplicate = len(body).to_bytes(2, "big") + body
    parent = objects.storage_parent(root.chip).handle
    return root.chip.send(Import(parent, b"", public, duplicate, b"", NULL_SYM))


def test_a_twin_is_not_imported(still: House) -> None:
    """The chip makes no key from outside one that is fixed to it (0x2c2), nor puts another public
    area around its own private part (0x1df).
    """
    wanted = decode(Public, twin_public(still))
    with still.root() as root:
        parent = objects.storage_parent(root.chip).handle
        with refused(0x2C2, "Import"):
            imported(root, wanted)
        with refused(0x2C2, "LoadExternal"):
            root.chip.send(LoadExternal(sensitive(), wanted, RH.NULL))
        with refused(0x2C2, "Create"):  # with root's secret in it
            template = wanted.replace(unique=EccPoint(b"", b""))
            root.chip.send(Create(parent, SensitiveCreate(b"", bytes(32)), template, b"", ()))
        private, true = root.loot.key.private, decode(Public, root.loot.key.public)
        for other in (
            wanted,
            true.replace(attributes=true.attributes | A.USER_WITH_AUTH),
            true.replace(auth_policy=b""),
        ):
            with refused(0x1DF, "Load"):
                root.chip.send(Load(parent, private, other))
        root.chip.send(Load(parent, private, true))
        root.chip.flush_all()
        root.honest()


FOREIGN = QUORUM_KEY_ATTRIBUTES & ~A.FIXED_TPM & ~A.FIXED_PARENT


def test_an_imported_twin_has_no_birth_certificate(still: House) -> None:
    """What can be imported says so in its attributes. It has no creation ticket of its own, and
    another key's does not fit (0x4e0).
    """
    public = decode(Public, twin_public(still, FOREIGN))
    row = still.loot.key
    with still.root() as root:
        ak, parent = objects.attestation_key(root.chip), objects.storage_parent(root.chip)
        private = imported(root, public).out_private
        handle = root.chip.send(Load(parent.handle, private, public)).object_handle
        ticket = decode(Ticket, row.creation_ticket)
        with refused(0x4E0, "CertifyCreation"):
            root.chip.send(
                CertifyCreation(ak.handle, handle, b"", row.creation_hash, NULL_SCHEME, ticket)
            )
        with refused(0x124, "Certify"):
            root.chip.send(Certify(handle, ak.handle, b"", NULL_SCHEME))
        root.chip.flush_all()
    part = genuine(still)
    with declined("key-evidence"):
        look(still, asking(still, encode(public), part.attest, part.signature))
    honest(still)


def test_a_software_twin_with_equal_attributes(still: House) -> None:
    """Never in any chip. Evidence: another key's, of root's own making, TPM2_Certify's, none."""
    public, true = twin_public(still), genuine(still)
    forged = ForgingChip().creation(public)
    with still.root() as root:
        opened = root.load(still.open_key)
        ak = objects.attestation_key(root.chip)
        signed = sign_fake(root, opened, ForgingChip().creation(public)[0])
        made = root.chip.send(Certify(ak.handle, ak.handle, b"", NULL_SCHEME))
        root.chip.flush_all()
    certified = (made.certify_info, encode(made.signature))
    for attest, signature in (
        (true.attest, true.signature),
        forged,
        (forged[0], true.signature),
        signed,
        certified,
    ):
        with declined("key-evidence"):
            look(still, asking(still, public, attest, signature))
    for attest, signature in ((b"", b""), (true.attest, b"")):
        with pytest.raises(ParseError):
            look(still, asking(still, public, attest, signature))
    honest(still)


def sign_fake(root: Root, key: Loaded, body: bytes) -> tuple[bytes, bytes]:
    """An unrestricted key of the chip signs a TPMS_ATTEST that root wrote."""
    command = objects.sign_command(key, sha256(body).digest())
    return body, encode(root.chip.send(command).signature)


# ── a key of the chip that is not the group's ────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param(QUORUM_KEY_ATTRIBUTES | A.USER_WITH_AUTH, id="a password is enough"),
        pytest.param(QUORUM_KEY_ATTRIBUTES & ~A.ADMIN_WITH_POLICY, id="a password administers"),
        pytest.param(QUORUM_KEY_ATTRIBUTES | A.DECRYPT, id="decrypts too"),
        pytest.param(QUORUM_KEY_ATTRIBUTES & ~A.NO_DA, id="can be locked out"),
    ],
)
def test_a_true_key_with_other_attributes(still: House, attributes: int) -> None:
    """Born in this chip, certified by its AK, under the group's policy, and yet not guarded."""
    wanted = decode(Public, twin_public(still, attributes))
    if attributes & A.DECRYPT:  # which leaves the scheme open, and that is refused first
        assert isinstance(wanted.parameters, EccParms)
        free = wanted.parameters.replace(scheme=AsymScheme(ALG.NULL))
        wanted = wanted.replace(parameters=free)
    with pytest.raises(TpmHsmError) as caught:
        look(still, asking(still, *born(still, wanted)))
    assert caught.value.code == ("parse" if attributes & A.DECRYPT else "key-evidence")
    honest(still)


def born(house: House, template: Public) -> tuple[bytes, bytes, bytes]:
    """A key that the chip makes, and the AK's CertifyCreation of it."""
    with house.root() as root:
        parent, ak = objects.storage_parent(root.chip), objects.attestation_key(root.chip)
        template = template.replace(unique=EccPoint(b"", b""))
        made = root.chip.send(Create(parent.handle, SensitiveCreate(), template, b"", ()))
        loaded = root.chip.send(Load(parent.handle, made.out_private, made.out_public))
        told = root.chip.send(
            CertifyCreation(
                ak.handle,
                loaded.object_handle,
                b"",
                made.creation_hash,
                NULL_SCHEME,
                made.creation_ticket,
            )
        )
        root.chip.flush_all()
    return encode(made.out_public), told.certify_info, encode(told.signature)


@pytest.mark.parametrize(
    "policy", [b"", bytes(32), sha256(b"root").digest()], ids=["none", "zeros", "of root"]
)
def test_a_true_key_with_another_policy(still: House, policy: bytes) -> None:
    """Born in this chip, with the right attributes: and root satisfies its policy."""
    wanted = decode(Public, twin_public(still)).replace(auth_policy=policy)
    with declined("key-evidence"):
        look(still, asking(still, *born(still, wanted)))
    honest(still)


def test_a_true_key_of_the_group_is_taken(still: House) -> None:
    """What the attacks above lack, nothing else: a new key of the group, which the host made."""
    wanted = decode(Public, twin_public(still))
    look(still, certified(still, asking(still, *born(still, wanted))))
    honest(still)


def test_a_known_label_over_another_key(still: House) -> None:
    """Pinned is the Name, not the label: alice, who knows "root", is told."""
    wanted = decode(Public, twin_public(still))
    alice = still.machines["alice"]
    asked = certified(still, asking(still, *born(still, wanted)))
    found = alice.look(asked.data)
    assert "OTHER KEY" in {flag.head for flag in found.flags} and "NEW" in found.key_words
    found = alice.look(replace(still.loot.request, approvals=()).data)
    assert "OTHER KEY" not in {flag.head for flag in found.flags} and "PINNED" in found.key_words


# ── other attestation keys ───────────────────────────────────────────────────────────────────────


def test_an_unrestricted_attestation_key(still: House) -> None:
    """A key that signs anything signs fake attestations too: no device's card has one."""
    host = load_host(still.app.store)
    keys = (host.ek_certificates, host.ek_public)
    with pytest.raises(ParseError, match="restricted"):
        create_device_card("host", host.kind, *keys, still.open_key.public)
    card = create_device_card("host", host.kind, *keys, host.ak_public)
    request = replace(still.loot.request, approvals=())
    forged = replace(request, device=replace(card, ak_public=still.open_key.public))
    with pytest.raises(ParseError, match="restricted"):
        look(still, forged)
    look(still, replace(request, device=card))


def test_another_restricted_key_of_this_chip(still: House) -> None:
    """Root makes as many AKs as it likes; the group's id names one."""
    host = load_host(still.app.store)
    with still.root() as root:
        template = objects.ATTESTATION_KEY_TEMPLATE.replace(
            unique=EccPoint(b"\x01" * 32, bytes(32))
        )
        made = root.chip.send(
            CreatePrimary(RH.OWNER, SensitiveCreate(), template, b"", ())
        ).out_public
        root.chip.flush_all()
    card = create_device_card("host", host.kind, host.ek_certificates, host.ek_public, encode(made))
    assert card.ak_name == name_of_public(made)
    with declined("other-device"):
        look(still, replace(still.loot.request, device=card, approvals=()))
    honest(still)


def test_the_attestation_key_signs_no_fake(still: House) -> None:
    """It is restricted: without the chip's ticket for the digest it signs nothing (0x3e0), and for
    what begins like a TPMS_ATTEST the chip gives no ticket, hashed at once or in parts.
    """
    with still.root() as root:
        chip, ak = root.chip, objects.attestation_key(root.chip).handle
        fake = chip.send(Hash(FAKE_ATTEST, ALG.SHA256, RH.ENDORSEMENT))
        sequence = chip.send(HashSequenceStart(b"", ALG.SHA256)).sequence_handle
        chip.send(SequenceUpdate(sequence, FAKE_ATTEST[:3]))
        parted = chip.send(SequenceComplete(sequence, FAKE_ATTEST[3:], RH.ENDORSEMENT))
        harmless = chip.send(Hash(b"hello", ALG.SHA256, RH.ENDORSEMENT))
        digest = sha256(FAKE_ATTEST).digest()
        assert fake.out_hash == parted.result == digest
        for ticket in (fake.validation, parted.validation, NULL_HASHCHECK, harmless.validation):
            with refused(0x3E0, "Sign"):
                chip.send(Sign(ak, digest, NULL_SCHEME, ticket))
        chip.send(Sign(ak, harmless.out_hash, NULL_SCHEME, harmless.validation))


def test_what_the_attestation_key_signs_for_root(still: House) -> None:
    """It signs what does not begin like a TPMS_ATTEST: and that is no evidence then."""
    public = twin_public(still)
    body, _ = ForgingChip().creation(public)
    assert body.startswith(b"\xffTCG")
    for other in (b"\x00" + body, b"\xfeTCG" + body[4:], body[4:]):
        with still.root() as root:
            ak = objects.attestation_key(root.chip).handle
            told = root.chip.send(Hash(other, ALG.SHA256, RH.ENDORSEMENT))
            signed = root.chip.send(Sign(ak, told.out_hash, NULL_SCHEME, told.validation))
        with pytest.raises(ParseError):
            look(still, asking(still, public, other, encode(signed.signature)))
    honest(still)


def test_evidence_altered_by_a_bit(still: House) -> None:
    """Any bit of the AK's statement."""
    true = genuine(still)
    for at in range(0, len(true.attest), 7):
        flipped = true.attest[:at] + bytes([true.attest[at] ^ 1]) + true.attest[at + 1 :]
        with declined("key-evidence"):
            request = replace(still.loot.request, key=replace(true, attest=flipped), approvals=())
            look(still, request)
    honest(still)
