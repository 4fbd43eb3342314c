"""Path building and validation (RFC 5280 section 6, RFC 9618) behind one function.

Finds a path whose every step, policies and revocation hold; of several, the first. When none does,
the fault that tells most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from tpmhsm.pki.crl_file import PathCrl
from tpmhsm.pki.path_certificate import Fault, PathCertificate
from tpmhsm.pki.path_keys import Budget, TooComplexError
from tpmhsm.pki.path_rules import Rules
from tpmhsm.pki.path_search import Candidate, Finding, Forest, Path, Search
from tpmhsm.pki.policy_graph import PolicyInput, process_policies
from tpmhsm.pki.revocation import Revocation

_MAX_EXPLAINED = 64
_EXPLAINING = {"signatures": 300, "steps": 20_000}


@dataclass(frozen=True)
class Question:
    """All that a path depends on. `strict_crls`: CRLs as the Baseline Requirements want them."""

    leaf: PathCertificate
    forest: Forest
    rules: Rules
    policies: PolicyInput = field(default_factory=PolicyInput)
    crls: Sequence[PathCrl] = ()
    require_crl: bool = False
    strict_crls: bool = False


@dataclass(frozen=True)
class Answer:
    """The path that holds; or `path` and `findings` of the best that does not; or neither.

    `crl_checked` are positions in `path` that a CRL settled; `spent` tells that paths were left
    untried.
    """

    path: Path = ()
    findings: tuple[Finding, ...] = ()
    crl_checked: tuple[int, ...] = ()
    policies: frozenset[str] = frozenset()
    spent: bool = False

    @property
    def valid(self) -> bool:
        """Whether it is an answer."""
        return bool(self.path) and not self.findings


def find_path(question: Question) -> Answer:
    """The first path that holds, or why there is none. Its work is bounded."""
    budget, failed, spent = Budget(), None, False
    search = Search(question.forest, question.rules, budget)
    try:
        for candidate in search.candidates(question.leaf):
            answer = _finish(question, candidate.path, budget)
            if answer.valid:
                return answer
            failed = failed or answer
    except TooComplexError:
        spent = True
    return failed or _refused(_explain(question), spent)


def _refused(found: Answer, spent: bool) -> Answer:
    """Never an answer that holds: where only the budget ended, policies and revocation were not
    looked at.
    """
    findings = found.findings or ((Finding(0, TOO_COMPLEX),) if found.path else ())
    return replace(found, findings=findings, spent=spent)


def _finish(question: Question, path: Path, budget: Budget) -> Answer:
    """Policies from the top down, then revocation."""
    budget.step(10 * len(path))
    below = path[-2::-1]
    policies, ended = process_policies(below, question.policies)
    if ended is not None:
        position, fault = ended
        return Answer(path, (Finding(len(below) - 1 - position, fault),))
    if not question.crls and not question.require_crl:
        return Answer(path, policies=policies)
    revocation = Revocation(
        sorted(question.crls, key=_age, reverse=True),
        question.forest,
        _SignerPaths(question, budget),
        question.rules.at,
        budget,
        strict=question.strict_crls,
    )
    finding, settled = revocation.check(path, require=question.require_crl)
    if finding is not None:
        return Answer(path, (finding,))
    return Answer(path, crl_checked=settled, policies=policies)


def _age(crl: PathCrl) -> tuple[datetime, int]:
    """Of several current CRLs the newest is asked first: an older one may not know better."""
    return crl.this_update, crl.number or 0


class _SignerPaths:
    """Paths from a CRL's signer to the anchor of the path in question (6.3.3 (f))."""

    def __init__(self, question: Question, budget: Budget) -> None:
        self._rules = Rules(question.rules.at)
        self._forest, self._budget = question.forest, budget

    def __call__(self, signer: PathCertificate, anchor: PathCertificate) -> Iterator[Path]:
        for candidate in Search(self._forest, self._rules, self._budget).candidates(signer):
            if candidate.path[-1] is anchor or candidate.path[-1].raw == anchor.raw:
                yield candidate.path


def _explain(question: Question) -> Answer:
    """The chain to an anchor with the fewest faults; an empty answer when none reaches one."""
    best: Candidate | None = None
    search = Search(question.forest, question.rules, Budget(**_EXPLAINING), strict=False)
    try:
        for count, candidate in enumerate(search.candidates(question.leaf)):
            if best is None or len(candidate.findings) < len(best.findings):
                best = candidate
            if count >= _MAX_EXPLAINED:
                break
    except TooComplexError:
        pass
    return Answer(best.path, best.findings) if best else Answer()


TOO_COMPLEX = Fault("too-complex", "has more possible paths than can be tried")
