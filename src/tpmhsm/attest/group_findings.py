"""Who stands behind a group, and whether that is in force: documents, cards, counter, roster index.

The Names of both NV indices are recomputed from the group document, attributes included, so an
ordinary index that poses as the counter has another Name. What the roster index holds is recomputed
from both documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

from tpmhsm.attest.findings import Findings
from tpmhsm.attest.format import Evidence, GroupEvidence, Statement
from tpmhsm.attest.members import check_cards
from tpmhsm.attest.statements import nv_contents
from tpmhsm.attest.verdicts import Answer, People, Proof, Question
from tpmhsm.attest.witness import Witness
from tpmhsm.errors import TpmHsmError, VerificationError
from tpmhsm.policy.group import GroupDocument, RosterDocument, check_pair, parse_group, parse_roster
from tpmhsm.policy.people import describe_rule, members_of
from tpmhsm.policy.tree import COUNTER_SIZE, ROSTER_SIZE, counter_nv, roster_content, roster_nv
from tpmhsm.wire.names import name_of_nv

if TYPE_CHECKING:
    from tpmhsm.attest.copies import Elsewhere

_EPOCH = slice(34, 42)
"""Where the epoch stands in what the roster index holds."""

_MAX_FINGERPRINTS = 8
"""Each takes some 50 ms on purpose."""


@dataclass(frozen=True)
class GroupView:
    """A group of the file: `answer` says whether its roster is the one in force."""

    group: GroupDocument
    roster: RosterDocument
    answer: Answer
    proof: tuple[Proof, ...]
    place: int


def judge_groups(
    evidence: Evidence, witness: Witness, findings: Findings, elsewhere: Sequence[Elsewhere] = ()
) -> Mapping[str, GroupView]:
    """Find on `roster` (and `agree`, for documents that contradict each other); views by name.
    `elsewhere`: files of other chips, on one of which a group may have been founded.
    """
    found: dict[str, GroupView] = {}
    for place, part in enumerate(evidence.groups):
        view = _judge(place, part, (evidence, elsewhere), witness, findings)
        if view is None:
            continue
        if view.group.name in found:
            words = f'Two groups of the file are called "{view.group.name}".'
            findings.add("roster", "refuted", "two-groups", words, proof=view.proof)
        found.setdefault(view.group.name, view)
    if not evidence.groups:
        findings.add("roster", "not-proven", "no-group", "There is no group of people in the file.")
    return found


def people_of(view: GroupView, eks: tuple[bytes, ...]) -> People:
    """Who they are, for reports; `eks` are the certificates and public areas of the file."""
    group, roster = view.group, view.roster
    custodians = "" if group.static else describe_rule(group.custodians)
    roles: dict[str, list[str]] = {}
    rules = [("officer", roster.officers)]
    rules += [] if group.static else [("custodian", group.custodians)]
    for role, rule in rules:
        for member in members_of(rule):
            roles.setdefault(member.name, []).append(role)
    return People(
        group=group.name,
        id=group.id.hex(),
        epoch=roster.epoch,
        officers=describe_rule(roster.officers),
        custodians=custodians,
        names=tuple((name, " and ".join(held)) for name, held in roles.items()),
        current=view.answer,
        fingerprint=_fingerprint(view, eks) if view.place < _MAX_FINGERPRINTS else "",
    )


def _fingerprint(view: GroupView, eks: tuple[bytes, ...]) -> str:
    ek = next((one for one in eks if sha256(one).digest() == view.group.device_ek), None)
    return "" if ek is None else _words(view.group, ek)


@lru_cache(_MAX_FINGERPRINTS)
def _words(group: GroupDocument, ek: bytes) -> str:
    from tpmhsm.policy.fingerprint import fingerprint

    return " ".join(fingerprint(group, ek))


def ek_bytes(evidence: Evidence) -> tuple[bytes, ...]:
    """What a group document's `device.ek` may be the SHA-256 of."""
    found = [one for ek in evidence.eks for one in (ek.certificate, ek.public) if one is not None]
    return tuple(found)


# ── one group ────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Case:
    """One group, its documents read, and all that its questions need."""

    path: str
    part: GroupEvidence
    group: GroupDocument
    roster: RosterDocument
    witness: Witness
    findings: Findings
    proof: tuple[Proof, ...]

    @property
    def subject(self) -> str:
        return f"group {self.group.name}"

    def add(self, question: Question, answer: Answer, code: str, words: str) -> None:
        self.findings.add(question, answer, code, words, proof=self.proof, subject=self.subject)


def _judge(
    place: int,
    part: GroupEvidence,
    files: tuple[Evidence, Sequence[Elsewhere]],
    witness: Witness,
    findings: Findings,
) -> GroupView | None:
    path = f"groups[{place}]"
    proof: tuple[Proof, ...] = (
        Proof.of(f"{path}.document", part.document, "the group document"),
        Proof.of(f"{path}.roster", part.roster, "the roster document"),
    )
    about = f"Group {place + 1} of the file"
    with findings.refuting(("agree", "roster"), about, proof):
        group, roster = parse_group(part.document), parse_roster(part.roster)
        check_pair(group, roster)
        case = _Case(path, part, group, roster, witness, findings, proof)
        fits = _documents(case, *files)
        if not group.static:
            case = replace(case, proof=(*proof, *_statements(case)))
        held = _in_force(case)
        return GroupView(group, roster, held if fits else "refuted", case.proof, place)
    return None


