"""Copies of keys: where they may be, who approved that, and which file shows the key's birth.

Equal attributes prove nothing: a key that was made in software can be imported with them. What
tells the three apart:

    original    the chip certifies that it made the key (TPM2_CertifyCreation)
    copy        another file shows that; custodians approved a copy for one storage key; the chip of
                this file certifies that this storage key is its own
    unproven    neither: it could be imported

Custodians' approvals cannot be made up, but a host can leave one out. So the list of copies is
never called complete unless the proof of the log says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpmhsm.attest.findings import Findings
from tpmhsm.attest.format import CopyEvidence, Evidence, KeyEvidence
from tpmhsm.attest.key_policies import check_groups, policy_of
from tpmhsm.attest.parents import check_certified_parent
from tpmhsm.attest.statements import key_for
from tpmhsm.attest.verdicts import HARDWARE, Answer, CopyFacts, Proof
from tpmhsm.attest.witness import Witness
from tpmhsm.errors import TpmHsmError, VerificationError
from tpmhsm.policy.ahash import a_hash_preimage
from tpmhsm.policy.approver import check_signature
from tpmhsm.policy.copying import CopyDocument, parse_copy
from tpmhsm.policy.moments import stamp
from tpmhsm.policy.refs import policy_ref
from tpmhsm.wire.names import name_of_public

if TYPE_CHECKING:
    from tpmhsm.attest.group_findings import GroupView
    from tpmhsm.attest.verdicts import DeviceClass, Judgement
    from tpmhsm.policy.people import Threshold

MAX_COPIES = 256


@dataclass(frozen=True)
class Elsewhere:
    """Another chip's file, judged before: `what` it is called, its evidence, its judgement."""

    what: str
    evidence: Evidence
    judgement: Judgement

    @property
    def ak_name(self) -> bytes:
        """The attestation key that signed it (34 bytes); empty when that is none."""
        try:
            return name_of_public(self.evidence.aks[0].public)
        except TpmHsmError:
            return b""

    @property
    def stands(self) -> bool:
        """Whether it is a known chip's."""
        return self.judgement.verdict("chip").answer == "proven"

    def made(self, name: bytes) -> bool:
        """Whether its chip is proven to have made the key with this Name."""
        return any(
            (one.name, one.origin) == (name.hex(), "original") for one in self.judgement.keys
        )

    def copy_for(self, name: bytes, ak: bytes, parent: bytes) -> CopyFacts | None:
        """An approved copy of a key for one storage key of the chip with this attestation key. The
        key is in that file, so that its custodians are known.
        """
        wanted = (name.hex(), ak.hex(), parent.hex(), "proven")
        found = (one for one in self.judgement.copies if one.key)
        return next((c for c in found if (c.name, c.ak, c.parent, c.answer) == wanted), None)


def judge_parent(evidence: Evidence, witness: Witness, findings: Findings) -> bytes:
    """Return the Name of the storage key that takes copies; empty if there is none, or if it is not
    one, which refutes `chip`.
    """
    part = evidence.parent
    if part is None:
        return b""
    proof = (
        Proof.of("parent.public", part.public, "the storage key that takes copies"),
        *witness.proofs("parent.certified", part.certified, "what the chip says of it"),
    )
    with findings.refuting("chip", "The storage key that takes copies is not believed", proof):
        subject = name_of_public(part.public)
        info = witness.hear("parent.certified", part.certified, "parent", subject)
        return check_certified_parent(part.public, info)
    return b""


