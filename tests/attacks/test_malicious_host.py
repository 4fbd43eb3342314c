"""A malicious host, played against an approver with a key in a file, a YubiKey or a PKCS #11 token.

What reaches the private key itself is recorded: in the double of the card the data of GENERAL
AUTHENTICATE, at the token's module and at the file's key the bytes to be signed. Whatever the host
asks, these are approvals that were shown, or tagged statements longer than 128 bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.approval.doubles import card, identity
from tests.attacks.house import PEOPLE, House, Machine
from tests.attacks.root import Loot, Root, declined, refused, rejected
from tests.cryptoki.conftest import hsm
from tests.cryptoki.softhsm import MODULE
from tests.cryptoki.softhsm import PIN as TOKEN_PIN
from tests.tokens.apdu import tlvs
from tests.tokens.conftest import both_readers, readers
from tests.tokens.piv_card import PivCard

from tpmhsm.approval import filekey
from tpmhsm.approval.approve import make_denial
from tpmhsm.approval.cards import create_card, parse_card
from tpmhsm.approval.filekey import create_file_key
from tpmhsm.approval.identity import Identity
from tpmhsm.approval.memory import InMemory
from tpmhsm.approval.request import Request, parse_request
from tpmhsm.approval.statements import prove_possession
from tpmhsm.approval.verify import verify_approval
from tpmhsm.approval.votes import Approval
from tpmhsm.cli.people import add_approvers
from tpmhsm.errors import ApprovalRefusedError, ParseError
from tpmhsm.policy.approver import tpmt_signature
from tpmhsm.policy.people import Member
from tpmhsm.policy.refs import policy_ref
from tpmhsm.policy.steps import Signed
from tpmhsm.tpm.sessions import start_policy
from tpmhsm.wire.codec import decode
from tpmhsm.wire.commands import LoadExternal, PolicySigned
from tpmhsm.wire.constants import RH
from tpmhsm.wire.structures import Signature

__all__ = ["both_readers", "hsm", "readers"]

KINDS = ("file", "yubikey", "pkcs11")
OTHER = sha256(b"what root would like to be signed").digest()
CARD_PIN = b"271828"


class Watched:
    """A private key with a witness: what it is asked to sign."""

    def __init__(self, private: Any) -> None:
        self.private = private
        self.asked: list[bytes] = []

    def sign(self, data: bytes, *words: Any, **names: Any) -> Any:
        self.asked.append(data)
        return self.private.sign(data, *words, **names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.private, name)


ec.EllipticCurvePrivateKey.register(Watched)


@dataclass
class Person:
    """Erin: her key as the product opens it, and the SHA-256 digests that reached it."""

    identity: Identity
    reached: Callable[[], list[bytes]]
    honest: list[bytes] = field(default_factory=list)

    def check(self) -> None:
        """Only what is expected reached the key; each an aHash preimage or a tagged statement."""
        assert self.reached() == [sha256(message).digest() for message in self.honest]
        for message in self.honest:
            preimage = len(message) == 68 and message[:4] == bytes(4)
            assert preimage or (len(message) > 128 and message.startswith(b"tpmhsm/"))


def person_of(kind: str, request: pytest.FixtureRequest, place: Path) -> Person:
    if kind == "yubikey":
        card = request.getfixturevalue("readers").insert(PivCard(serial=4711).personalise())
        card.fill(0x9C)
        from tpmhsm.approval.yubikey import open_yubikey

        return Person(open_yubikey("yubikey", lambda _: CARD_PIN), lambda: asked_of(card))
    if kind == "pkcs11":
        uri = request.getfixturevalue("hsm").token("erins")
        from tpmhsm.approval.pkcs11 import make_pkcs11

        made, _ = make_pkcs11(uri, "erin", lambda _: TOKEN_PIN.encode(), module=MODULE)
        watched = Watched(made._private)
        object.__setattr__(made, "_private", watched)
        return Person(made, lambda: watched.asked)
    with mock.patch.object(filekey, "SCRYPT_P", 1):
        kept = create_file_key(place / "erin.key", b"correct horse")
    watched = Watched(kept._private)
    object.__setattr__(kept, "_private", watched)
    return Person(kept, lambda: [sha256(message).digest() for message in watched.asked])


def asked_of(card: PivCard) -> list[bytes]:
    """What the card was asked to sign, by the APDUs themselves."""
    signing = [c for c in card.log if (c.ins, c.p2) == (0x87, 0x9C)]
    return [dict(tlvs(dict(tlvs(command.data))[0x7C]))[0x81] for command in signing]


def statement(data: bytes) -> bytes:
    """What is signed of a statement, written a second time from the specification."""
    document = json.loads(data)
    document.pop("signature")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return document["format"].encode() + b"\0" + text.encode()


def preimages(approval: Approval) -> list[bytes]:
    return [bytes(4) + one.cp_hash + one.policy_ref for one in approval.signatures]


@dataclass
class Town:
    """A house whose group "tokens" are alice and erin, two of two; "till" is a key of theirs."""

    house: House
    person: Person
    number: int

    @property
    def erin(self) -> Machine:
        return self.house.machines["erin"]

    @property
    def request(self) -> Request:
        return parse_request(self.house.app.desk.export(self.number))


@pytest.fixture(params=KINDS)
def town(house: House, tmp_path: Path, request: pytest.FixtureRequest) -> Town:
    person = person_of(request.param, request, tmp_path)
    made = create_card("erin", person.identity)
    person.honest.append(statement(made))
    erin = parse_card(made)
    add_approvers(house.app, [("erin", made)])
    memory = InMemory(cards=[card(name) for name in PEOPLE], own=[erin])
    house.machines["erin"] = Machine("erin", memory, person.identity)  # type: ignore[arg-type]
    house.machines["alice"].memory.cards.append(erin)
    asked = found(house, "tokens")
    house.app.desk.take(house.approve(asked, "alice").data)
    founding = house.approve(asked, "erin")
    person.honest += preimages(founding)
    assert house.app.desk.take(founding.data).state == "executed"
    house.key("till", group="tokens")
    person.check()
    return Town(house, person, house.propose("till", "CN=Till,O=Example"))


def spoilt(town: Town) -> dict[str, Request]:
    """Requests that root spoils, by what it does."""
    honest = town.request
    key, roster, state = honest.key, honest.roster, honest.state
    assert key is not None and roster is not None and state is not None
    stranger = replace(key, public=town.house.app.keyring.get("papers").public)
    (rule,) = roster.officers
    mallory = parse_card(create_card("alice", identity("mallory"))).member(contribution=False)
    theirs = replace(rule, members=(mallory, rule.members[1]))
    group = replace(honest.group, nonce=bytes(32))
    past = {"created": honest.created - timedelta(days=60), "expires": honest.created}
    return {
        "another key's Name": replace(honest, key=stranger),
        "another group": replace(honest, group=group, roster=replace(roster, group=group.id)),
        "another epoch": with_roster(honest, epoch=roster.epoch + 1),
        "another rule": with_roster(honest, officers=(replace(rule, m=1),)),
        "a substituted card": with_roster(honest, officers=(theirs,)),
        "another group's request": town.house.draft("certificate", honest.content),
        "no word of the chip": replace(honest, state=None),
        "its word on other bytes": replace(honest, content=honest.content[:-1]),
        "the counter for the roster": replace(
            honest, state=replace(state, roster_attest=state.counter_attest)
        ),
        "the past": replace(honest, **past),  # type: ignore[arg-type]
    }


def with_roster(request: Request, **changes: Any) -> Request:
    assert request.roster is not None
    return replace(request, roster=replace(request.roster, **changes))


def test_what_the_host_spoils_never_reaches_the_key(town: Town) -> None:
    """Another key, group, epoch, rule or person; no certified state, another's; the past."""
    codes = {
        "another key's Name": "key-evidence",
        "another group": "key-evidence",
        "another epoch": "state",
        "another rule": "two-rosters",
        "a substituted card": "parse",
        "another group's request": "not-a-member",
        "no word of the chip": "epoch-not-certified",
        "its word on other bytes": "state",
        "the counter for the roster": "state",
        "the past": "expired",
    }
    erin, person, requests = town.erin, town.person, spoilt(town)
    assert requests.keys() == codes.keys()
    for what, request in requests.items():
        with pytest.raises((ApprovalRefusedError, ParseError)) as caught:
            erin.approve(request.data)
        assert caught.value.code == codes[what], (what, caught.value.message)
        person.check()
    town.house.substitute("alice", "mallory")
    with declined("card-differs"):
        erin.approve(town.house.app.desk.export(found(town.house, "more")))
    person.check()


