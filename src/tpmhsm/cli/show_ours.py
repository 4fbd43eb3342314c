"""Files of our own, as JSON: requests, approvals and denials, cards, documents of groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tpmhsm.cli.app import facts
from tpmhsm.cli.words import one_line
from tpmhsm.errors import TpmHsmError

Shown = tuple[dict[str, Any], str]


def show_ours(data: bytes) -> tuple[str, Shown] | None:
    """The kind of one of our files with its facts and words; None for anything else."""
    if data.lstrip()[:1] != b"{":
        return None
    for kind, attempt in _ATTEMPTS:
        if (shown := attempt(data)) is not None:
            return kind, shown
    return None


def _request(data: bytes) -> Shown | None:
    from tpmhsm.approval.acts import rule_of
    from tpmhsm.approval.request import is_request, parse_request
    from tpmhsm.policy import moments
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
    words = lines_of({k: v for k, v in found.items() if k != "claims"})
    return found, f"{words}\n(tpmhsm approve decodes and checks it for an approver)"


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
        return found, lines_of({k: v for k, v in found.items() if k != "facts"})
    if (denial := _try(lambda: parse_denial(data))) is not None:
        found = {
            "vote": "denial",
            "request": denial.request,
            "approver": denial.approver,
            "digest": denial.digest.hex(),
            "reason": denial.reason,
        }
        return found, lines_of(found)
    return None


def _ceremony(data: bytes) -> Shown | None:
    from tpmhsm.approval.ceremony import is_ceremony, parse_ceremony
    from tpmhsm.approval.content import short_facts

    if not is_ceremony(data):
        return None
    ceremony = parse_ceremony(data)
    acts = [
        {
            "request": one.id,
            "kind": one.kind,
            "key": one.key.label if one.key else None,
            "digest": one.digest.hex(),
            "content": short_facts(one),
            "approvals": [approval.approver for approval in one.approvals],
        }
        for one in ceremony.requests
    ]
    found = {"group": ceremony.founding.group.name, "digest": ceremony.digest.hex(), "acts": acts}
    words = [
        f"{one.id}  {one.kind} {short_facts(one).get('subject', '')}".rstrip()
        for one in ceremony.requests
    ]
    shown = lines_of({"group": found["group"], "digest": found["digest"]})
    last = "(tpmhsm approve decodes and checks all of it for an approver)"
    return found, "\n".join([shown, *map(one_line, words), last])


def _ceremony_approval(data: bytes) -> Shown | None:
    from tpmhsm.approval.ceremony import is_ceremony_approval, parse_ceremony_approval

    if not is_ceremony_approval(data):
        return None
    given = parse_ceremony_approval(data)
    found = {
        "ceremony": given.ceremony.hex(),
        "approver": given.approvals[0].approver,
        "requests": [one.request for one in given.approvals],
    }
    return found, f"{lines_of(found)}\n(on the CA host: tpmhsm ceremony FILE)"


def _card(data: bytes) -> Shown | None:
    from tpmhsm.approval.cards import (
        describe_card,
        describe_device_card,
        parse_card,
        parse_device_card,
    )

    if (card := _try(lambda: parse_card(data))) is not None:
        found = describe_card(card)
        return found, lines_of(found)
    if (device := _try(lambda: parse_device_card(data))) is not None:
        found = describe_device_card(device)
        return found, lines_of(found)
    return None


def _group(data: bytes) -> Shown | None:
    from tpmhsm.policy.group import parse_group, parse_roster

    data = data.strip()
    if (group := _try(lambda: parse_group(data))) is not None:
        found = {"document": "group", "name": group.name, "id": group.id.hex()}
        return found, lines_of(found)
    if (roster := _try(lambda: parse_roster(data))) is not None:
        found = {
            "document": "roster",
            "group": roster.group.hex(),
            "epoch": roster.epoch,
        }
        return found, lines_of(found)
    return None


def _certified(data: bytes) -> Shown | None:
    from tpmhsm.approval.live import is_answer, parse_answer
    from tpmhsm.policy.people import describe_rule

    if not is_answer(data):
        return None
    answer = parse_answer(data)
    found = {
        "group": answer.group.name,
        "id": answer.group.id.hex(),
        "epoch": answer.roster.epoch,
        "officers": describe_rule(answer.roster.officers),
        "nonce": answer.nonce.hex(),
        "device": answer.device.label,
    }
    words = "not checked yet: tpmhsm trust check, in the home that made the nonce, does it"
    return found, f"{lines_of(found)}\n({words})"


def _recovery(data: bytes) -> Shown | None:
    from tpmhsm.keys.recovery import is_recovery, parse_recovery

    if not is_recovery(data):
        return None
    file = parse_recovery(data)
    found = {"device": file.device, "ak_name": file.ak_name.hex(), "made": file.made}
    words = "the password of the chip's lockout hierarchy, encrypted: keep it away from the chip"
    return found, f"{lines_of(found)}\n({words})"


def _vendor_roots(data: bytes) -> Shown | None:
    from tpmhsm.attest.roots import KINDS, is_pins, parse_pins

    if not is_pins(data):
        return None
    pins = parse_pins(data)
    counted = {kind: sum(one.kind == kind for one in pins.roots) for kind in KINDS}
    found = {"roots": len(pins.roots), **counted, "intermediates": len(pins.intermediates)}
    return found, lines_of(found)


def _evidence(data: bytes) -> Shown | None:
    from tpmhsm.cli.show_evidence import show_evidence

    return show_evidence(data)


def _minutes(data: bytes) -> Shown | None:
    from tpmhsm.cli.minutes import show_minutes

    return show_minutes(data)


def _challenge(data: bytes) -> Shown | None:
    from tpmhsm.cli.show_evidence import show_challenge

    return show_challenge(data)


def _response(data: bytes) -> Shown | None:
    from tpmhsm.cli.show_evidence import show_response

    return show_response(data)


def _try(parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except TpmHsmError:
        return None


def lines_of(found: Mapping[str, Any]) -> str:
    """Facts as lines for people."""
    return facts([(_title(name), one_line(_text(value))) for name, value in found.items()])


def _title(name: str) -> str:
    """`EK certificates` for `ek_certificates`."""
    first, *rest = name.replace("_", " ").split(" ")
    return " ".join([first.upper() if first in _SHORT else first.capitalize(), *rest])


_SHORT = ("ak", "ek", "ssh", "tpm")


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value or "")


def _group_export(data: bytes) -> Shown | None:
    from tpmhsm.cli.show_copies import show_export

    return show_export(data)


def _backup(data: bytes) -> Shown | None:
    from tpmhsm.cli.show_copies import show_backup

    return show_backup(data)


_ATTEMPTS: tuple[tuple[str, Callable[[bytes], Shown | None]], ...] = (
    ("request", _request),
    ("vote", _vote),
    ("ceremony", _ceremony),
    ("ceremony-approval", _ceremony_approval),
    ("card", _card),
    ("group", _group),
    ("group-export", _group_export),
    ("backup", _backup),
    ("certified-state", _certified),
    ("recovery", _recovery),
    ("vendor-roots", _vendor_roots),
    ("evidence", _evidence),
    ("minutes", _minutes),
    ("challenge", _challenge),
    ("response", _response),
)
