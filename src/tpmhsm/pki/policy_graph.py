"""Certificate policies along a path (RFC 5280 section 6.1 as RFC 9618 amends it).

A graph instead of the tree of RFC 5280: one node for each policy at each depth, so the work grows
with the size of the certificates and not with the product of their mappings (CVE-2023-0464).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tpmhsm.pki.path_certificate import ANY_POLICY, Fault, PathCertificate


@dataclass(frozen=True)
class PolicyInput:
    """What the asker demands (RFC 5280, 6.1.1 (c), (e) to (g)). No `initial` means any policy."""

    initial: frozenset[str] = frozenset()
    explicit: bool = False
    inhibit_mapping: bool = False
    inhibit_any: bool = False


@dataclass
class _Node:
    """A policy at one depth. `expected`: what the next certificate may call it."""

    policy: str
    parents: tuple[_Node, ...]
    expected: set[str] = field(default_factory=set)


_Level = dict[str, _Node]


class _Graph:
    """The levels so far; the last may be empty, which is the NULL of RFC 5280."""

    def __init__(self, given: PolicyInput, length: int) -> None:
        root = _Node(ANY_POLICY, (), {ANY_POLICY})
        self.levels: list[_Level] = [{ANY_POLICY: root}]
        self.explicit = 0 if given.explicit else length + 1
        self.mapping = 0 if given.inhibit_mapping else length + 1
        self.any = 0 if given.inhibit_any else length + 1

    def add(self, certificate: PathCertificate, last: bool) -> None:
        """Steps (d) and (e) of 6.1.3."""
        above, level = self.levels[-1], _Level()
        policies = certificate.policies or frozenset()
        expecting: dict[str, list[_Node]] = {}
        for node in above.values() if policies else ():
            for policy in node.expected:
                expecting.setdefault(policy, []).append(node)
        wild = above.get(ANY_POLICY)
        for policy in policies - {ANY_POLICY}:
            parents = expecting.get(policy) or ([wild] if wild else [])
            if parents:
                level[policy] = _Node(policy, tuple(parents), {policy})
        if ANY_POLICY in policies and (self.any > 0 or (not last and certificate.self_issued)):
            for policy, parents in expecting.items():
                if policy not in level:
                    level[policy] = _Node(policy, tuple(parents), {policy})
        self.levels.append(level)

    def map(self, certificate: PathCertificate) -> Fault | None:
        """Steps (a) and (b) of 6.1.4."""
        mapped: dict[str, set[str]] = {}
        for issuer, subject in certificate.mappings or ():
            if ANY_POLICY in (issuer, subject):
                return Fault("policy", "maps certificate policies to or from any policy")
            mapped.setdefault(issuer, set()).add(subject)
        level = self.levels[-1]
        for issuer, subjects in mapped.items():
            if self.mapping == 0:
                level.pop(issuer, None)
            elif issuer in level:
                level[issuer].expected = subjects
            elif ANY_POLICY in level:
                level[issuer] = _Node(issuer, level[ANY_POLICY].parents, subjects)
        return None

    def tighten(self, certificate: PathCertificate) -> None:
        """Steps (h) to (j) of 6.1.4."""
        if not certificate.self_issued:
            self.explicit = max(0, self.explicit - 1)
            self.mapping = max(0, self.mapping - 1)
            self.any = max(0, self.any - 1)
        if constraints := certificate.policy_constraints:
            if constraints.require_explicit is not None:
                self.explicit = min(self.explicit, constraints.require_explicit)
            if constraints.inhibit_mapping is not None:
                self.mapping = min(self.mapping, constraints.inhibit_mapping)
        if certificate.inhibit_any is not None:
            self.any = min(self.any, certificate.inhibit_any)

    def granted(self) -> frozenset[str]:
        """The policies that the authorities grant, in the words of the anchor's domain."""
        granted: set[str] = set()
        alive: Iterable[_Node] = self.levels[-1].values()
        for _ in self.levels[1:]:
            above: dict[int, _Node] = {}
            for node in alive:
                if any(parent.policy == ANY_POLICY for parent in node.parents):
                    granted.add(node.policy)
                above.update({id(parent): parent for parent in node.parents})
            alive = above.values()
        if len(self.levels) == 1 or ANY_POLICY in self.levels[-1]:
            granted.add(ANY_POLICY)
        else:
            granted.discard(ANY_POLICY)
        return frozenset(granted)


def process_policies(
    path: Sequence[PathCertificate], given: PolicyInput
) -> tuple[frozenset[str], tuple[int, Fault] | None]:
    """(user-constrained policies, fault): `path` from below the anchor to the leaf.

    The fault comes with the position in `path` of the certificate at which policies end.
    """
    graph = _Graph(given, len(path))
    for position, certificate in enumerate(path):
        last = position == len(path) - 1
        graph.add(certificate, last)
        if graph.explicit == 0 and not graph.levels[-1]:
            return frozenset(), (position, _NO_POLICY)
        if not last:
            if fault := graph.map(certificate):
                return frozenset(), (position, fault)
            graph.tighten(certificate)
    return _wrap_up(graph, path, given)


_NO_POLICY = Fault("policy", "holds no certificate policy that holds from the root down to it")


def _wrap_up(
    graph: _Graph, path: Sequence[PathCertificate], given: PolicyInput
) -> tuple[frozenset[str], tuple[int, Fault] | None]:
    """RFC 5280, 6.1.5 (a), (b) and (g)."""
    explicit = max(0, graph.explicit - 1)
    constraints = path[-1].policy_constraints if path else None
    if constraints and constraints.require_explicit == 0:
        explicit = 0
    granted = graph.granted()
    if given.initial and ANY_POLICY not in given.initial:
        granted = given.initial if ANY_POLICY in granted else granted & given.initial
    if path and explicit == 0 and not granted:
        return granted, (len(path) - 1, _NO_POLICY)
    return granted, None
