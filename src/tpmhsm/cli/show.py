"""What any file is, and what is in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tpmhsm.cli.app import App, facts
from tpmhsm.cli.files import naming
from tpmhsm.cli.words import one_line
from tpmhsm.errors import ParseError, TpmHsmError

Shown = tuple[dict[str, Any], str]


def show_bytes(app: App, data: bytes, what: str) -> None:
    """Print what a file is. Raises ParseError when it is nothing that is known here."""
    for kind, attempt in _ATTEMPTS:
        if (shown := attempt(data)) is not None:
            found, words = shown
            app.emit({"type": kind, **found}, f"{what}: {kind}\n{words}")
            return
    raise ParseError(
        f"{what} is nothing that is known here",
        hint="certificates, CSRs and CRLs (PEM or DER), requests, approvals, cards, keys",
    )


def show_request_bytes(app: App, data: bytes, what: str) -> None:
    """Print a request file. Raises ParseError."""
    from tpmhsm.approval.request import parse_request

    with naming(what):
        parse_request(data)
    show_bytes(app, data, what)


def _certificate(data: bytes) -> Shown | None:
    from tpmhsm.pki.describe import certificate_lines, describe_certificate
    from tpmhsm.pki.load import certificate_ders

    ders = _try(lambda: certificate_ders(data))
    if not ders:
        return None
    found = [describe_certificate(der) for der in ders]
    words = "\n\n".join(facts(certificate_lines(one)) for one in found)
    return ({**found[0], "items": found}, words)


def _csr(data: bytes) -> Shown | None:
    from tpmhsm.pki.csr import load_csr
    from tpmhsm.pki.describe import csr_lines, describe_csr

    loaded = _try(lambda: load_csr(data))
    if loaded is None:
        return None
    found = describe_csr(loaded)
    return found, facts(csr_lines(found))


def _crl(data: bytes) -> Shown | None:
    from tpmhsm.pki.load import load_crls
    from tpmhsm.pki.names import format_dn

    loaded = _try(lambda: load_crls(data))
    if not loaded:
        return None
    crl = loaded[0]
    found = {
        "issuer": format_dn(crl.issuer),
        "this_update": _time(crl.last_update_utc),
        "next_update": _time(crl.next_update_utc),
        "entries": len(crl),
    }
    return found, facts([(k.replace("_", " ").capitalize(), v) for k, v in found.items()])


def _time(moment: Any) -> str:
    from tpmhsm.pki.tbs import rfc3339

    return rfc3339(moment) if moment else ""


def _request(data: bytes) -> Shown | None:
    from tpmhsm.approval import moments
    from tpmhsm.approval.acts import rule_of
    from tpmhsm.approval.request import is_request, parse_request
    from tpmhsm.policy.people import needed

    if not is_request(data):
        return None
    request = parse_request(data)
    found = {
        "id": request.id,
        "kind": request.kind,
        "group": request.group.name,
        "key": request.key.label if request.key else None,
        "needed": needed(rule_of(request)),
        "approvals": [approval.approver for approval in request.approvals],
        "denials": [denial.approver for denial in request.denials],
        "digest": request.digest.hex(),
        "created": moments.stamp(request.created),
        "expires": moments.stamp(request.expires),
        "claims": {"reason": request.claims.reason, "profile": request.claims.profile},
    }
    lines = _lines({k: v for k, v in found.items() if k != "claims"})
    return found, f"{lines}\n(tpmhsm approve decodes and checks it for an approver)"


def _vote(data: bytes) -> Shown | None:
    from tpmhsm.approval.votes import parse_approval, parse_denial

    if (approval := _try(lambda: parse_approval(data))) is not None:
        found = {
            "vote": "approval",
            "request": approval.request,
            "approver": approval.approver,
            "digest": approval.digest.hex(),
            "facts": dict(approval.facts),
        }
        return found, _lines({k: v for k, v in found.items() if k != "facts"})
    if (denial := _try(lambda: parse_denial(data))) is not None:
        found = {
            "vote": "denial",
            "request": denial.request,
            "approver": denial.approver,
            "digest": denial.digest.hex(),
            "reason": denial.reason,
        }
        return found, _lines(found)
    return None


def _card(data: bytes) -> Shown | None:
    from tpmhsm.approval.cards import (
        describe_card,
        describe_device_card,
        parse_card,
        parse_device_card,
    )

    if (card := _try(lambda: parse_card(data))) is not None:
        found = describe_card(card)
        return found, _lines(found)
    if (device := _try(lambda: parse_device_card(data))) is not None:
        found = describe_device_card(device)
        return found, _lines(found)
    return None


def _key(data: bytes) -> Shown | None:
    text = data.lstrip()
    if text.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----"):
        return {"key": "private, encrypted"}, "an encrypted private key (PKCS#8)"
    if b"PRIVATE KEY-----" in text[:64] and text.startswith(b"-----BEGIN "):
        return {"key": "private, NOT encrypted"}, "a private key that is NOT encrypted"
    if text.startswith(b"-----BEGIN PUBLIC KEY-----"):
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            key = load_pem_public_key(data)
        except ValueError:
            return None
        kind = type(key).__name__.removesuffix("PublicKey").lower()
        return {"key": "public", "alg": kind}, f"a public key: {kind}"
    return None


def _try(parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except TpmHsmError:
        return None


def _lines(found: dict[str, Any]) -> str:
    return facts([(k.replace("_", " ").capitalize(), one_line(_text(v))) for k, v in found.items()])


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value or "")


_ATTEMPTS: tuple[tuple[str, Callable[[bytes], Shown | None]], ...] = (
    ("request", _request),
    ("vote", _vote),
    ("card", _card),
    ("key", _key),
    ("csr", _csr),
    ("crl", _crl),
    ("certificate", _certificate),
)