def judge_copies(
    evidence: Evidence, groups: Mapping[str, GroupView], findings: Findings
) -> tuple[CopyFacts, ...]:
    """All approved copies that the file shows; one without its approvals refutes `leave`."""
    found = []
    keys = _keys(evidence)
    for place, part in enumerate(evidence.copies):
        proof = (Proof.of(f"copies[{place}].document", part.document, "what was approved"),)
        about = f"Copy {place + 1} of the file is not what custodians approved"
        with findings.refuting("leave", about, proof):
            copy = parse_copy(part.document)
            view = next((one for one in groups.values() if one.group.id == copy.group), None)
            if view is None:
                raise VerificationError(
                    "it is of a group that is not in the file", code="copy-of-another-group"
                )
            if copy.key in keys:
                _must_be_its_group(keys[copy.key], view, groups)
            who = _approved(part, copy, view)
            found.append(
                CopyFacts(
                    group=copy.group.hex(),
                    key=keys[copy.key].label if copy.key in keys else "",
                    name=copy.key.hex(),
                    parent=copy.parent_name.hex(),
                    ak=copy.device_ak.hex(),
                    ek=copy.device_ek.hex(),
                    made=stamp(part.made),
                    approved=who,
                    answer="proven",
                )
            )
    return tuple(found)


def _keys(evidence: Evidence) -> dict[bytes, KeyEvidence]:
    found = {}
    for key in evidence.keys:
        try:
            found[name_of_public(key.public)] = key
        except TpmHsmError:
            continue
    return found


def _must_be_its_group(part: KeyEvidence, view: GroupView, groups: Mapping[str, GroupView]) -> None:
    """Root founds groups, too, and has people of his own approve in them: nothing is copied by
    that. VerificationError (`copy-of-another-group`), and whatever is wrong with the policy.
    """
    policy = policy_of(part, key_for(part.use, part.public), groups)
    check_groups(policy, groups)
    if view.group.id not in {groups[label].group.id for label in policy.backup}:
        raise VerificationError(
            f'custodians of "{view.group.name}" approved it, and the key is copied by others',
            code="copy-of-another-group",
        )


def _approved(part: CopyEvidence, copy: CopyDocument, view: GroupView) -> tuple[str, ...]:
    """The custodians whose signatures hold, of each ladder enough. VerificationError."""
    found: list[str] = []
    for number, threshold in enumerate(view.group.custodians, 1):
        ref = policy_ref("duplicate", copy.group, None, number)
        names = _signed(part, threshold, ref, a_hash_preimage(copy.bound.cp_hash, ref))
        if len(names) < threshold.m:
            raise VerificationError(
                f"the signatures of {len(names)} custodians hold where {threshold.m} are needed",
                code="copy-not-approved",
            )
        found += names
    return tuple(found)


def _signed(part: CopyEvidence, threshold: Threshold, ref: bytes, message: bytes) -> list[str]:
    found = []
    for member in threshold.members:
        votes = (v for v in part.approvals if (v.approver, v.policy_ref) == (member.name, ref))
        for vote in list(votes)[:2]:
            try:
                check_signature(member.key, message, vote.signature)
            except TpmHsmError:
                continue
            found.append(member.name)
            break
    return found


# ── a key that this chip did not make ────────────────────────────────────────


@dataclass(frozen=True)
class Origin:
    """Where a key is from: `code` and `words`; `original` is the file of the chip that made it."""

    code: str
    words: str
    original: Elsewhere | None = None

    @property
    def is_copy(self) -> bool:
        """Whether it is proven to be a copy for the chip of this file."""
        return self.code == "copy"


def origin_of(
    name: bytes, called: str, here: tuple[bytes, bytes, DeviceClass], elsewhere: Sequence[Elsewhere]
) -> Origin:
    """Where a key is from that the chip of this file does not say it made.

    `here`: the Names of this chip's attestation key and of its storage key for copies (or empty),
    and what kind of chip it is.
    """
    ak, parent, kind = here
    original = next((one for one in elsewhere if one.made(name)), None)
    if original is None:
        return Origin(
            "could-be-imported",
            f"The key {called} could be imported from anywhere: attributes and policy as it has "
            "can be given to any key that may be copied. Evidence of the chip that made it shows "
            "more (--original).",
        )
    if kind in HARDWARE and not original.judgement.is_hardware:
        return Origin(
            "original-in-software",
            f"The key {called} was made in the chip of {original.what}, which is not proven to be "
            "hardware as this one is.",
            original,
        )
    if not parent:
        return Origin(
            "copy-not-shown",
            f"The key {called} was made in the chip of {original.what}; the chip of this file shows"
            " no storage key that takes copies, so what it has of it is not proven.",
            original,
        )
    if not any(one.copy_for(name, ak, parent) for one in elsewhere):
        return Origin(
            "copy-not-approved",
            f"The key {called} was made in the chip of {original.what}, but no approval of a copy "
            "for the storage key of this chip is in the other files.",
            original,
        )
    return Origin(
        "copy",
        f"Not in this one, but in the chip of {original.what}, which certifies it: the key {called}"
        " is a copy, and custodians approved it for the storage key that this chip certifies as "
        "its own.",
        original,
    )


