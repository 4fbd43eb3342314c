"""Keys that were imported: root brings one of its own, passes it as born in the chip, or copies it.

"mine" is root's key in software, brought in by `key import` for the officers; "free" another that
demands nothing. That copies outside obey nobody is what the mark is for, which root cannot remove:
it is in the key's Name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from tests.attacks.conftest import checked
from tests.attacks.house import House
from tests.attacks.root import Root, declined, refused

from tpmhsm.approval.request import KeyPart, parse_request
from tpmhsm.approval.review import Review, review
from tpmhsm.keys.births import Wanted, was_imported
from tpmhsm.policy import moments
from tpmhsm.policy.steps import CommandCode
from tpmhsm.store.keys import KeyRow
from tpmhsm.tpm import imports, objects
from tpmhsm.tpm.sessions import start_policy
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.commands import (
    CertifyCreation,
    Duplicate,
    Load,
    ObjectChangeAuth,
    PolicyCommandCode,
)
from tpmhsm.wire.constants import CC, RH
from tpmhsm.wire.constants import ObjectAttributes as A
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import NULL_SCHEME, NULL_SYM, Ticket

MINE = ec.generate_private_key(ec.SECP256R1())
FREE = ec.generate_private_key(ec.SECP256R1())
BORN = A.FIXED_TPM | A.FIXED_PARENT | A.SENSITIVE_DATA_ORIGIN
CONTENT = b"a statement by the company"


@pytest.fixture
def attic(built: House, tmp_path: Path) -> Iterator[House]:
    """A house with imported keys."""
    with checked(built.copy(tmp_path / "home")) as house:
        bring = house.app.keyring.importing.bring
        bring(Wanted("mine", "p256", "quorum(officers)"), MINE)
        bring(Wanted("free", "p256"), FREE)
        yield house


def row_of(house: House, label: str = "mine") -> KeyRow:
    return house.app.keyring.get(label)


def look(house: House, data: bytes, *, imported: bool = False) -> Review:
    """Bob's machine looks at a request."""
    bob = house.machines["bob"]
    now = moments.now()
    return review(parse_request(data), bob.memory, bob.identity, "bob", now, imported=imported)


def asked(house: House, public: bytes, attest: bytes = b"", signature: bytes = b"") -> bytes:
    """A file to be signed by the key with this public area and evidence."""
    draft = house.draft("data", CONTENT, "mine")
    part = KeyPart("mine", public, "quorum(officers)", attest, signature)
    return replace(draft, key=part).data


def test_an_imported_key_that_nobody_is_told_of(attic: House) -> None:
    """The tool refuses it unless its owner says --imported; then it says so on every screen."""
    data = attic.draft("data", CONTENT, "mine").data
    with declined("imported-key"):
        look(attic, data)
    found = look(attic, data, imported=True)
    assert "IMPORTED" in [flag.head for flag in found.flags]
    assert found.key_words == 'signing key "mine": NEW, IMPORTED'
    attic.machines["bob"].memory.keep(found.entries)  # pinned, and said again
    assert "IMPORTED" in [flag.head for flag in look(attic, data).flags]


def test_an_imported_key_passed_as_born_in_the_chip(attic: House) -> None:
    """With the attributes of birth the Name is another: the chip does not load it (0x1df), gives
    no certificate of creation (0x4e0), and no evidence fits for the tool.
    """
    row, true = row_of(attic), attic.loot.request.key
    assert true is not None
    area = decode(Public, row.public)
    public = encode(area.replace(attributes=area.attributes | BORN))
    with attic.root() as root:
        parent, ak = objects.storage_parent(root.chip), objects.attestation_key(root.chip)
        with refused(0x1DF, "Load"):
            root.chip.send(Load(parent.handle, row.private, decode(Public, public)))
        key, born = root.load(row), attic.loot.key
        ticket = decode(Ticket, born.creation_ticket)
        with refused(0x4E0, "CertifyCreation"):
            root.chip.send(
                CertifyCreation(ak.handle, key.handle, b"", born.creation_hash, NULL_SCHEME, ticket)
            )
        root.chip.flush_all()
    for imported in (False, True):
        with declined("key-evidence"):
            look(attic, asked(attic, public, true.attest, true.signature), imported=imported)


def test_an_import_that_claims_to_be_born(attic: House) -> None:
    """fixedTPM and fixedParent are refused by the chip (0x2c2). sensitiveDataOrigin it lets pass,
    as of a copy of a key that another chip made: the tool takes no such key, told or not.
    """
    row = row_of(attic)
    area = decode(Public, row.public)
    foreign = imports.Foreign.of(ec.generate_private_key(ec.SECP256R1()))
    with attic.root() as root:
        parent = objects.storage_parent(root.chip)
        for odd in (A.FIXED_TPM | A.FIXED_PARENT, A.FIXED_PARENT, BORN):
            wrong = area.replace(attributes=area.attributes | odd, unique=foreign.unique)
            with refused(0x2C2, "Import"):
                imports.import_key(root.chip, parent, wrong, foreign.secret, algorithm="p256")
        half = area.replace(
            attributes=area.attributes | A.SENSITIVE_DATA_ORIGIN, unique=foreign.unique
        )
        made = imports.import_key(root.chip, parent, half, foreign.secret, algorithm="p256")
    true = attic.loot.request.key
    assert true is not None
    for imported in (False, True):
        with declined("key-evidence"):
            data = asked(attic, made.public, true.attest, true.signature)
            look(attic, data, imported=imported)


