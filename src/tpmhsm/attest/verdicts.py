"""What follows from a file of evidence: nine questions, each answered in words.

    which chip · which maker · what kind of chip · born there · can it leave · who must agree ·
    is the roster current · is the log complete · how fresh

Each answer is `proven`, `refuted` or `not-proven`, and names the bytes that say so: where they
stand in the evidence, and their SHA-256. `tpmhsm.attest.verify` gives the answers; reports and
terminals show them. Words are for readers who know no TPM.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

from tpmhsm.policy.moments import stamp

Answer = Literal["proven", "refuted", "not-proven"]

Question = Literal["chip", "maker", "kind", "born", "leave", "agree", "roster", "log", "fresh"]

QUESTIONS: Mapping[Question, str] = {
    "chip": "Which chip is it?",
    "maker": "Who made the chip?",
    "kind": "What kind of chip is it: hardware or software?",
    "born": "Was the key made inside this chip?",
    "leave": "Can the key leave the chip?",
    "agree": "Who must agree before the key signs?",
    "roster": "Is the list of these people the one in force?",
    "log": "Is the log of all signatures complete?",
    "fresh": "How fresh is this evidence?",
}
"""In the order in which they are answered."""

DeviceClass = Literal["discrete", "firmware", "virtual", "emulator", "software", "unproven"]

HARDWARE: frozenset[DeviceClass] = frozenset({"discrete", "firmware"})

CLASS_WORDS: Mapping[DeviceClass, str] = {
    "discrete": "a chip of its own (discrete TPM)",
    "firmware": "a TPM inside the processor (firmware TPM)",
    "virtual": "a virtual TPM of a cloud or hypervisor",
    "emulator": "an emulator",
    "software": "a software TPM",
    "unproven": "not proven to be hardware",
}


FILE_SAYS = "The file says: "
"""Before the words of what would be proven if what it rests on were."""


@dataclass(frozen=True)
class Proof:
    """Bytes that say so: `path` in the evidence ("keys[0].creation.attest"), `sha256` of these
    bytes in hex, `what` they are in a few words.
    """

    path: str
    sha256: str
    what: str

    @classmethod
    def of(cls, path: str, data: bytes, what: str) -> Proof:
        """The reference to `data`, which stands at `path`."""
        return cls(path, sha256(data).hexdigest(), what)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `code` is a stable word for programs, `subject` what it is
    about ("key root", "group officers"; empty: the device or the whole file).
    """

    question: Question
    answer: Answer
    code: str
    words: str
    proof: tuple[Proof, ...] = ()
    subject: str = ""

    def encode(self) -> dict[str, Any]:
        """JSON-ready; names are stable."""
        return {
            "answer": self.answer,
            "code": self.code,
            "words": self.words,
            "subject": self.subject,
            "proof": [vars(one) for one in self.proof],
        }


@dataclass(frozen=True)
class Verdict:
    """The answer to one question, from all findings on it: refuted if one is, proven if all are."""

    question: Question
    findings: tuple[Finding, ...]

    @property
    def asked(self) -> str:
        """The question in words."""
        return QUESTIONS[self.question]

    @cached_property
    def answer(self) -> Answer:
        """`proven` only if there is something to prove and nothing speaks against it."""
        found = {finding.answer for finding in self.findings}
        if "refuted" in found:
            return "refuted"
        return "proven" if found == {"proven"} else "not-proven"

    @cached_property
    def deciding(self) -> tuple[Finding, ...]:
        """The findings for which the answer is what it is."""
        return tuple(finding for finding in self.findings if finding.answer == self.answer)

    @property
    def words(self) -> str:
        """The answer in words, what decides first; that only the file says so is said once.

        When only part of an answer is proven, that part follows.
        """
        told: list[str] = []
        for words in dict.fromkeys(finding.words for finding in self.deciding):
            again = any(one.startswith(FILE_SAYS) for one in told)
            told.append(words.removeprefix(FILE_SAYS) if again else words)
        rest = [one.words for one in self.findings if one.answer == "proven"]
        if self.answer == "not-proven" and rest:
            told += ["Proven is this much:", *dict.fromkeys(rest)]
        return " ".join(told)

    @property
    def code(self) -> str:
        """The stable word of the finding that decides."""
        return self.deciding[0].code if self.deciding else "nothing-said"

    @cached_property
    def proof(self) -> tuple[Proof, ...]:
        """The bytes behind the answer, each once."""
        return tuple(dict.fromkeys(one for finding in self.deciding for one in finding.proof))

    def encode(self) -> dict[str, Any]:
        """JSON-ready; names are stable."""
        return {
            "question": self.question,
            "asked": self.asked,
            "answer": self.answer,
            "code": self.code,
            "words": self.words,
            "proof": [vars(one) for one in self.proof],
            "findings": [finding.encode() for finding in self.findings],
        }


