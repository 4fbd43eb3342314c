"""The CA's key in the hands of root: every command but the approved TPM2_Sign.

Certify, Quote and the like sign structures that begin with TPM_GENERATED; CertifyX509 signs a real
certificate. With any of them the key would sign what no officer saw. Each command here is well
formed: beside each stands what an open key, whose password is empty, makes of the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from tests.approval.doubles import USAGE, builder, tbs_of
from tests.attacks.house import House
from tests.attacks.root import Root, refused

from tpmhsm.policy.steps import CommandCode
from tpmhsm.tpm import objects
from tpmhsm.tpm.sessions import Password, start_hmac, start_policy
from tpmhsm.wire.codec import decode
from tpmhsm.wire.commands import (
    ActivateCredential,
    Certify,
    CertifyCreation,
    CertifyX509,
    Commit,
    Duplicate,
    ECDH_ZGen,
    GetCommandAuditDigest,
    GetTime,
    NV_Certify,
    ObjectChangeAuth,
    PolicySecret,
    Quote,
    RSA_Decrypt,
)
from tpmhsm.wire.constants import ALG, CC, RH
from tpmhsm.wire.structures import (
    NULL_SCHEME,
    NULL_SYM,
    EccPoint,
    RsaDecrypt,
    Ticket,
    pcr_selection,
)

NONCE = b"whatever root likes"


def partial_certificate() -> bytes:
    """What TPM2_CertifyX509 wants (Part 3 §18.8): issuer, validity, subject, extensions."""
    from tpmhsm.pki import der

    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(**{**USAGE, "digital_signature": True, "content_commitment": True})
    tbs = tbs_of(builder(key.public_key(), "root", "root").add_extension(usage, True), key)
    parts = der.children(der.read_whole(tbs).content)
    body = b"".join(parts[i].raw for i in (3, 4, 5, 7))
    return b"\x30\x82" + len(body).to_bytes(2, "big") + body


class Commands:
    """Each command with the key at `handle` as its signer, or whatever its first key is."""

    def __init__(self, root: Root, handle: int) -> None:
        self.handle = handle
        self.row = root.loot.key
        self.ak = objects.attestation_key(root.chip).handle
        self.parent = objects.storage_parent(root.chip).handle
        self.index = root.group.counter_index
        self.session = start_policy(root.chip).handle

    def quote(self) -> Any:
        return Quote(self.handle, NONCE, NULL_SCHEME, (pcr_selection(ALG.SHA256, (0,)),))

    def certify_creation(self) -> Any:
        ticket = decode(Ticket, self.row.creation_ticket)
        made = self.row.creation_hash
        return CertifyCreation(self.handle, self.handle, NONCE, made, NULL_SCHEME, ticket)

    def nv_certify(self) -> Any:
        return NV_Certify(self.handle, self.index, self.index, NONCE, NULL_SCHEME, 8, 0)

    def certify(self) -> Any:
        return Certify(self.ak, self.handle, NONCE, NULL_SCHEME)

    def certify_x509(self) -> Any:
        return CertifyX509(self.ak, self.handle, b"", NULL_SCHEME, partial_certificate())

    def get_time(self) -> Any:
        return GetTime(RH.ENDORSEMENT, self.handle, NONCE, NULL_SCHEME)

    def audit_digest(self) -> Any:
        return GetCommandAuditDigest(RH.ENDORSEMENT, self.handle, NONCE, NULL_SCHEME)

    def commit(self) -> Any:
        return Commit(self.handle, EccPoint(bytes(32), bytes(32)), b"", b"")

    def ecdh_zgen(self) -> Any:
        return ECDH_ZGen(self.handle, EccPoint(bytes(32), bytes(32)))

    def rsa_decrypt(self) -> Any:
        return RSA_Decrypt(self.handle, bytes(256), RsaDecrypt(ALG.NULL), b"")

    def object_change_auth(self) -> Any:
        return ObjectChangeAuth(self.handle, self.parent, b"known to root")

    def duplicate(self) -> Any:
        return Duplicate(self.handle, RH.NULL, b"", NULL_SYM)

    def certified(self) -> Any:
        return Certify(self.handle, self.ak, NONCE, NULL_SCHEME)

    def activate_credential(self) -> Any:
        return ActivateCredential(self.handle, self.parent, b"", b"")

    def policy_secret(self) -> Any:
        return PolicySecret(self.handle, self.session, b"", b"", b"", 0)


@dataclass(frozen=True)
class Case:
    """A command, where among its authorizations the key stands (from 1), and what an open key does
    (0: it obeys). `admin`: the command wants the ADMIN or DUP role.
    """

    kind: type
    make: Callable[[Commands], Any]
    place: int = 1
    open: int = 0
    admin: bool = False

    @property
    def name(self) -> str:
        return self.kind.__name__

    @property
    def code(self) -> CC:
        return CC[self.name]


C = Commands
CASES = [
    Case(Quote, C.quote),
    Case(CertifyCreation, C.certify_creation),
    Case(NV_Certify, C.nv_certify),
    Case(Certify, C.certify, 2),
    Case(CertifyX509, C.certify_x509, 2),
    Case(GetTime, C.get_time, 2),
    Case(GetCommandAuditDigest, C.audit_digest, 2),
    Case(Commit, C.commit, open=0x192),  # an ECDSA key
    Case(ECDH_ZGen, C.ecdh_zgen, open=0x182),  # it does not decrypt
    Case(RSA_Decrypt, C.rsa_decrypt, open=0x19C),  # nor is it RSA
    Case(ObjectChangeAuth, C.object_change_auth, open=0x124, admin=True),
    Case(Duplicate, C.duplicate, open=0x124, admin=True),
    Case(Certify, C.certified, open=0x124, admin=True),
    Case(ActivateCredential, C.activate_credential, open=0x124, admin=True),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.make.__name__)
both_keys = pytest.mark.parametrize("label", ["root", "rsa"])


def attempt(root: Root, case: Case, start: Callable[[Root], Any]) -> None:
    """Load the key, take an authorization, give the command. Cleans up."""
    key = root.load()
    try:
        command = case.make(Commands(root, key.handle))
        auths = [Password()] * (case.place - 1)
        root.chip.send(command, *auths, start(root))
    finally:
        root.chip.flush_all()


@every_case
@both_keys
def test_another_command_with_satisfied_approvals(still: House, label: str, case: Case) -> None:
    """TPM_RC_POLICY_CC, with the number of the session: the approvals are for TPM2_Sign alone."""
    with still.root(label) as root:
        with refused({1: 0x9A4, 2: 0xAA4}[case.place], case.name):
            attempt(root, case, Root.session)
        root.honest()


@every_case
@both_keys
def test_another_command_by_another_command_code(still: House, label: str, case: Case) -> None:
    """The roster's branch fixes TPM2_Sign already: PolicyCommandCode takes no second code."""
    with still.root(label) as root:
        without = root.loot.plan.steps[:-1]
        with refused(0x1C4, "PolicyCommandCode"):
            attempt(root, case, lambda r: r.session((*without, CommandCode(case.code))))
        with refused({1: 0x99D, 2: 0xA9D}[case.place], case.name):
            attempt(root, case, lambda r: r.session(without))
        root.honest()