def found(house: House, name: str) -> int:
    return house.app.desk.propose_group(name, "2:alice,erin", "2:alice,erin").request


def test_what_has_no_field_never_reaches_the_key(town: Town) -> None:
    """A cpHash, policyRef, expiration, nonce or hash of the host's; asked of the key itself: a
    blank cheque, a ticket, a policyRef alone, a digest, a TBSCertificate (not-signable).
    """
    erin, person, honest = town.erin, town.person, town.request
    document = json.loads(honest.data)
    for wish in ({"cp_hash": ""}, {"expiration": -600}, {"policy_ref": "00" * 32}, {"nonce": ""}):
        for place in ("", "key", "claims", "roster"):
            spoilt = json.loads(honest.data)
            (spoilt[place] if place else spoilt).update(wish)
            with pytest.raises(ParseError) as caught:
                erin.approve(json.dumps(spoilt).encode())
            assert caught.value.code == "parse"
    assert document == json.loads(honest.data)
    assert honest.roster is not None
    ref = policy_ref("sign", honest.group.id, honest.roster.epoch)
    ticket = (-600).to_bytes(4, "big", signed=True)
    for message in (bytes(4) + ref, ticket + OTHER + ref, ref, OTHER, honest.content, b"\0" * 52):
        with declined("not-signable"):
            person.identity.sign(message)
    person.check()


