"""Open keys: what they do not protect, and what they still do.

Anyone with the machine signs with an open key, and an open key signs more than certificates. That
is what `open` says; here it is seen, so that nobody takes it for more.
"""

from __future__ import annotations

from hashlib import sha256

import pytest
from tests.attacks.house import House
from tests.attacks.root import check, refused
from tests.attacks.test_commands import Commands

from tpmhsm.errors import RefusedError
from tpmhsm.policy.model import Open
from tpmhsm.tpm import objects
from tpmhsm.wire.commands import Duplicate, ObjectChangeAuth
from tpmhsm.wire.constants import RH
from tpmhsm.wire.structures import NULL_SYM

ANY = sha256(b"whatever root likes").digest()


def test_an_open_key_signs_for_anyone(still: House) -> None:
    """With an empty password, over any digest, as a file, and as a statement of the chip's."""
    row = still.open_key
    with still.root() as root:
        key = root.load(row)
        signature = objects.sign_digest(root.chip, key, ANY)
        check(row, ANY, signature)
        commands = Commands(root, key.handle)
        for make in (commands.quote, commands.certify_x509, commands.get_time, commands.nv_certify):
            root.chip.send(make())
        root.chip.flush_all()
    assert still.app.desk.sign_file("open", b"any file\n", name="x")


def test_an_open_key_does_not_leave_the_chip(still: House) -> None:
    """No copy (0x124), no other password that would shut others out (0x124)."""
    with still.root() as root:
        key, parent = root.load(still.open_key), objects.storage_parent(root.chip)
        with refused(0x124, "Duplicate"):
            root.chip.send(Duplicate(key.handle, RH.NULL, b"", NULL_SYM))
        with refused(0x124, "ObjectChangeAuth"):
            root.chip.send(ObjectChangeAuth(key.handle, parent.handle, b"known to root"))
        check(still.open_key, ANY, objects.sign_digest(root.chip, key, ANY))
        root.chip.flush_all()


def test_the_product_says_what_open_means(still: House) -> None:
    """`policy explain open` in words; nothing that would be a certificate is signed as a file."""
    words = still.app.groups.explain_policy(Open())
    assert "anyone" in words.lower() or "anybody" in words.lower()
    tbs = still.loot.request.content
    with pytest.raises(RefusedError) as caught:
        still.app.desk.sign_file("open", tbs, name="x")
    assert caught.value.code == "to-be-signed"
    assert still.app.desk.sign_file("open", b"any file\n", name="x")
