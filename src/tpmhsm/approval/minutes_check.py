"""What in minutes can be verified by anybody, years later, without the host and without the chip.

Each act's approvals are signatures by keys on the cards, over commands recomputed from the very
bytes. So are checked: who agreed to what and whether they were enough, that the cards are those of
the group's people, that each key's policy is the one in its authPolicy and that the chip certified
its birth, that each certificate is what was approved and signed by a key of the minutes.

Not checked, since nobody's key signed it: place, times, steps, notes, names of witnesses, and what
was found of the evidence. For these the people present sign on paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpmhsm.approval.acts import acts_of, rule_of
from tpmhsm.approval.cards import Card
from tpmhsm.approval.guarded import check_guarded_key
from tpmhsm.approval.minutes import ActMinutes, CertificateMinutes, KeyMinutes, Minutes
from tpmhsm.approval.verify import verify_approval, verify_denial
from tpmhsm.attest.key_policies import check_attributes
from tpmhsm.attest.statements import signing_key
from tpmhsm.errors import UsageError, VerificationError
from tpmhsm.pki.signatures import is_signed_by, split_signed
from tpmhsm.pki.tbs import read_tbs_certificate
from tpmhsm.policy.people import describe_outstanding, members_of, needed
from tpmhsm.policy.published import read_policy

if TYPE_CHECKING:
    from tpmhsm.policy.people import Member


@dataclass(frozen=True)
class CheckedAct:
    """An act whose approvals hold: by whom, in the order of the rule, and how many it takes."""

    act: ActMinutes
    approvers: tuple[str, ...]
    needed: int


@dataclass(frozen=True)
class CheckedMinutes:
    """Minutes in which everything holds that can be verified. `approved` has for each certificate
    the place of its act in `acts`, -1 for one that no approval was asked for.
    """

    minutes: Minutes
    acts: tuple[CheckedAct, ...]
    approved: tuple[int, ...]

    @property
    def born(self) -> frozenset[bytes]:
        """Public areas of keys of which an act has the chip's word that it made them."""
        parts = (one.act.request.key for one in self.acts)
        return frozenset(part.public for part in parts if part)

    @property
    def approvers(self) -> tuple[str, ...]:
        """Everybody who approved something, once, in the order of the group's people."""
        gave = {name for act in self.acts for name in act.approvers}
        return tuple(one for one in people_of(self.minutes) if one in gave)


def check_minutes(minutes: Minutes) -> CheckedMinutes:
    """Verify all that can be verified in minutes.

    VerificationError naming what does not hold: `wrong-person`, `too-few`, `other-group`,
    `not-the-key`, `not-approved`, `not-signed`, `act-missing`, or a code of `verify_approval`.
    """
    try:
        _check_cards(minutes)
        for key in minutes.keys:
            _check_key(minutes, key)
        acts = tuple(_check_act(minutes, act) for act in minutes.acts)
        _check_founded(minutes)
        checked = CheckedMinutes(minutes, acts, _check_certificates(minutes))
        _check_no_more_keys(checked)
        return checked
    except UsageError as e:
        raise VerificationError(f"minutes: {e.message}", code="minutes-unreadable") from None


def people_of(minutes: Minutes) -> dict[str, Member]:
    """All people of the group by name: custodians in their order, then the other officers."""
    everybody = (*members_of(minutes.group.custodians), *members_of(minutes.roster.officers))
    found: dict[str, Member] = {}
    for member in everybody:
        found.setdefault(member.name, member)
    return found


def spki_of(certificate: bytes) -> bytes:
    """The key that a certificate (DER) is of, as DER. ParseError for what is none."""
    return read_tbs_certificate(split_signed(certificate)[0]).spki


def _refuse(message: str, code: str) -> VerificationError:
    return VerificationError(f"minutes: {message}", code=code)


def _check_cards(minutes: Minutes) -> None:
    """A card is of one of the group's people, with that person's key and contribution."""
    people = people_of(minutes)
    seen: set[str] = set()
    for card in minutes.cards:
        member = people.get(card.name)
        if member is None:
            raise _refuse(f"{card.name}, whose card is here, is not of the group", "wrong-person")
        if not _same_person(card, member):
            raise _refuse(f"the card of {card.name} is another person's", "wrong-person")
        if card.name in seen:
            raise _refuse(f"{card.name} has two cards", "wrong-person")
        seen.add(card.name)
    if missing := [name for name in people if name not in seen]:
        raise _refuse(f"the card of {', '.join(missing)[:200]} is missing", "wrong-person")


