"""Keys: born in the chip, bound to it, and who must agree before they sign.

A key's Name is recomputed from its public area, and the chip certifies that it made the object of
this Name. So all that stands in the public area holds: attributes, scheme, and authPolicy, which is
recomputed from the published documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from tpmhsm.attest.findings import Findings
from tpmhsm.attest.format import Evidence
from tpmhsm.attest.key_budgets import Case, judge_budgets
from tpmhsm.attest.key_policies import (
    Groups,
    at_length,
    check_attributes,
    check_groups,
    in_one_sentence,
    policy_of,
)
from tpmhsm.attest.statements import key_for
from tpmhsm.attest.verdicts import Answer, KeyFacts, Link, Proof, Question
from tpmhsm.attest.witness import Witness
from tpmhsm.errors import ParseError, TpmHsmError, VerificationError
from tpmhsm.pki.names import format_dn_der
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.wire.attest import CreationInfo
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import ObjectAttributes
from tpmhsm.wire.structures import CreationData

A = ObjectAttributes

Issuers = Mapping[bytes, tuple[bytes, ...]]
"""Keys (SubjectPublicKeyInfo) by the name of their owner (DER)."""

_MOST_NAMESAKES = 4


@dataclass(frozen=True)
class KeyView:
    """What reports show of a key."""

    facts: KeyFacts
    links: tuple[Link, ...]


def judge_keys(
    evidence: Evidence, witness: Witness, groups: Groups, findings: Findings, parent: int
) -> tuple[KeyView, ...]:
    """Find on `born`, `leave` and `agree` of each key. `parent`: the AK's place in the picture."""
    views: list[KeyView] = []
    place, issuers = parent + 1, _issuers(evidence)
    for number, part in enumerate(evidence.keys):
        path, subject = f"keys[{number}]", f"key {part.label}"
        proof = (Proof.of(f"{path}.public", part.public, "the key's public area"),)
        about = f'The key "{part.label}" cannot be judged'
        with findings.refuting(("born", "leave", "agree"), about, proof, subject):
            key = key_for(part.use, part.public)
            case = Case(path, part, key, witness, groups, findings)
            view = _judge(case, evidence, issuers, (parent, place))
            views.append(view)
            place += len(view.links)
    if not evidence.keys:
        questions: tuple[Question, ...] = ("born", "leave", "agree")
        for question in questions:
            findings.add(question, "not-proven", "no-key", "There is no key in the file.")
    return tuple(views)


def _judge(case: Case, evidence: Evidence, issuers: Issuers, places: tuple[int, int]) -> KeyView:
    parent, place = places
    _born(case)
    _leave(case)
    policy = _agree(case)
    budgets = judge_budgets(case, policy, evidence.budgets) if policy else ()
    facts = KeyFacts(
        label=case.part.label,
        name=case.key.name.hex(),
        words=case.key.words,
        policy=policy.text if policy else "",
        demands=at_length(policy, case.groups) if policy else "",
        certificates=tuple(map(_subject, case.part.certificates)),
        budgets=budgets,
    )
    how = {
        "proven": "the chip certifies that it made this key",
        "refuted": "not certified",
        "not-proven": "nothing certifies it",
    }
    label = f'key "{case.part.label}", {case.key.words}'
    link = Link("key", label, parent, case.born, how[case.born], case.public)
    return KeyView(facts, (link, *_certificates(case, issuers, place)))


# ── born there, can it leave ─────────────────────────────────────────────────


def _born(case: Case) -> None:
    creation = case.part.creation
    if case.key.imported:
        words = (
            f"No: the key {case.called} was made elsewhere and imported, as it says itself. Copies "
            "may exist."
        )
        case.add("born", "refuted", "imported", words, (case.public,))
        case.born = "refuted"
        return
    if creation is None:
        words = f"Nothing in the file certifies that the chip made the key {case.called}."
        case.add("born", "not-proven", "no-creation", words, (case.public,))
        return
    proof = (
        case.public,
        *case.witness.proofs(
            f"{case.path}.creation", creation.statement, "the chip's word that it made the key"
        ),
    )
    try:
        _check_creation(case)
    except TpmHsmError as error:
        words = f"That the chip made the key {case.called} does not hold: {error.message}."
        case.add("born", "refuted", error.code, words, proof)
        case.born = "refuted"
        return
    case.born = "proven"
    words = f"The chip certifies that it made the key {case.called} ({case.key.words}) itself."
    proof = (*proof, Proof.of(f"{case.path}.creation.data", creation.data, "how it was made"))
    case.add("born", "proven", "created-here", words, proof)


def _check_creation(case: Case) -> None:
    creation = case.part.creation
    if creation is None:
        raise ParseError("no statement")
    path = f"{case.path}.creation"
    info = case.witness.hear(path, creation.statement, "creation", case.key.name)
    if not isinstance(info, CreationInfo) or info.object_name != case.key.name:
        raise VerificationError("the chip certified the creation of another key", code="other-key")
    if sha256(creation.data).digest() != info.creation_hash:
        raise VerificationError(
            "how it was made is not what the chip certified", code="other-creation-data"
        )
    decode(CreationData, creation.data)


