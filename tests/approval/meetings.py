"""Minutes of a founding whose people and chip are doubles, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tests.approval.doubles import CA_USAGE, NOW, World, card, identity

from tpmhsm.approval.acts import acts_of, rule_of, sign_ahash
from tpmhsm.approval.minutes import (
    ActMinutes,
    CertificateMinutes,
    EvidenceMinutes,
    KeyMinutes,
    Minutes,
    Note,
    Step,
    VerdictMinutes,
)
from tpmhsm.approval.request import Request
from tpmhsm.approval.votes import ActSignature, Approval
from tpmhsm.attest.statements import signing_key
from tpmhsm.attest.verdicts import QUESTIONS
from tpmhsm.policy.people import members_of


def approved(request: Request, *names: str) -> Request:
    """The request with these people's approvals inside."""
    return replace(request, approvals=tuple(_approval(request, name) for name in names))


def _approval(request: Request, name: str) -> Approval:
    key = identity(name)
    mine = [act for act in acts_of(request) if act.concerns(key.public_key)]
    roster = request.asked_roster if request.roster is None else request.roster
    return Approval(
        request=request.id,
        kind=request.kind,
        digest=request.digest,
        group=request.group.id,
        epoch=roster.epoch,
        key_name=b"" if request.key is None else signing_key(request.key.public).name,
        approver=name,
        spki=next(m.spki for m in members_of(rule_of(request)) if m.name == name),
        key_kind=key.kind,
        created=NOW,
        facts={},
        signatures=tuple(
            ActSignature(act.cp_hash, act.policy_ref, sign_ahash(key, act)) for act in mine
        ),
    )


def root_certificate(key: ec.EllipticCurvePrivateKey, common_name: str, *more: str) -> bytes:
    """A root's certificate (DER); `more` are organisational units."""
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name, _validate=False)]
    parts += [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit, _validate=False)
              for unit in more]  # fmt: skip
    name = x509.Name(parts)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 0x1234567890ABCDEF)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(CA_USAGE, critical=True)
    )
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def minutes_of(
    world: World,
    *,
    subject: Sequence[str] = ("Example Root",),
    officers: Sequence[str] = ("alice", "bob"),
    steps: int = 3,
    **changes: object,
) -> Minutes:
    """Minutes in which everything holds; `changes` replace fields."""
    der = root_certificate(world.key, *subject)
    tbs = x509.load_der_x509_certificate(der).tbs_certificate_bytes
    founding = approved(replace(world.founding(), id=1), "alice", "bob")
    root = approved(world.certificate(tbs, id=2, state=None), *officers)
    names = dict.fromkeys([*world.people, *(m.name for m in world.officers.members)])
    found = Minutes(
        title="Founding of officers",
        place="Room 101",
        program="tpmhsm 0.0.1",
        began=NOW,
        ended=NOW + timedelta(minutes=90),
        device=world.chip.card,
        maker="IBM SW TPM",
        group=world.group,
        roster=world.roster,
        cards=tuple(card(name) for name in names),
        witnesses=("Wendy",),
        keys=(KeyMinutes("root", world.key_part().public, "quorum(officers)"),),
        certificates=(CertificateMinutes("root-ca", der),),
        acts=(ActMinutes(founding, NOW), ActMinutes(root, NOW + timedelta(minutes=9))),
        steps=tuple(Step(NOW, f"step {n}", "done") for n in range(steps)),
        evidence=EvidenceMinutes(
            bytes(32), "Software TPM.", "software", nonce=False,
            verdicts=tuple(VerdictMinutes(one, "not-proven", "Not known.") for one in QUESTIONS),
        ),
        notes=(Note(NOW, "note", "The projector failed."),),
    )  # fmt: skip
    return replace(found, **changes)  # type: ignore[arg-type]
