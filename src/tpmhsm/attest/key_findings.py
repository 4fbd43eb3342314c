"""Keys: born in the chip, bound to it, and who must agree before they sign.

A key's Name is recomputed from its public area, and the chip certifies that it made the object of
this Name. So all that stands in the public area holds: attributes, scheme, and authPolicy, which is
recomputed from the published documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from tpmhsm.attest.birthplaces import Birthplace, check_birthplace
from tpmhsm.attest.copies import Elsewhere, origin_of, short
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
from tpmhsm.attest.verdicts import (
    Answer,
    CopyFacts,
    DeviceClass,
    KeyFacts,
    Link,
    Proof,
    Question,
)
from tpmhsm.attest.witness import Witness
from tpmhsm.errors import ParseError, TpmHsmError, VerificationError
from tpmhsm.pki.names import format_dn_der
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.people import describe_rule
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


@dataclass(frozen=True)
class Around:
    """What the questions on keys rest on besides their chip's words: the file's `groups`, the AK's
    place in the picture, the Name of the storage key that takes copies (or empty), what kind of
    chip it is, the copies that the file shows, and other chips' files.
    """

    groups: Groups
    place: int
    receives: bytes = b""
    kind: DeviceClass = "unproven"
    copies: tuple[CopyFacts, ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()


def judge_keys(
    evidence: Evidence, witness: Witness, findings: Findings, around: Around
) -> tuple[KeyView, ...]:
    """Find on `born`, `leave` and `agree` of each key."""
    views: list[KeyView] = []
    place, issuers = around.place + 1, _issuers(evidence)
    for number, part in enumerate(evidence.keys):
        path, subject = f"keys[{number}]", f"key {part.label}"
        proof = (Proof.of(f"{path}.public", part.public, "the key's public area"),)
        about = f'The key "{part.label}" cannot be judged'
        with findings.refuting(("born", "leave", "agree"), about, proof, subject):
            key = key_for(part.use, part.public)
            case = Case(path, part, key, witness, around.groups, findings)
            view = _judge(case, evidence, issuers, around, place)
            views.append(view)
            place += len(view.links)
    if not evidence.keys:
        questions: tuple[Question, ...] = ("born", "leave", "agree")
        for question in questions:
            findings.add(question, "not-proven", "no-key", "There is no key in the file.")
    return tuple(views)


def _judge(case: Case, evidence: Evidence, issuers: Issuers, around: Around, place: int) -> KeyView:
    how = _born(case, around)
    policy = _agree(case)
    _leave(case, policy, around)
    budgets = judge_budgets(case, policy, evidence.budgets) if policy else ()
    facts = KeyFacts(
        label=case.part.label,
        name=case.key.name.hex(),
        words=case.key.words,
        policy=policy.text if policy else "",
        demands=at_length(policy, case.groups) if policy else "",
        certificates=tuple(map(_subject, case.part.certificates)),
        budgets=budgets,
        origin=case.origin,
    )
    label = f'key "{case.part.label}", {case.key.words}'
    link = Link("key", label, around.place, case.born, how, case.public)
    return KeyView(facts, (link, *_certificates(case, issuers, place)))


# ── born there, can it leave ─────────────────────────────────────────────────


def _born(case: Case, around: Around) -> str:
    """Find on it; return what binds the key to the chip, for the picture."""
    creation = case.part.creation
    if case.key.imported:
        words = (
            f"No: the key {case.called} was made elsewhere and imported, as it says itself. Copies "
            "may exist."
        )
        case.add("born", "refuted", "imported", words, (case.public,))
        case.born, case.origin = "refuted", "imported"
        return "not certified"
    if creation is None:
        return _born_elsewhere(case, around)
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
        return "not certified"
    case.born, case.origin = "proven", "original"
    words = f"The chip certifies that it made the key {case.called} ({case.key.words}) itself."
    proof = (*proof, Proof.of(f"{case.path}.creation.data", creation.data, "how it was made"))
    case.add("born", "proven", "created-here", words, proof)
    return "the chip certifies that it made this key"


def _born_elsewhere(case: Case, around: Around) -> str:
    """A key that the chip does not say it made: one that stays in its chip must be its own."""
    nothing = "nothing certifies it"
    if case.area.attributes & A.FIXED_TPM:
        words = f"Nothing in the file certifies that the chip made the key {case.called}."
        case.add("born", "not-proven", "no-creation", words, (case.public,))
        return nothing
    here = (case.witness.name, around.receives, around.kind)
    found = origin_of(case.key.name, case.called, here, around.elsewhere)
    if not found.is_copy:
        case.add("born", "not-proven", found.code, found.words, (case.public,))
        return nothing
    case.born, case.origin = "proven", "copy"
    case.add("born", "proven", found.code, found.words, (case.public,))
    return "a copy of the key that another chip certifies it made"


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
    if not case.area.attributes & A.FIXED_TPM:
        check_birthplace(Birthplace(creation.data, creation.parent), info.creation_hash)


def _leave(case: Case, policy: KeyPolicy | None, around: Around) -> None:
    attributes = case.area.attributes
    fixed = A.FIXED_TPM | A.FIXED_PARENT
    proof = (case.public,)
    if policy is not None and policy.backup and case.born == "proven":
        words = _may_be_copied(case, policy, around)
        case.add("leave", "not-proven", "may-be-copied", words, proof)
    elif policy is not None and policy.backup and not case.key.imported:
        words = (
            f"Whoever made the key {case.called} may have copies of it: by its policy custodians "
            "must approve each, but where it was made is not proven."
        )
        case.add("leave", "not-proven", "origin-not-proven", words, proof)
    elif attributes & fixed != fixed:
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


def _may_be_copied(case: Case, policy: KeyPolicy, around: Around) -> str:
    (label,) = policy.backup
    who = describe_rule(case.groups[label].group.custodians)
    every = (*around.copies, *(c for other in around.elsewhere for c in other.judgement.copies))
    # of a key that is not in a file nothing says who its custodians are
    own = (one for one in every if one.key and one.name == case.key.name.hex())
    chips = {one.ak: one for one in own}
    told = [
        f"Only as a copy, for a storage key of another chip that {who}, custodians of "
        f'"{label}", approved: the key {case.called} was made so.'
    ]
    for one in chips.values():
        told.append(
            f"Approved by {', '.join(one.approved)}: the storage key {short(one.parent)} (of the "
            f"chip with the attestation key {short(one.ak)}, {one.made}, as the host says)."
        )
    told.append(
        "Whether these are all is not proven: a host can leave out a copy, and make up none."
        if chips
        else "The file shows none; a host can leave out a copy, and make up none."
    )
    return " ".join(told)


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
