"""Which certificate issued which: chains, bundles in their order, and a tree with days left.

Links are made by name and proven by signature; dates and rules are `verify`'s business.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from cryptography import x509

from tpmhsm.errors import NotFoundError
from tpmhsm.pki.describe import certificate_der, describe_certificate
from tpmhsm.pki.signatures import is_signed_by, split_signed
from tpmhsm.pki.tbs import TbsCertificate, read_tbs_certificate

AnyCertificate = x509.Certificate | bytes
"""A certificate as an object, or as DER (also one that `cryptography` cannot load)."""

C = TypeVar("C", bound=AnyCertificate)

_MOST_LOOKS = 2000
"""So many signatures are checked for one chain: crossed certificates have more paths than that."""

_DEEPEST = 32


def fields_of(certificate: AnyCertificate) -> TbsCertificate:
    """The undecoded fields of a certificate."""
    return read_tbs_certificate(split_signed(certificate_der(certificate))[0])


def is_issued_by(certificate: AnyCertificate, issuer: AnyCertificate) -> bool:
    """Names match and the issuer's key made the signature."""
    child, parent = fields_of(certificate), fields_of(issuer)
    if child.issuer != parent.subject:
        return False
    return is_signed_by(certificate_der(certificate), parent.spki)


class Links(Generic[C]):
    """Which certificates of a pool issued one: those in force first; of these `own` ones before
    others (a stranger may have certified the same key), then roots, then those valid longest.
    """

    def __init__(
        self,
        pool: Iterable[C],
        own: Collection[C] = (),
        now: datetime | None = None,
        looks: int = _MOST_LOOKS,
    ) -> None:
        self._own = own
        self._now = now or datetime.now(UTC)
        self._left = looks
        self._named: dict[bytes, list[C]] = {}
        for candidate in pool:
            self._named.setdefault(fields_of(candidate).subject, []).append(candidate)
        for found in self._named.values():
            found.sort(key=self._rank, reverse=True)

    def _rank(self, item: C) -> tuple[bool, bool, bool, datetime]:
        fields = fields_of(item)
        root = fields.issuer == fields.subject
        return self.is_in_force(item), item in self._own, root, fields.not_after

    def is_in_force(self, item: C) -> bool:
        """Whether it has begun and has not ended."""
        fields = fields_of(item)
        return fields.not_before <= self._now <= fields.not_after

    def issuers(self, certificate: C) -> Iterator[C]:
        """The best first; none of a self-signed certificate, nor after very many looks."""
        if is_self_signed(certificate):
            return
        for candidate in self._named.get(fields_of(certificate).issuer, []):
            if self._left <= 0:
                return
            self._left -= 1
            if candidate != certificate and is_issued_by(certificate, candidate):
                yield candidate

    def chain(self, certificate: C) -> list[C]:
        """From the certificate up to a root, or as far as the pool reaches; itself first.

        Nothing that is not in force takes the place of something that is.
        """
        sound = _Climb(self, only_in_force=True)
        if found := sound.up([certificate]):
            return found
        looser = _Climb(self, only_in_force=False)
        found = looser.up([certificate]) or looser.furthest
        known = len(sound.furthest)
        return found if found[:known] == sound.furthest else sound.furthest


class _Climb(Generic[C]):
    """A search for a root: depth first, no CA twice. `furthest` is how far it came without."""

    def __init__(self, links: Links[C], *, only_in_force: bool) -> None:
        self._links = links
        self._only_in_force = only_in_force
        self.furthest: list[C] = []

    def up(self, chain: list[C]) -> list[C] | None:
        if len(chain) > len(self.furthest):
            self.furthest = chain
        if is_self_signed(chain[-1]):
            return chain
        met = {_entity(one) for one in chain}
        for issuer in self._links.issuers(chain[-1]) if len(chain) < _DEEPEST else ():
            if self._only_in_force and not self._links.is_in_force(issuer):
                continue
            if _entity(issuer) not in met and (found := self.up([*chain, issuer])):
                return found
        return None


