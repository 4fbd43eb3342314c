"""Which certificate issued which: chains, bundles in their order, and a tree with days left.

Links are made by name and proven by signature; dates and rules are `verify`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from tpmhsm.errors import NotFoundError, ParseError
from tpmhsm.pki.describe import certificate_der, describe_certificate, split_signed
from tpmhsm.pki.keys import load_spki
from tpmhsm.pki.tbs import TbsCertificate, read_tbs_certificate


def fields_of(certificate: x509.Certificate) -> TbsCertificate:
    """The undecoded fields of a loaded certificate."""
    return read_tbs_certificate(certificate.tbs_certificate_bytes)


def is_signed_by_spki(raw: bytes, spki: bytes) -> bool:
    """Whether the certificate (DER) carries a signature by the key (DER SubjectPublicKeyInfo)."""
    try:
        split_signed(raw)
        certificate = x509.load_der_x509_certificate(raw)
        _verify(certificate, load_spki(spki))
    except (ParseError, InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _verify(certificate: x509.Certificate, key: Any) -> None:
    algorithm: Any = certificate.signature_hash_algorithm
    parameters: Any = certificate.signature_algorithm_parameters
    data, signature = certificate.tbs_certificate_bytes, certificate.signature
    match type(parameters).__name__:
        case "ECDSA":
            key.verify(signature, data, parameters)
        case "PKCS1v15" | "PSS" if isinstance(algorithm, hashes.HashAlgorithm):
            key.verify(signature, data, parameters, algorithm)
        case _:
            key.verify(signature, data)


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Names match and the issuer's key made the signature."""
    child, parent = fields_of(certificate), fields_of(issuer)
    if child.issuer != parent.subject:
        return False
    return is_signed_by_spki(certificate_der(certificate), parent.spki)


def find_issuer(
    certificate: x509.Certificate, pool: Iterable[x509.Certificate]
) -> x509.Certificate | None:
    """The issuer in the pool; of several (renewed CAs) the one valid longest. None when absent.

    A self-signed certificate has no issuer.
    """
    if is_issued_by(certificate, certificate):
        return None
    found = [candidate for candidate in pool if is_issued_by(certificate, candidate)]
    return max(found, key=lambda item: fields_of(item).not_after, default=None)


def build_chain(
    certificate: x509.Certificate, pool: Iterable[x509.Certificate]
) -> list[x509.Certificate]:
    """From the certificate upwards as far as the pool reaches, itself first, the root last."""
    pool = list(pool)
    chain = [certificate]
    while (issuer := find_issuer(chain[-1], pool)) is not None and issuer not in chain:
        chain.append(issuer)
    return chain


def export_bundle(chain: Sequence[x509.Certificate], form: str) -> list[x509.Certificate]:
    """`leaf`: the first; `chain`: the CAs between it and the root; `fullchain`: both, root left out.

    A chain that is a root alone gives the root. NotFoundError for another form.
    """
    if not chain:
        raise NotFoundError("there is no certificate to export")
    middle = [item for item in chain[1:] if not is_issued_by(item, item)]
    forms = {"leaf": [chain[0]], "chain": middle, "fullchain": [chain[0], *middle]}
    if form not in forms:
        raise NotFoundError(f"no such form {form!r}", hint=f"choose one of {', '.join(forms)}")
    return forms[form]


def chain_tree(
    certificates: Iterable[x509.Certificate], now: datetime | None = None
) -> list[dict[str, Any]]:
    """Roots (and certificates whose issuer is not here) with what each issued, nested.

    A node has `subject`, `serial`, `sha256`, `not_after`, `days_left`, `ca`, `self_signed`,
    `issuer` (its name), `complete` (False when the issuer is missing) and `issued`: nodes.
    """
    now = now or datetime.now(UTC)
    pool = list(dict.fromkeys(certificates))
    issuers = {item: find_issuer(item, [c for c in pool if c != item]) for item in pool}
    nodes = {item: _node(item, now) for item in pool}
    roots = []
    for item, issuer in issuers.items():
        if issuer is None or _is_cycle(item, issuers):
            nodes[item]["complete"] = bool(nodes[item]["self_signed"])
            roots.append(nodes[item])
        else:
            nodes[issuer]["issued"].append(nodes[item])
    return roots


def _is_cycle(
    start: x509.Certificate, issuers: dict[x509.Certificate, x509.Certificate | None]
) -> bool:
    """Two CAs may have certified each other: such a pair must still appear in the tree."""
    seen, current = {start}, issuers[start]
    while current is not None and current not in seen:
        seen.add(current)
        current = issuers.get(current)
    return current is start


def _node(certificate: x509.Certificate, now: datetime) -> dict[str, Any]:
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