def _same_person(card: Card, member: Member) -> bool:
    given = not member.contribution or card.contribution == member.contribution
    return given and card.member(contribution=False).identity == member.identity


def _check_key(minutes: Minutes, key: KeyMinutes) -> None:
    """Its policy is the one that the chip demands."""
    try:
        if key.policy.strip() != "open":
            check_guarded_key(key.chip_key, minutes.group, key.policy)
        else:
            check_attributes(key.chip_key, read_policy("open"))
    except VerificationError as e:
        raise _refuse(f'key "{key.label}": {e.message}', "not-the-key") from None


def _check_act(minutes: Minutes, act: ActMinutes) -> CheckedAct:
    request = act.request
    what = f"request {request.id} ({request.kind})"
    founding = request.kind == "group"
    roster = request.asked_roster if founding else request.roster
    if (request.group, roster) != (minutes.group, minutes.roster):
        raise _refuse(f"{what} is of another group or roster", "other-group")
    if request.key is not None:
        if request.key.public not in {key.public for key in minutes.keys}:
            raise _refuse(f"the key of {what} is not in the minutes", "not-the-key")
        key = signing_key(request.key.public)
        request.key.check_birth(minutes.device.ak_public, key)
    acts = acts_of(request)
    gave = {
        verified.index: verified.member.name
        for verified in (verify_approval(request, one, acts) for one in request.approvals)
    }
    for denial in request.denials:
        verify_denial(request, denial)
    rule = rule_of(request)
    names = tuple(gave[index] for index in sorted(gave))
    if act.executed is not None and (more := describe_outstanding(rule, names)):
        raise _refuse(f"{what} is said to be executed, and lacks approvals: {more}", "too-few")
    return CheckedAct(act, names, needed(rule))


def _check_no_more_keys(checked: CheckedMinutes) -> None:
    """Each key is one that was asked for a signature, or whose certificate was approved."""
    certified = {
        spki_of(one.der)
        for one, place in zip(checked.minutes.certificates, checked.approved, strict=True)
        if place >= 0
    }
    for key in checked.minutes.keys:
        if key.public not in checked.born and key.chip_key.spki not in certified:
            raise _refuse(f'nobody approved anything of the key "{key.label}"', "not-the-key")


def _check_founded(minutes: Minutes) -> None:
    if not any(act.request.kind == "group" and act.executed for act in minutes.acts):
        raise _refuse("there is no executed act that founds the group", "act-missing")


def _check_certificates(minutes: Minutes) -> tuple[int, ...]:
    """Which act each certificate comes from. Each act that was executed has its certificate."""
    wanted = {
        act.request.content: place
        for place, act in enumerate(minutes.acts)
        if act.request.kind == "certificate" and act.executed
    }
    found = [_check_certificate(minutes, one, wanted) for one in minutes.certificates]
    if missing := sorted(set(wanted.values()) - set(found)):
        number = minutes.acts[missing[0]].request.id
        raise _refuse(f"the certificate of request {number} is missing", "act-missing")
    return tuple(found)


def _check_certificate(minutes: Minutes, one: CertificateMinutes, wanted: dict[bytes, int]) -> int:
    """The act of a certificate, -1 if its key signs without people."""
    what = f'certificate "{one.label}"'
    tbs, spki = split_signed(one.der)[0], spki_of(one.der)
    keys = [(key, key.chip_key.spki) for key in minutes.keys]
    if spki not in {known for _, known in keys}:
        raise _refuse(f"{what} is of a key that is not in the minutes", "not-the-key")
    signer = next((key for key, known in keys if is_signed_by(one.der, known)), None)
    if signer is None:
        raise _refuse(f"{what} is signed by none of the keys in the minutes", "not-signed")
    if tbs in wanted:
        return wanted[tbs]
    if not _signs_unattended(signer):
        raise _refuse(f"{what} is signed by {signer.label}, and nobody approved it", "not-approved")
    return -1


def _signs_unattended(key: KeyMinutes) -> bool:
    policy = read_policy(key.policy)
    return policy.is_open or any(one.budget or one.window for one in policy.alternatives)