def _leave(case: Case) -> None:
    attributes = case.area.attributes
    fixed = A.FIXED_TPM | A.FIXED_PARENT
    proof = (case.public,)
    if attributes & fixed != fixed:
        words = (
            f"The key {case.called} can leave the chip, or has copies already: it is not fixed to "
            "it (fixedTPM is clear)."
        )
        case.add("leave", "refuted", "can-leave", words, proof)
    elif case.born != "proven":
        words = (
            f"The key {case.called} is described as fixed to its chip, but that the chip made it "
            "is not proven; so a copy may exist."
        )
        case.add("leave", "not-proven", "birth-not-proven", words, proof)
    else:
        words = (
            f"No: the chip gives the key {case.called} to nobody, and has no command to copy it."
        )
        case.add("leave", "proven", "fixed", words, proof)


# ── who must agree ───────────────────────────────────────────────────────────


def _agree(case: Case) -> KeyPolicy | None:
    try:
        policy = policy_of(case.part, case.key, case.groups)
        check_attributes(case.key, policy)
        check_groups(policy, case.groups)
    except VerificationError as error:
        words = f"Who must agree for {case.called} is not what the file says: {error.message}."
        case.add("agree", "refuted", error.code, words, case.policy_proof)
        return None
    except TpmHsmError as error:
        words = f"Who must agree for the key {case.called} cannot be told: {error.message}."
        case.add("agree", "not-proven", error.code, words, case.policy_proof)
        return None
    views = [case.groups[label] for label in policy.rosters]
    proof = (*case.policy_proof, *(one for view in views for one in view.proof))
    doubtful = [view for view in views if view.answer != "proven"]
    if doubtful:
        words = (
            f'The key {case.called} takes approvals of "{doubtful[0].group.name}", but who that is '
            "now is not proven."
        )
        case.add("agree", "not-proven", "roster-not-certified", words, proof)
    elif case.key.imported:
        words = f"Whoever has a copy of the imported key {case.called} needs nobody."
        case.add("agree", "not-proven", "copies-outside", words, proof)
    elif case.born != "proven":
        words = f"That the key {case.called} is in the chip, which would ask them, is not proven."
        case.add("agree", "not-proven", "birth-not-proven", words, proof)
    else:
        code = "open" if policy.is_open else "policy-holds"
        words = f"{case.called}: {in_one_sentence(case.key, policy, case.groups)}"
        case.add("agree", "proven", code, words, proof)
    return policy


# ── certificates ─────────────────────────────────────────────────────────────


def _certificates(case: Case, issuers: Issuers, place: int) -> tuple[Link, ...]:
    links = []
    for number, der in enumerate(case.part.certificates):
        path = f"{case.path}.certificates[{number}]"
        proof = (Proof.of(path, der, "a certificate of the key"), case.public)
        about = f"A certificate of the key {case.called}"
        with case.findings.refuting("born", about, proof, case.subject):
            answer, how = _certified(der, case.key.spki, issuers)
            links.append(Link("certificate", _subject(der), place, answer, how, proof[0]))
    return tuple(links)


def _certified(der: bytes, spki: bytes, issuers: Issuers) -> tuple[Answer, str]:
    """Whether the signature is by a key of the file. VerificationError for another key's."""
    from tpmhsm.pki.path_certificate import read_path_certificate_loosely
    from tpmhsm.pki.signatures import is_signed_by

    found = read_path_certificate_loosely(der)
    if found.spki != spki:
        raise VerificationError("it is for another key", code="certificate-of-another-key")
    if found.self_issued:
        if not is_signed_by(der, spki):
            raise VerificationError("its signature is wrong", code="certificate-signature")
        return "proven", "for this key, signed by it"
    if any(is_signed_by(der, one) for one in issuers.get(found.issuer, ())):
        return "proven", "for this key, signed by a key of the file"
    return "not-proven", "for this key; whoever signed it is not in the file"


def _issuers(evidence: Evidence) -> Issuers:
    """Keys of the file by the names that their certificates give them (DER)."""
    from tpmhsm.pki.path_certificate import read_path_certificate_loosely

    found: dict[bytes, tuple[bytes, ...]] = {}
    for part, der in ((one, der) for one in evidence.keys for der in one.certificates):
        try:
            read, own = read_path_certificate_loosely(der), key_for(part.use, part.public).spki
        except TpmHsmError:
            continue
        known = found.get(read.subject, ())
        if read.spki == own and own not in known and len(known) < _MOST_NAMESAKES:
            found[read.subject] = (*known, own)
    return found


def _subject(der: bytes) -> str:
    from tpmhsm.pki.path_certificate import read_path_certificate_loosely

    try:
        return format_dn_der(read_path_certificate_loosely(der).subject)[:200]
    except ParseError:
        return "not a certificate"
