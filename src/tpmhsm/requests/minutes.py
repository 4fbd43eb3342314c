"""What a ceremony puts into its minutes, from the database of the host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tpmhsm.approval.minutes import (
    ActMinutes,
    CertificateMinutes,
    EvidenceMinutes,
    KeyMinutes,
    Minutes,
    Note,
    Step,
)
from tpmhsm.keys.host import load_host
from tpmhsm.policy import moments
from tpmhsm.policy.group import parse_roster
from tpmhsm.policy.people import members_of
from tpmhsm.requests.ceremony import ISSUER_CA, ISSUER_KEY, ROOT_CA, ROOT_KEY
from tpmhsm.requests.drafts import device_card

if TYPE_CHECKING:
    from tpmhsm.attest.verdicts import Judgement
    from tpmhsm.requests.ceremony import Held
    from tpmhsm.requests.desk import Desk
    from tpmhsm.store import Store
    from tpmhsm.store.audit import AuditRow


@dataclass(frozen=True)
class Said:
    """What people say of a ceremony: its place, who was present without a key, and remarks."""

    place: str = ""
    witnesses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def minutes_of(store: Store, desk: Desk, held: Held, judgement: Judgement, said: Said) -> Minutes:
    """The minutes of a ceremony whose acts were all executed."""
    from tpmhsm import __version__

    host, roster = load_host(store), parse_roster(held.roster)
    numbers = [*(held.requests or {}).values(), *([held.anew] if held.anew else ())]
    requests = [(desk.get(number), desk.request(number)) for number in numbers]
    group = requests[0][1].group
    with store.reading() as tx:
        # what was made since, by whoever went on before the last act was done, is not of it
        made = {ROOT_KEY, ROOT_CA, *((ISSUER_KEY, ISSUER_CA) if held.wanted.issuer else ())}
        keys = [row for row in tx.keys.all() if row.label in made and row.group_id == held.group]
        authorities = [row for row in tx.authorities.all() if row.name in made]
        certificates = [(a.name, tx.certificates.find(a.certificate or "")) for a in authorities]
        log = tx.audit.all()
    cards = desk.drafts.cards()
    people = {m.name for m in (*members_of(group.custodians), *members_of(roster.officers))}
    ended = moments.now()
    anew = [] if not held.anew else [
        Note(ended, "deviation", "the first grant was over before it was approved; asked for anew")
    ]  # fmt: skip
    return Minutes(
        title=f"Founding of {held.wanted.group}",
        place=said.place,
        program=f"tpmhsm {__version__}",
        began=_moment(held.begun),
        ended=ended,
        device=device_card(host),
        maker=" ".join(filter(None, map(str, _maker(host.facts)))),
        group=group,
        roster=roster,
        cards=tuple(cards[name] for name in sorted(people)),
        witnesses=said.witnesses,
        keys=tuple(KeyMinutes(k.label, k.public, k.policy_document or k.policy) for k in keys),
        certificates=tuple(CertificateMinutes(n, c.der) for n, c in certificates if c is not None),
        acts=tuple(
            ActMinutes(request, _moment(row.executed_at) if row.executed_at else None)
            for row, request in requests
        ),
        steps=tuple(_steps(log)),
        evidence=EvidenceMinutes.of(judgement),
        notes=(*_withdrawn(log), *anew, *(Note(ended, "note", words) for words in said.notes)),
    )


def _maker(facts: dict[str, Any]) -> tuple[Any, ...]:
    return facts.get("manufacturer", ""), facts.get("vendor", ""), facts.get("firmware", "")


def _moment(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp)


def _steps(log: list[AuditRow]) -> Iterator[Step]:
    """The transcript: what the log has of this home until now, as far as it founds something."""
    for row in log:
        words = _WORDS.get(row.act)
        if words is not None:
            what, how = words
            facts = {"by": "", **row.facts}
            facts["by"] = facts["by"] and f"by {facts['by']}"
            yield Step(_moment(row.at), what.format(**facts), how.format(**facts).strip())


def _withdrawn(log: list[AuditRow]) -> Iterator[Note]:
    for row in log:
        if row.act == "ceremony-cancel":
            words = "an earlier ceremony was withdrawn; the transcript has how its requests ended"
            yield Note(_moment(row.at), "deviation", words)


_WORDS = {
    "init": ("device", "{device}, attestation key {ak}"),
    "approver-add": ("person {name}", "card {digest}"),
    "ceremony-begin": ("ceremony begun", "group {group}"),
    "key-create": ("key {label}", "{policy}, Name {name}"),
    "request": ("request {id}", "{kind}, SHA-256 {digest}"),
    "request-ended": ("request {id} ended", "{why} {by}"),
    "key-delete": ("key {label} deleted", "Name {name}"),
    "ceremony-cancel": ("ceremony withdrawn", "group {group}"),
    "approval": ("approval of request {request}", "by {approver}"),
    "executed": ("request {request} executed", "{kind}"),
    "issued": ("certificate by {ca}", "serial {serial}, SHA-256 {sha256}"),
}