def test_the_mark_taken_away_in_the_database(attic: House) -> None:
    """There is nothing to take away: the mark is read from the public area, and the Name is its
    hash. Another public area in its place does not load.
    """
    born = attic.loot.key
    attic.rewrite(
        "update keys set creation_data = ?, creation_hash = ?, creation_ticket = ?, "
        "creation_attest = ?, creation_signature = ? where label = 'mine'",
        born.creation_data, born.creation_hash, born.creation_ticket, born.creation_attest,
        born.creation_signature,
    )  # fmt: skip
    assert was_imported(row_of(attic))
    area = decode(Public, row_of(attic).public)
    attic.rewrite(
        "update keys set public = ? where label = 'free'",
        encode(area.replace(attributes=area.attributes | BORN)),
    )
    assert not was_imported(row_of(attic, "free"))
    with refused(0x1DF, "Load"):
        attic.app.keyring.sign_digest(row_of(attic, "free"), bytes(32))


@pytest.mark.parametrize("label", ["mine", "free"])
def test_an_imported_key_does_not_leave_again(attic: House, label: str) -> None:
    """Its attributes would allow a copy; TPM2_Duplicate wants a policy with its own command code,
    which no key of the program has. Nor is its password changed.
    """
    with attic.root() as root:
        key = root.load(row_of(attic, label))
        command = Duplicate(key.handle, RH.NULL, b"", NULL_SYM)
        with refused(0x124, "Duplicate"):
            root.chip.send(command)
        session = start_policy(root.chip)
        root.chip.send(PolicyCommandCode(session.handle, CC.Duplicate))
        with refused(0x99D, "Duplicate"):
            root.chip.send(command, session)
        root.chip.flush_all()
        key = root.load(row_of(attic, label))
        parent = objects.storage_parent(root.chip).handle
        with refused(0x124, "ObjectChangeAuth"):
            root.chip.send(ObjectChangeAuth(key.handle, parent, b"known to root"))
        root.chip.flush_all()


def test_an_imported_key_with_approvals_does_not_leave(attic: House) -> None:
    """Officers' approvals are for TPM2_Sign alone, also of a key whose attributes are laxer."""
    approvals = []
    number = propose(attic)
    for name in ("alice", "bob"):
        machine = attic.machines[name]
        data = attic.app.desk.export(number)
        found = review(
            parse_request(data), machine.memory, machine.identity, name, moments.now(),
            imported=True,
        )  # fmt: skip
        from tpmhsm.approval.approve import make_approval

        approvals.append(make_approval(found, machine.identity))
    loot = attic.loot_of(replace(attic.app.desk.request(number), approvals=tuple(approvals)))
    attic.loots["mine"] = loot
    with attic.root("mine") as root:
        command = Duplicate(root.load().handle, RH.NULL, b"", NULL_SYM)
        with refused(0x9A4, "Duplicate"):
            root.chip.send(command, root.session())
        root.chip.flush_all()
        with refused(0x1C4, "PolicyCommandCode"):
            root.session((*root.loot.plan.steps[:-1], CommandCode(CC.Duplicate)))
        root.chip.flush_all()
        root.honest()


def propose(house: House) -> int:
    from tpmhsm.errors import WaitingError

    try:
        house.app.desk.sign_file("mine", CONTENT, name="statement")
    except WaitingError as waiting:
        return waiting.request
    raise AssertionError("nobody was asked")


def test_whoever_has_a_copy_signs_without_officers(attic: House) -> None:
    """Nobody refuses it: the same public key, and no chip. That is what IMPORTED says."""
    public: Any = load_der_public_key(row_of(attic).spki)
    public.verify(MINE.sign(CONTENT, ec.ECDSA(hashes.SHA256())), CONTENT, ec.ECDSA(hashes.SHA256()))
    with attic.root() as root:  # nor is the chip bound to the policy that the copy had
        template = objects.signing_template("p256", None)
        foreign = imports.Foreign.of(MINE)
        parent = objects.storage_parent(root.chip)
        area = imports.imported_template(template, foreign)
        made = imports.import_key(root.chip, parent, area, foreign.secret, algorithm="p256")
        key = objects.load_key(root.chip, parent, made.public, made.private)
        signature = objects.sign_digest(root.chip, key, sha256(CONTENT).digest())
        root.chip.flush_all()
    public.verify(signature, CONTENT, ec.ECDSA(hashes.SHA256()))


def test_a_duplicate_changed_on_its_way(attic: House) -> None:
    """The outer wrapper has a MAC over the sensitive area and the Name: who sits between us and the
    chip puts no other policy around the key.
    """
    area, foreign = decode(Public, row_of(attic).public), imports.Foreign.of(MINE)
    with attic.root() as root:
        parent = objects.storage_parent(root.chip)
        for wrong in (area.replace(auth_policy=b""), area.replace(auth_policy=bytes(32))):
            with refused(0x3DF, "Import"):
                swapped(root, parent, area, wrong, foreign)


def swapped(
    root: Root, parent: objects.Loaded, area: Public, shown: Public, foreign: imports.Foreign
) -> None:
    """Import a duplicate that was wrapped for `area`, beside another public area."""
    from tpmhsm.wire.codec import TPM2B
    from tpmhsm.wire.commands import Import
    from tpmhsm.wire.names import name_of_public
    from tpmhsm.wire.sealing import sealed_to
    from tpmhsm.wire.structures import Sensitive

    sensitive = TPM2B.pack(encode(Sensitive(area.type, b"", b"", foreign.secret)))
    duplicate, seed = sealed_to(parent.public, b"DUPLICATE", sensitive, name_of_public(area))
    root.chip.send(Import(parent.handle, b"", shown, duplicate, seed, NULL_SYM))