LinkKind = Literal["root", "intermediate", "ek", "ak", "key", "certificate"]


@dataclass(frozen=True)
class Link:
    """One link of the picture "vendor root → EK → AK → key → certificates".

    `label` is a name in words, `holds` whether it is bound to the link at `parent` (its place in
    `Judgement.links`; -1 for the first), `how` says what binds them, or what is missing.
    """

    kind: LinkKind
    label: str
    parent: int
    holds: Answer
    how: str
    proof: Proof | None = None

    def encode(self) -> dict[str, Any]:
        """JSON-ready; names are stable."""
        return {**vars(self), "proof": vars(self.proof) if self.proof else None}


@dataclass(frozen=True)
class People:
    """Who stands behind a group, as its documents say and the chip certifies.

    `officers` and `custodians` are rules in words, `names` all members with what they are.
    """

    group: str
    id: str
    epoch: int
    officers: str
    custodians: str
    names: tuple[tuple[str, str], ...]
    current: Answer
    fingerprint: str = ""


@dataclass(frozen=True)
class KeyFacts:
    """One key: label, Name in hex, what it is ("P-256 9f3a61c0 77be0d12"), its policy as text and
    in words, the certificates' subjects, and for each granting group the units used and granted.

    `origin`: "original" (this chip is proven to have made it), "copy" (another one is, and a copy
    for this chip was approved), "imported" (it says so itself), or "unproven".
    """

    label: str
    name: str
    words: str
    policy: str
    demands: str
    certificates: tuple[str, ...] = ()
    budgets: tuple[tuple[str, int, int], ...] = ()
    origin: Origin = "unproven"


Origin = Literal["original", "copy", "imported", "unproven"]


@dataclass(frozen=True)
class CopyFacts:
    """A copy of a key that custodians approved: the group's id, the key's label (or empty) and
    Name, the Names of the storage key that it is for and of the attestation key of that chip, the
    hash of its endorsement key (all in hex), when by the host's clock, and who approved.
    """

    group: str
    key: str
    name: str
    parent: str
    ak: str
    ek: str
    made: str
    approved: tuple[str, ...]
    answer: Answer


@dataclass(frozen=True)
class Judgement:
    """The whole answer. `sentence` comes first wherever it is shown.

    `device_class` is what the pinned root says of the chip; `software` when the device names
    itself so, `unproven` otherwise. `evidence` is the SHA-256 of the file in hex, `at` the time for
    which certificates were judged, `nonce` whether a nonce of the verifier's was answered,
    `receives` the Name of the storage key under which the chip takes copies (hex, or empty).
    """

    sentence: str
    device_class: DeviceClass
    verdicts: tuple[Verdict, ...]
    evidence: str
    made: datetime
    at: datetime
    nonce: bool
    links: tuple[Link, ...] = ()
    people: tuple[People, ...] = ()
    keys: tuple[KeyFacts, ...] = ()
    hints: tuple[str, ...] = ()
    receives: str = ""
    copies: tuple[CopyFacts, ...] = ()

    def verdict(self, question: Question) -> Verdict:
        """The verdict on one question."""
        return next(one for one in self.verdicts if one.question == question)

    def answered(self, answer: Answer) -> tuple[Verdict, ...]:
        """The verdicts with this answer, in order."""
        return tuple(one for one in self.verdicts if one.answer == answer)

    @property
    def is_hardware(self) -> bool:
        """Whether a pinned root of a maker of hardware stands behind it, and all links hold."""
        return self.device_class in HARDWARE and self.verdict("kind").answer == "proven"

    def encode(self) -> dict[str, Any]:
        """JSON-ready; names are stable."""
        return {
            "sentence": self.sentence,
            "device_class": self.device_class,
            "hardware": self.is_hardware,
            "evidence": self.evidence,
            "made": stamp(self.made),
            "at": stamp(self.at),
            "nonce": self.nonce,
            "verdicts": [one.encode() for one in self.verdicts],
            "links": [one.encode() for one in self.links],
            "people": [vars(one) for one in self.people],
            "keys": [vars(one) for one in self.keys],
            "hints": list(self.hints),
            "receives": self.receives,
            "copies": [vars(one) for one in self.copies],
        }


def verdicts_of(findings: Iterable[Finding]) -> tuple[Verdict, ...]:
    """All nine verdicts, in order; a question that nothing was found on is `not-proven`."""
    found = list(findings)
    return tuple(
        Verdict(question, tuple(one for one in found if one.question == question))
        for question in QUESTIONS
    )
