"""Finding a path: from a certificate upwards, every fork tried, every step judged at once.

Depth first over issuers by name (RFC 4158), the likeliest first. Hostile bundles may hold
exponentially many paths; the search has a budget and says when it is spent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from tpmhsm.pki.general_names import NameKey
from tpmhsm.pki.path_certificate import Fault, PathCertificate
from tpmhsm.pki.path_keys import Budget, completed, is_incomplete
from tpmhsm.pki.path_rules import (
    Rules,
    constraint_fault,
    date_faults,
    issuer_faults,
    own_faults,
    signature_faults,
)

MAX_LENGTH = 32
"""Certificates in a path."""

_NAMES_A_STEP = 5
"""Names held against the constraints of one CA that cost as much as one step."""

Path = tuple[PathCertificate, ...]
"""Leaf first, anchor last."""


class Finding(NamedTuple):
    """A fault of the certificate at `position` of a path (leaf first)."""

    position: int
    fault: Fault


@dataclass(frozen=True)
class Candidate:
    """A chain of signatures from the leaf to an anchor, and what is wrong with it."""

    path: Path
    findings: tuple[Finding, ...] = ()


class Forest:
    """The certificates of one question, by the names of their subjects."""

    def __init__(
        self, anchors: Iterable[PathCertificate], others: Iterable[PathCertificate]
    ) -> None:
        self.anchors = {item.raw: item for item in anchors}
        self._named: dict[NameKey, dict[bytes, PathCertificate]] = {}
        for item in (*self.anchors.values(), *others):
            self._named.setdefault(item.subject_key, {}).setdefault(item.raw, item)
        self._rooted: dict[datetime, frozenset[NameKey]] = {}
        self._ordered: dict[tuple[NameKey, bytes | None, datetime], list[PathCertificate]] = {}

    def rooted(self, at: datetime) -> frozenset[NameKey]:
        """The names of CAs from which names lead up to an anchor valid at that moment.

        What is not among them is a dead end, however many paths lead into it.
        """
        if at not in self._rooted:
            issued: dict[NameKey, set[NameKey]] = {}
            for certificates in self._named.values():
                for item in certificates.values():
                    issued.setdefault(item.issuer_key, set()).add(item.subject_key)
            fresh = (item for item in self.anchors.values() if not any(date_faults(item, at)))
            wanted, seen = [item.subject_key for item in fresh], set[NameKey]()
            while wanted:
                name = wanted.pop()
                if name not in seen:
                    seen.add(name)
                    wanted += issued.get(name, ())
            self._rooted[at] = frozenset(seen)
        return self._rooted[at]

    def named(self, key: NameKey) -> list[PathCertificate]:
        """All certificates of one subject, anchors first."""
        return list(self._named.get(key, {}).values())

    def is_anchor(self, certificate: PathCertificate) -> bool:
        """Whether it is trusted."""
        return certificate.raw in self.anchors

    def issuers(self, child: PathCertificate, rules: Rules) -> list[PathCertificate]:
        """Those that may have issued it, the likeliest first."""
        wanted = child.authority_key.key if child.authority_key else None
        if (found := self._ordered.get((child.issuer_key, wanted, rules.at))) is not None:
            return found

        def order(item: PathCertificate) -> tuple[bool, ...]:
            known = wanted is not None and item.subject_id is not None
            return (
                known and item.subject_id != wanted,
                not self.is_anchor(item),
                any(date_faults(item, rules.at)),
                not known,
            )

        found = sorted(self.named(child.issuer_key), key=order)
        self._ordered[child.issuer_key, wanted, rules.at] = found
        return found


class Search:
    """The candidates for one leaf. `strict`: only chains without a fault are followed."""

    def __init__(
        self, forest: Forest, rules: Rules, budget: Budget, *, strict: bool = True
    ) -> None:
        self._forest, self._rules, self._budget = forest, rules, budget
        self._strict = strict

    def candidates(self, leaf: PathCertificate) -> Iterator[Candidate]:
        """Chains that reach an anchor. TooComplexError when the budget is spent."""
        faults = tuple(Finding(0, fault) for fault in self._leaf_faults(leaf))
        if self._strict and faults:
            return
        if self._forest.is_anchor(leaf):
            yield Candidate((leaf,), faults)
        yield from self._extend((leaf,), faults)

    def climb(self, leaf: PathCertificate) -> tuple[Path, bool]:
        """(how far signatures lead, whether a namesake of the missing issuer is here)."""
        path: Path = (leaf,)
        while len(path) < MAX_LENGTH:
            named = self._forest.issuers(path[-1], self._rules)
            others = [item for item in named if not _repeats(item, path)]
            issuer = next((item for item in others if self._may_have_signed(path, item)), None)
            if issuer is None:
                return path, bool(others)
            path = (*path, issuer)
        return path, False

    def _leaf_faults(self, leaf: PathCertificate) -> Iterator[Fault]:
        yield from own_faults(leaf, self._rules)
        if not self._forest.is_anchor(leaf):
            yield from signature_faults(leaf)

    def _extend(self, path: Path, findings: tuple[Finding, ...]) -> Iterator[Candidate]:
        child = path[-1]
        for issuer in self._forest.issuers(child, self._rules):
            self._budget.step()
            if self._strict and self._is_hopeless(issuer):
                continue
            if _repeats(issuer, path) or not self._may_have_signed(path, issuer):
                continue
            self._budget.step(5 + len(path))
            anchor = self._forest.is_anchor(issuer)
            found = findings + tuple(self._judge(issuer, path, anchor))
            if self._strict and found:
                continue
            longer = (*path, issuer)
            if anchor:
                if holds(longer, self._budget):
                    yield Candidate(longer, found)
            elif len(longer) < MAX_LENGTH:
                yield from self._extend(longer, found)

    def _is_hopeless(self, issuer: PathCertificate) -> bool:
        """Known without any arithmetic to lead nowhere."""
        if any(own_faults(issuer, self._rules)):
            return True
        rooted = self._forest.rooted(self._rules.at)
        return not self._forest.is_anchor(issuer) and issuer.issuer_key not in rooted

    def _may_have_signed(self, path: Path, issuer: PathCertificate) -> bool:
        """By name it did; keys that inherit their parameters are judged when the path is whole."""
        if is_incomplete(issuer.spki):
            return True
        child = path[-1]
        return self._budget.is_signed(child.tbs, child.algorithm, child.signature, issuer.spki)

    def _judge(self, issuer: PathCertificate, path: Path, anchor: bool) -> Iterator[Finding]:
        for fault in issuer_faults(issuer, path, self._rules, anchor=anchor):
            yield Finding(len(path), fault)
        if issuer.subtrees is not None:
            self._budget.step(sum(len(item.names) for item in path) // _NAMES_A_STEP)
        if broken := constraint_fault(issuer, path):
            yield Finding(*broken)


def _repeats(issuer: PathCertificate, path: Path) -> bool:
    return any(issuer.spki == item.spki and issuer.subject_key == item.subject_key for item in path)


def working_keys(path: Sequence[PathCertificate]) -> list[bytes]:
    """The SubjectPublicKeyInfo of each certificate, inherited parameters put in."""
    keys = [path[-1].spki]
    for item in reversed(path[:-1]):
        keys.append(completed(item.spki, keys[-1]))
    return keys[::-1]


def holds(path: Path, budget: Budget) -> bool:
    """Whether every signature of a whole path holds."""
    keys = working_keys(path)
    return all(
        budget.is_signed(child.tbs, child.algorithm, child.signature, keys[i + 1])
        for i, child in enumerate(path[:-1])
    )
