"""What root on the CA host does at the chip: any command in any order, with stolen approvals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tpmhsm.cli.attacks import root as attacks
from tpmhsm.cli.attacks.root import Loot
from tpmhsm.errors import ApprovalRefusedError, ChipRefusedError, VerificationError
from tpmhsm.requests.execution import votes_by_act
from tpmhsm.store.keys import KeyRow
from tpmhsm.tpm import policies

__all__ = ["Loot", "Root", "check", "declined", "refused", "rejected", "votes_of"]

votes_of = votes_by_act


class Root(attacks.Root):
    """The one that the product plays for its users, who can also do what is allowed."""

    def honest(self, loot: Loot | None = None) -> bytes:
        """The same approvals, used for what they were given for. Gives the checked signature."""
        loot = loot or self.loot
        key = self.load(loot.key)
        try:
            signature = policies.sign_with_quorum(
                self.chip, key, loot.digest, loot.group, loot.roster, loot.votes
            )
        finally:
            self.chip.flush_all()
        check(loot.key, loot.digest, signature)
        return signature


def check(key: KeyRow, digest: bytes, signature: bytes) -> None:
    """Judge a signature with a library that is not ours."""
    public = load_der_public_key(key.spki)
    hashed = Prehashed(hashes.SHA256())
    if isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, digest, ec.ECDSA(hashed))
    else:
        public.verify(signature, digest, padding.PKCS1v15(), hashed)


@contextmanager
def refused(rc: int, command: str) -> Iterator[None]:
    """The chip refuses this command with exactly this return code."""
    with pytest.raises(ChipRefusedError) as caught:
        yield
    assert (f"0x{caught.value.rc:03x}", caught.value.command) == (f"0x{rc:03x}", command)


@contextmanager
def declined(code: str) -> Iterator[None]:
    """The approver's tool will not sign, and says so with this stable code."""
    with pytest.raises(ApprovalRefusedError) as caught:
        yield
    assert caught.value.code == code, caught.value.message


@contextmanager
def rejected(code: str) -> Iterator[None]:
    """The host does not take an approval, and says so with this stable code."""
    with pytest.raises(VerificationError) as caught:
        yield
    assert caught.value.code == code, caught.value.message