# ── is a removal in force wherever a copy is ─────────────────────────────────


@dataclass(frozen=True)
class _Place:
    """One chip that may hold copies of keys of a group: its file, and the epoch there."""

    what: str
    epoch: int
    fresh: bool


def judge_everywhere(
    views: Mapping[str, GroupView],
    copies: Sequence[CopyFacts],
    here: tuple[bytes, bytes],
    elsewhere: Sequence[Elsewhere],
    findings: Findings,
) -> None:
    """Find on `roster` of each group whose keys have copies: a removal is in force when certified
    on every chip that holds one. `here` are this chip's attestation key and its storage key for
    copies (or empty). Custodians signed for the storage key; which chip has it, its host wrote.
    """
    ak, own = here[0].hex(), here[1].hex()
    every = [*copies, *(one for other in elsewhere for one in other.judgement.copies)]
    for view in views.values():
        group = view.group.id.hex()
        held = [one for one in every if (one.answer, one.group) == ("proven", group)]
        names = {(one.ak, one.parent) for one in held}
        chips = (names | {(view.group.device_ak.hex(), "")}) - {(ak, own), (ak, "")}
        _judge_group(view, sorted(chips), elsewhere, findings)


def _judge_group(
    view: GroupView,
    chips: Sequence[tuple[str, str]],
    elsewhere: Sequence[Elsewhere],
    findings: Findings,
) -> None:
    name, subject = view.group.name, f"group {view.group.name}"
    for chip, parent in chips:
        place = _place_of(chip, parent, view.group.id.hex(), elsewhere)
        answer, code, words = _compared(name, view.roster.epoch, chip, place)
        findings.add("roster", answer, code, words, proof=view.proof, subject=subject)


def _compared(name: str, epoch: int, chip: str, place: _Place | None) -> tuple[Answer, str, str]:
    """Answer, code and words on one other chip that may hold copies of keys of this group."""
    if place is None:
        words = (
            f'Keys of "{name}" may be in the chip with the attestation key {short(chip)}, too, of '
            "which, or of the storage key there, no evidence is given (--original, --copy): whoever"
            " was removed here may still be an officer there."
        )
        return "not-proven", "copy-not-shown", words
    if place.epoch != epoch:
        older = "there" if place.epoch < epoch else "here"
        words = (
            f'The list of "{name}" is of epoch {epoch} here and of {place.epoch} in the chip of '
            f"{place.what}: whoever was removed since is still an officer {older}."
        )
        return "refuted", "other-epoch", words
    if not place.fresh:
        words = (
            f'That the list of "{name}" is in force in the chip of {place.what} too is not proven: '
            "that file answers no nonce of yours."
        )
        return "not-proven", "copy-not-fresh", words
    words = (
        f'The chip of {place.what}, where keys of "{name}" are too, holds the same list, epoch '
        f"{epoch}."
    )
    return "proven", "in-force-there", words


def _place_of(ak: str, parent: str, group: str, elsewhere: Sequence[Elsewhere]) -> _Place | None:
    for other in elsewhere:
        if other.ak_name.hex() != ak or not other.stands:
            continue
        if parent not in ("", other.judgement.receives):
            continue
        for people in other.judgement.people:
            if people.id == group and people.current == "proven":
                return _Place(other.what, people.epoch, other.judgement.nonce)
    return None


def short(name: str) -> str:
    """Digits of a Name by which people tell it."""
    return f"{name[4:12]} {name[12:20]}"