def _entity(certificate: AnyCertificate) -> tuple[bytes, bytes]:
    fields = fields_of(certificate)
    return fields.subject, fields.spki


def is_self_signed(certificate: AnyCertificate) -> bool:
    """Its own key made its signature, under its own name."""
    fields = fields_of(certificate)
    return fields.issuer == fields.subject and is_issued_by(certificate, certificate)


def build_chain(certificate: C, pool: Iterable[C], own: Collection[C] = ()) -> list[C]:
    """From the certificate upwards as far as the pool reaches, itself first, the root last.

    `own` certificates of the pool go before others of the same CA. Bounded in time.
    """
    return Links(pool, own).chain(certificate)


def export_bundle(chain: Sequence[C], form: str) -> list[C]:
    """`leaf`: the first; `chain`: the CAs between it and the root; `fullchain`: both, no root.

    A chain that is a root alone gives the root. NotFoundError for another form.
    """
    if not chain:
        raise NotFoundError("there is no certificate to export")
    middle: list[C] = [item for item in chain[1:] if not is_self_signed(item)]
    forms: dict[str, list[C]] = {
        "leaf": [chain[0]],
        "chain": middle,
        "fullchain": [chain[0], *middle],
    }
    if form not in forms:
        raise NotFoundError(f"no such form {form!r}", hint=f"choose one of {', '.join(forms)}")
    return forms[form]


def chain_tree(
    certificates: Iterable[C], now: datetime | None = None, own: Collection[C] = ()
) -> list[dict[str, Any]]:
    """Roots (and certificates whose issuer is not here) with what each issued, nested.

    A node has `subject`, `serial`, `sha256`, `not_after`, `days_left`, `ca`, `self_signed`,
    `issuer` (its name), `complete` (False when the issuer is missing) and `issued`: nodes.
    """
    now = now or datetime.now(UTC)
    pool = list(dict.fromkeys(certificates))
    links = Links(pool, own, now, looks=_MOST_LOOKS + 20 * len(pool))
    issuers = {item: next(links.issuers(item), None) for item in pool}
    nodes = {item: _node(item, now) for item in pool}
    roots = []
    for item, issuer in issuers.items():
        if issuer is None or _is_cycle(item, issuers):
            nodes[item]["complete"] = bool(nodes[item]["self_signed"])
            roots.append(nodes[item])
        else:
            nodes[issuer]["issued"].append(nodes[item])
    return roots


def _is_cycle(start: object, issuers: Mapping[Any, object]) -> bool:
    """Two CAs may have certified each other: such a pair must still appear in the tree."""
    seen, current = {start}, issuers[start]
    while current is not None and current not in seen:
        seen.add(current)
        current = issuers.get(current)
    return current is start


def _node(certificate: AnyCertificate, now: datetime) -> dict[str, Any]:
    facts = describe_certificate(certificate, now)
    wanted = "subject issuer serial sha256 not_before not_after days_left ca self_signed sans"
    return {name: facts[name] for name in wanted.split()} | {"complete": True, "issued": []}


def tree_lines(nodes: Sequence[dict[str, Any]]) -> list[str]:
    """The tree drawn, one certificate a line."""
    lines: list[str] = []
    for node in nodes:
        lines.append(_line(node))
        lines += _branches(node, "")
    return lines


def _branches(node: dict[str, Any], indent: str) -> list[str]:
    lines = []
    issued = node["issued"]
    for position, child in enumerate(issued):
        last = position == len(issued) - 1
        lines.append(f"{indent}{'└─ ' if last else '├─ '}{_line(child)}")
        lines += _branches(child, indent + ("   " if last else "│  "))
    return lines


def _line(node: dict[str, Any]) -> str:
    left = node["days_left"]
    when = f"{left} days left" if left >= 0 else f"EXPIRED {-left} days ago"
    name = node["subject"] or ", ".join(node["sans"]) or node["serial"]
    missing = "" if node["complete"] else f"; its issuer {node['issuer']} is not here"
    return f"{name}  {when}, {node['not_after'][:10]}{missing}"