def test_statements_hold_nothing_of_the_hosts_choice(town: Town) -> None:
    """A possession challenge, a name, a reason that are an approval's preimage: hashed, or between
    a tag and quotation marks; the chip takes none of the signatures for an approval.
    """
    person, honest = town.person, town.request
    assert honest.key is not None and honest.roster is not None
    wanted = wanted_by_root(town)
    made = [
        prove_possession(person.identity, wanted, "tpmhsm"),
        prove_possession(person.identity, wanted, wanted.hex()),
        create_card("erin", person.identity),
        make_denial(honest, person.identity, "erin", wanted.decode("latin-1")).data,
    ]
    person.honest += [statement(data) for data in made]
    person.check()
    assert not any(wanted in message for message in person.honest)
    loot = stolen(town)
    with town.house.app.device.transaction() as chip:
        root = Root(chip, loot)
        for message in (statement(data) for data in made):
            vote = tpmt_signature(person.identity.public_key, person.identity.sign(message))
            person.honest.append(message)
            with refused(0x5DB, "PolicySigned"):
                root.try_sign(loot=replace(loot, votes={**loot.votes, 1: vote}))
        root.honest(loot)
    person.check()


def wanted_by_root(town: Town) -> bytes:
    """The preimage of what root would like to have approved."""
    roster = town.request.roster
    assert roster is not None
    return bytes(4) + OTHER + policy_ref("sign", roster.group, roster.epoch)


def stolen(town: Town) -> Loot:
    """Both approve what they are shown, and root has it before it is used."""
    approvals = [town.house.approve(town.number, name) for name in ("alice", "erin")]
    town.person.honest += preimages(approvals[1])
    town.person.check()
    return town.house.loot_of(replace(town.request, approvals=tuple(approvals)))


def test_the_chip_refuses_what_follows(town: Town) -> None:
    """With the true signature by erin's key: other bytes, another key, policyRef, an expiration, an
    empty cpHash, another's place, one approval alone; the same bytes again are signed.
    """
    loot = stolen(town)
    other_key = town.house.app.keyring.get("papers")
    epoch, group = loot.roster.epoch, loot.group.id
    vote, (alice, erin) = loot.votes[1], loot.roster.officers[0].members
    cp_hash, ref = loot.plan.bound.cp_hash, policy_ref("sign", group, epoch)
    with town.house.app.device.transaction() as chip:
        root = Root(chip, loot)
        with refused(0x99D, "Sign"):
            root.try_sign(digest=OTHER)
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(digest=OTHER, loot=replace(loot, digest=OTHER))
        with refused(0x99D, "Sign"):
            root.try_sign(key=other_key)
        with refused(0x1C4, "PolicyOR"):
            root.try_sign([s for s in loot.plan.steps if not of(s, erin)])
        for member, *shown in (
            (erin, cp_hash, policy_ref("budget", group, epoch), 0),
            (erin, cp_hash, policy_ref("sign", group, epoch + 1), 0),
            (erin, cp_hash, policy_ref("sign", OTHER, epoch), 0),
            (erin, cp_hash, ref, -600),
            (erin, b"", ref, 0),
            (erin, OTHER, ref, 0),
            (alice, cp_hash, ref, 0),
        ):
            with refused(0x5DB, "PolicySigned"):
                show(root, member, vote, *shown)
        show(root, erin, vote, cp_hash, ref, 0)
        root.honest(loot)
        root.honest(loot)
    town.person.check()


def of(step: Any, member: Member) -> bool:
    return isinstance(step, Signed) and step.approver == member.chip_name


def show(root: Root, member: Member, vote: bytes, cp_hash: bytes, ref: bytes, end: int) -> None:
    """PolicySigned by this member with these words."""
    chip = root.chip
    session = start_policy(chip)
    loaded = chip.send(LoadExternal(None, member.public, RH.NULL)).object_handle
    try:
        chip.send(
            PolicySigned(loaded, session.handle, b"", cp_hash, ref, end, decode(Signature, vote))
        )
    finally:
        chip.flush_all()


def test_an_approval_for_a_host_that_holds_other_bytes(town: Town) -> None:
    """Root shows one certificate and keeps another under the number: what was approved is what was
    shown, and the host that takes it in says what differs. A lie about it changes nothing.
    """
    shown = town.request
    approval = town.erin.approve(shown.data)
    town.person.honest += preimages(approval)
    other = replace(shown, content=town.house.loot.request.content)
    verify_approval(shown, approval)
    with rejected("other-bytes"):
        verify_approval(other, approval)
    with rejected("other-act"):
        verify_approval(other, replace(approval, digest=other.digest))
    again = town.erin.approve(shown.data)
    town.person.honest += preimages(again)
    assert preimages(again) == preimages(approval)
    with_both = replace(shown, approvals=(approval, again, approval))
    flags = {flag.head for flag in town.erin.look(with_both.data).flags}
    assert "ALREADY" in flags and town.erin.look(with_both.data).approved == ()
    town.person.check()