def _documents(case: _Case, evidence: Evidence, elsewhere: Sequence[Elsewhere]) -> bool:
    """Whether the documents are of this device, or joined by it, and the cards fit them."""
    group, roster = case.group, case.roster
    try:
        if evidence.parent is None or group.device_ak == case.witness.name:
            _check_device(group, evidence, case.witness.name)
        else:
            _check_founder(case, elsewhere)
        members = (*members_of(group.custodians), *members_of(roster.officers))
        missing = check_cards(case.part.cards, members)
    except TpmHsmError as error:
        words = f'The documents of the group "{group.name}" do not fit: {error.message}.'
        case.add("agree", "refuted", error.code, words)
        return False
    if missing:
        words = f"There is no card of {', '.join(missing)} in the file: that they themselves took "
        words += f'part in "{group.name}" is not proven.'
        case.add("agree", "not-proven", "cards-missing", words)
    return True


def _check_founder(case: _Case, elsewhere: Sequence[Elsewhere]) -> None:
    """A chip that takes copies has groups that were founded on another one: whose file is given?"""
    group = case.group
    founder = next((one for one in elsewhere if one.ak_name == group.device_ak), None)
    if founder is None or not founder.stands:
        words = f'The group "{group.name}" was founded on another chip, of which there is no proof '
        words += "at hand (--original)."
        case.add("agree", "not-proven", "founded-elsewhere", words)
        return
    _check_device(group, founder.evidence, founder.ak_name)


def _check_device(group: GroupDocument, evidence: Evidence, ak_name: bytes) -> None:
    if group.device_ak != ak_name:
        raise VerificationError(
            "the group was founded on a device with another attestation key",
            code="group-of-another-device",
        )
    if group.device_ek not in {sha256(one).digest() for one in ek_bytes(evidence)}:
        raise VerificationError(
            "the group was founded on a device with another endorsement key",
            code="group-of-another-device",
        )


def _statements(case: _Case) -> tuple[Proof, ...]:
    found: list[Proof] = []
    for name, part in (("counter", case.part.counter), ("held", case.part.held)):
        if part is not None:
            what = "epoch counter" if name == "counter" else "roster index"
            path = f"{case.path}.{name}"
            found += case.witness.proofs(path, part, f"what the chip says of the {what}")
    return tuple(found)


def _in_force(case: _Case) -> Answer:
    group, roster = case.group, case.roster
    if group.static:
        words = f'The people of "{group.name}" stand in its keys for good, and cannot change.'
        case.add("roster", "proven", "static", words)
        return "proven"
    if case.part.counter is None or case.part.held is None:
        words = f'The chip does not say who the officers of "{group.name}" are now.'
        case.add("roster", "not-proven", "roster-not-certified", words)
        return "not-proven"
    try:
        _check_state(case, case.part.counter, case.part.held)
    except TpmHsmError as error:
        words = f'The list of people of "{group.name}" is not the one in force: {error.message}.'
        case.add("roster", "refuted", error.code, words)
        return "refuted"
    words = (
        f'The chip holds this very list of "{group.name}", epoch {roster.epoch}, and its counter '
        "stands at the same number."
    )
    case.add("roster", "proven", "in-force", words)
    return "proven"


def _check_state(case: _Case, counter: Statement, held: Statement) -> None:
    """VerificationError: `other-index`, `old-epoch`, `future-epoch`, `other-roster`, or as of the
    witness.
    """
    group, roster = case.group, case.roster
    count = nv_contents(
        case.witness.hear(f"{case.path}.counter", counter, "counter", group.id),
        name_of_nv(counter_nv(group, written=True)),
        COUNTER_SIZE,
        "epoch counter (it has another Name, as an ordinary index in its place has)",
    )
    content = nv_contents(
        case.witness.hear(f"{case.path}.held", held, "roster", group.id),
        name_of_nv(roster_nv(group, written=True)),
        ROSTER_SIZE,
        "roster index (it has another Name)",
    )
    _check_epoch(int.from_bytes(count, "big"), roster.epoch, "the chip's counter stands at")
    _check_epoch(int.from_bytes(content[_EPOCH], "big"), roster.epoch, "the chip holds that of")
    if content != roster_content(group, roster):
        raise VerificationError(
            "the chip holds another list of the same epoch", code="other-roster"
        )


def _check_epoch(certified: int, said: int, what: str) -> None:
    if certified != said:
        code = "old-epoch" if said < certified else "future-epoch"
        raise VerificationError(f"it is of epoch {said}, and {what} {certified}", code=code)
