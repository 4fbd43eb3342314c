"""One key under judgement, and the budgets that groups granted it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tpmhsm.attest.findings import Findings
from tpmhsm.attest.format import BudgetEvidence, KeyEvidence
from tpmhsm.attest.key_policies import Groups
from tpmhsm.attest.statements import ChipKey, nv_contents
from tpmhsm.attest.verdicts import Answer, Origin, Proof, Question
from tpmhsm.attest.witness import Witness
from tpmhsm.errors import VerificationError
from tpmhsm.policy.budgets import SIZE as BUDGET_SIZE
from tpmhsm.policy.budgets import Counted, budget_nv
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.tree import roster_name
from tpmhsm.wire.codec import decode
from tpmhsm.wire.names import name_of_nv
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import NvPublic


@dataclass
class Case:
    """One key, and all that its questions need."""

    path: str
    part: KeyEvidence
    key: ChipKey
    witness: Witness
    groups: Groups
    findings: Findings
    born: Answer = "not-proven"
    origin: Origin = "unproven"

    def add(
        self, question: Question, answer: Answer, code: str, words: str, proof: Iterable[Proof]
    ) -> None:
        """A finding on this key."""
        self.findings.add(question, answer, code, words, proof=proof, subject=self.subject)

    @property
    def subject(self) -> str:
        """What findings are about."""
        return f"key {self.part.label}"

    @property
    def called(self) -> str:
        """Its label in quotes."""
        return f'"{self.part.label}"'

    @property
    def area(self) -> Public:
        """Its public area."""
        return decode(Public, self.part.public)

    @property
    def public(self) -> Proof:
        """The bytes of its public area."""
        return Proof.of(f"{self.path}.public", self.part.public, "the key's public area")

    @property
    def policy_proof(self) -> tuple[Proof, ...]:
        """The same, and those of what is published of its policy."""
        said = self.part.document or self.part.policy
        name = "document" if self.part.document else "text"
        published = Proof.of(f"{self.path}.policy.{name}", said.encode(), "the published policy")
        return (self.public, published)


def judge_budgets(
    case: Case, policy: KeyPolicy, parts: Iterable[BudgetEvidence]
) -> tuple[tuple[str, int, int], ...]:
    """Find on `agree`; return what the chip says of each granting group: its label, units used,
    units granted in all.
    """
    shown = {(part.key, part.group): (place, part) for place, part in enumerate(parts)}
    found = []
    for label in policy.granting:
        place, part = shown.get((case.part.label, label), (0, None))
        if part is None or part.statement is None:
            words = f'How many units "{label}" granted to the key {case.called} is not certified.'
            if part is not None:
                words = (
                    f'"{label}" has granted the key {case.called} nothing yet, says the file: a '
                    "chip certifies no budget before the first grant."
                )
            case.add("agree", "not-proven", "budget-not-certified", words, (case.public,))
            continue
        counted = _budget(case, policy, f"budgets[{place}]", part)
        if counted is not None:
            found.append((label, counted.used, counted.total))
    return tuple(found)


def _budget(case: Case, policy: KeyPolicy, path: str, part: BudgetEvidence) -> Counted | None:
    if part.statement is None:
        return None
    proof = (
        Proof.of(f"{path}.index", part.index, "the budget's NV index"),
        *case.witness.proofs(path + ".statement", part.statement, "what the chip says of it"),
    )
    with case.findings.refuting(
        "agree", f"The budget of the key {case.called} does not hold", proof, case.subject
    ):
        group = case.groups[part.group].group
        wanted = budget_nv(policy.budgets[part.group], roster_name(group), written=True)
        index = decode(NvPublic, part.index)
        if index != wanted:
            raise VerificationError(
                "the index is not the one that the key's policy names", code="other-index"
            )
        info = case.witness.hear(f"{path}.statement", part.statement, "budget", case.key.name)
        counted = Counted.read(
            nv_contents(info, name_of_nv(wanted), BUDGET_SIZE, "budget of this key")
        )
        words = (
            f"Whoever has the machine can use the key {case.called} {_times(counted.left)} without "
            f'asking anybody: of {counted.total:,} that "{part.group}" granted in advance '
            f"{counted.used:,} are used."
        )
        case.add("agree", "proven", "budget", words, proof)
        return counted
    return None


def _times(number: int) -> str:
    if not number:
        return "no more"
    return "once more" if number == 1 else f"{number:,} more times"
