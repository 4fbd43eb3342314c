"""Looking at the database: can it be read and written; its log, its groups, its newest times.

It is opened as every command does, and only read; an empty transaction shows whether others hold
it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tpmhsm.doctor.facts import Clock, Group, Records, Trouble
from tpmhsm.doctor.look_machine import trouble_of
from tpmhsm.errors import TpmHsmError

if TYPE_CHECKING:
    from tpmhsm.keys.groups import Groups, GroupState
    from tpmhsm.keys.host import HostDevice
    from tpmhsm.store import Store, Transaction
    from tpmhsm.tpm.device import Device

PATIENCE = 3.0
"""Seconds that are waited for others who write."""

RECENT = 1000
"""Entries at the end of the log that are verified."""


@dataclass
class Read:
    """What was read: the facts, and for those who look at the chip, what it should hold."""

    records: Records | Trouble
    host: HostDevice | None = None
    states: list[tuple[GroupState, bool]] = field(default_factory=list)


def look_at_records(where: str | Path, device: Device) -> Read:
    """Open the database and read it; the chip is not asked."""
    from tpmhsm.keys.groups import Groups
    from tpmhsm.store import Store

    try:
        with Store.open(where, timeout=PATIENCE) as store:
            with store.transaction():
                pass
            return _read(store, Groups(store, device))
    except (TpmHsmError, OSError) as error:
        return Read(trouble_of(error))
    except Exception as error:  # noqa: BLE001 - whatever somebody wrote into the database
        told = trouble_of(error)
        return Read(Trouble("corrupt", f"the database says nothing sensible: {told.message}"))


def _read(store: Store, groups: Groups) -> Read:
    from tpmhsm.keys.host import find_host
    from tpmhsm.requests.memory import OWN

    host = find_host(store)
    states = [groups.state(row.name) for row in groups.all() if row.state == "active"]
    with store.reading() as tx:
        changing = {row.group_id for row in tx.requests.all("waiting") if row.kind == "roster"}
        newest, newest_is = _newest(tx)
        records = Records(
            where=store.words,
            kind=host.kind if host else "",
            entries=tx.audit.head().seq,
            newest=newest,
            newest_is=newest_is,
            last=_last_checkpoint(tx),
            groups=tuple(_group(state) for state in states),
            yubikeys=any(_is_yubikeys(row.card) for row in tx.trusted.all(OWN)),
            pins=any("pin" in row.policy for row in tx.keys.all()),
            log=_log(tx),
        )
    return Read(records, host, [(state, state.row.id in changing) for state in states])


def _is_yubikeys(card: bytes) -> bool:
    from tpmhsm.approval.cards import parse_card

    try:
        return parse_card(card).kind == "yubikey"
    except TpmHsmError:
        return False


def _log(tx: Transaction) -> Trouble | None:
    try:
        tx.audit.verify_chain(last=RECENT)
    except TpmHsmError as error:
        return trouble_of(error)
    return None


def _newest(tx: Transaction) -> tuple[float | None, str]:
    """The latest time that the log or the CRLs have, and what has it."""
    after = tx.audit.head().seq - RECENT
    found = [(row.at, f"entry {row.seq} of the log") for row in tx.audit.all(after=after)]
    for authority in tx.authorities.all():
        if last := tx.crls.latest(authority.name):
            found.append((last.this_update, f"CRL {last.number} of {authority.name}"))
    if not found:
        return None, ""
    at, words = max(found)
    return datetime.fromisoformat(at).timestamp(), words


def _last_checkpoint(tx: Transaction) -> Clock | None:
    """The chip's clock when it last certified the log, beside the system's."""
    from tpmhsm.keys.auditing import last_checkpoint
    from tpmhsm.wire.attest import Attest
    from tpmhsm.wire.codec import decode

    made = last_checkpoint(tx)
    if made is None:
        return None
    info = decode(Attest, made.attest).clock_info
    return Clock(made.at, info.clock, info.reset_count, info.restart_count)


def _group(state: GroupState) -> Group:
    from tpmhsm.policy.explain import standing
    from tpmhsm.policy.people import rule_text

    officers, custodians = state.roster.officers, state.group.custodians
    return Group(
        state.row.name,
        rule_text(officers),
        standing(officers).spare,
        rule_text(custodians),
        standing(custodians).spare,
        state.group.static,
    )