@every_case
@both_keys
def test_another_command_without_approvals(still: House, label: str, case: Case) -> None:
    """A policy session that has nothing, or the command's own code alone."""
    with still.root(label) as root:
        for steps in ((), (CommandCode(case.code),)):
            with refused({1: 0x99D, 2: 0xA9D}[case.place], case.name):
                attempt(root, case, lambda r, s=steps: r.session(s))
        root.honest()


@every_case
@both_keys
def test_another_command_with_the_empty_password(still: House, label: str, case: Case) -> None:
    """userWithAuth is clear (0x12f), and adminWithPolicy is set (0x124)."""
    with still.root(label) as root:
        for start in (lambda r: Password(), lambda r: start_hmac(r.chip)):
            with refused(0x124 if case.admin else 0x12F, case.name):
                attempt(root, case, start)
        root.honest()


@both_keys
def test_the_keys_secret_does_not_stand_for_a_policy(still: House, label: str) -> None:
    """PolicySecret would let the key's empty password satisfy policies that name the key."""
    case = Case(PolicySecret, C.policy_secret)
    with still.root(label) as root:
        with refused(0x12F, case.name):
            attempt(root, case, lambda r: Password())
        with refused(0x989, case.name):  # a policy without PolicyAuthValue proves no secret
            attempt(root, case, Root.session)
        root.honest()


@every_case
def test_the_commands_are_well_formed(still: House, case: Case) -> None:
    """An open key obeys them: whoever makes an open key a CA's key gives all this away."""
    row = still.open_key
    with still.root() as root:
        key = root.load(row)
        commands = Commands(root, key.handle)
        commands.row = row
        if case.open:
            with refused(case.open, case.name):
                root.chip.send(case.make(commands))
        else:
            root.chip.send(case.make(commands))
        root.chip.flush_all()
