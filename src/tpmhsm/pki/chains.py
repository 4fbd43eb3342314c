"""Which certificate issued which: chains, bundles in their order, and a tree with days left.

Links are made by name and proven by signature; dates and rules are `verify`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from cryptography import x509

from tpmhsm.errors import NotFoundError
from tpmhsm.pki.describe import certificate_der, describe_certificate
from tpmhsm.pki.signatures import is_signed_by, split_signed
from tpmhsm.pki.tbs import TbsCertificate, read_tbs_certificate

AnyCertificate = x509.Certificate | bytes
"""A certificate as an object, or as DER (also one that `cryptography` cannot load)."""

C = TypeVar("C", bound=AnyCertificate)


def fields_of(certificate: AnyCertificate) -> TbsCertificate:
    """The undecoded fields of a certificate."""
    return read_tbs_certificate(split_signed(certificate_der(certificate))[0])


def is_issued_by(certificate: AnyCertificate, issuer: AnyCertificate) -> bool:
    """Names match and the issuer's key made the signature."""
    child, parent = fields_of(certificate), fields_of(issuer)
    if child.issuer != parent.subject:
        return False
    return is_signed_by(certificate_der(certificate), parent.spki)


def _by_subject(pool: Iterable[C]) -> dict[bytes, list[C]]:
    index: dict[bytes, list[C]] = {}
    for candidate in pool:
        index.setdefault(fields_of(candidate).subject, []).append(candidate)
    return index


def find_issuer(certificate: C, pool: Iterable[C]) -> C | None:
    """The issuer in the pool; of several (renewed CAs) the one valid longest. None when absent.

    A self-signed certificate has no issuer.
    """
    return _find(certificate, _by_subject(pool))


def _find(certificate: C, index: dict[bytes, list[C]]) -> C | None:
    fields = fields_of(certificate)
    if fields.issuer == fields.subject and is_issued_by(certificate, certificate):
        return None
    named = index.get(fields.issuer, [])
    found = [c for c in named if c != certificate and is_issued_by(certificate, c)]
    return max(found, key=lambda item: fields_of(item).not_after, default=None)


def build_chain(certificate: C, pool: Iterable[C]) -> list[C]:
    """From the certificate upwards as far as the pool reaches, itself first, the root last."""
    index = _by_subject(pool)
    chain = [certificate]
    while (issuer := _find(chain[-1], index)) is not None and issuer not in chain:
        chain.append(issuer)
    return chain


def export_bundle(chain: Sequence[C], form: str) -> list[C]:
    """`leaf`: the first; `chain`: the CAs between it and the root; `fullchain`: both, no root.

    A chain that is a root alone gives the root. NotFoundError for another form.
    """
    if not chain:
        raise NotFoundError("there is no certificate to export")
    middle: list[C] = [item for item in chain[1:] if not is_issued_by(item, item)]
    forms: dict[str, list[C]] = {
        "leaf": [chain[0]],
        "chain": middle,
        "fullchain": [chain[0], *middle],
    }
    if form not in forms:
        raise NotFoundError(f"no such form {form!r}", hint=f"choose one of {', '.join(forms)}")
    return forms[form]


def chain_tree(certificates: Iterable[C], now: datetime | None = None) -> list[dict[str, Any]]:
    """Roots (and certificates whose issuer is not here) with what each issued, nested.

    A node has `subject`, `serial`, `sha256`, `not_after`, `days_left`, `ca`, `self_signed`,
    `issuer` (its name), `complete` (False when the issuer is missing) and `issued`: nodes.
    """
    now = now or datetime.now(UTC)
    pool = list(dict.fromkeys(certificates))
    index = _by_subject(pool)
    issuers = {item: _find(item, index) for item in pool}
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
