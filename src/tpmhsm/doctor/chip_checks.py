"""Checks of the chip: that it answers, is the right one, and holds what the database says. Pure."""

from __future__ import annotations

from tpmhsm.doctor.facts import Chip, Clock, Facts, Roster, Trouble
from tpmhsm.doctor.judging import (
    Finding,
    Judged,
    Registry,
    Unseen,
    attention,
    broken,
    check,
    chip_of,
    must_be_usable,
    records_of,
)
from tpmhsm.doctor.machine_checks import DRIFT, SLACK, moment
from tpmhsm.policy.windows import describe_seconds

CHECKS: Registry = {}

GROUP_ROOM, LOW_ROOM = 256, 1024
"""Bytes of NV space: what a group and a budget need, and what is little."""

FEW_TRIES = 2


@check(CHECKS, "chip")
def chip(facts: Facts) -> Judged:
    """Whether the chip answers, and is the one that this home was made for."""
    found = facts.chip
    if facts.chipless:
        return "none: an approver's home needs none; for a CA: tpmhsm init"
    if isinstance(found, Trouble):
        _must_be_asked(facts)
        yield _silent(found, facts)
        return ""
    if found.same:
        yield broken(
            found.same.message,
            where=found.where,
            why="the keys of this home open in their own chip alone",
            next=found.same.hint or "tpmhsm device show",
        )
    if found.software:
        return f"{found.where}: a file that root can copy, and no hardware"
    return f"{found.where}, {found.vendor}"


def _must_be_asked(facts: Facts) -> None:
    """Raises Unseen where another check says why the chip was not asked at all."""
    machine = facts.machine
    if facts.wanted == "hardware" and (not machine.device.usable or machine.device.kind == "file"):
        raise Unseen(f"{machine.device.path} cannot be used")
    if facts.wanted == "software":
        must_be_usable(facts)
        if not machine.programs["swtpm"]:
            raise Unseen("swtpm is not installed")


def _silent(found: Trouble, facts: Facts) -> Finding:
    nexts = {
        "chip-failed": "switch the machine off and on; if it stays so, the chip is broken: "
        "docs/recovery.md",
        "device-busy": "wait for that process, or look at it (ps) and end it; then tpmhsm doctor",
        "device-missing": "tpmhsm init in a new home; in an old one restore its directory tpm/",
        "device-permission": "see the finding on rights",
    }
    where = facts.machine.device.path if facts.wanted == "hardware" else "the chip of this home"
    then = nexts.get(found.code) or found.hint or "tpmhsm device show"
    return broken(found.message, where=where, why="no key can be made or used", next=then)


@check(CHECKS, "lockout")
def lockout(facts: Facts) -> Judged:
    """Wrong PINs, and whether the chip refuses all of them now."""
    found = chip_of(facts)
    state, now = found.lockout, facts.machine.now
    left = max(0, state.most - state.tries)
    unlock = "tpmhsm device unlock" + (" --recovery FILE" if state.sealed else "")
    pins = isinstance(facts.records, Trouble) or facts.records.pins
    if state.active or not left:
        yield (broken if pins else attention)(
            f"the chip takes no PIN: {state.tries} were wrong, or it was stopped uncleanly",
            where=found.where,
            why=f"keys with a PIN are closed until {moment(now + state.recovery)}, when one try "
            "comes back, if the chip runs until then",
            next=f"{unlock} ends it now; or wait {describe_seconds(state.recovery)}",
        )
    elif left <= FEW_TRIES:
        yield attention(
            f"{left} more wrong PINs lock the chip" if left > 1 else "one more wrong PIN locks it",
            where=found.where,
            why=f"{state.tries} of {state.most} tries were wrong; one comes back every "
            f"{describe_seconds(state.recovery)}",
            next=f"{unlock} sets the count back",
        )
    return f"{state.tries} of {state.most} tries wrong"


@check(CHECKS, "hierarchies")
def hierarchies(facts: Facts) -> Judged:
    """The two hierarchies that keys and evidence are made in."""
    found = chip_of(facts)
    for on, name, loss in (
        (found.owner_on, "owner", "keys, groups and budgets"),
        (found.endorsement_on, "endorsement", "evidence, and sessions that keep PINs secret"),
    ):
        if not on:
            yield broken(
                f"the {name} hierarchy of the chip is switched off",
                where=found.where,
                why=f"{loss} need it",
                next="restart the machine; if it stays off, switch it on in the firmware's set-up",
            )
    return "owner and endorsement on" + (", owner with a password" if found.owner_password else "")


@check(CHECKS, "nv-space")
def nv_space(facts: Facts) -> Judged:
    """Room in the chip for a new group or budget."""
    found = chip_of(facts)
    if found.room is None or not found.owner_on:
        raise Unseen("the owner hierarchy is closed")
    if found.room < LOW_ROOM:
        full = found.room < GROUP_ROOM
        yield (broken if full else attention)(
            f"the chip has room for {found.room} bytes in one NV index, no more",
            where=found.where,
            why="a new group, a budget, and a roster that the chip lost need NV indices",
            next="tpmhsm doctor store names those that nobody here knows; tpm2_nvundefine removes "
            "one",
        )
    counters = "" if found.counters is None else f", {found.counters} counters"
    return f"{found.room:,} bytes or more{counters}"


@check(CHECKS, "abilities")
def abilities(facts: Facts) -> Judged:
    """Commands that an old chip, or a revision before 1.38, has not."""
    found = chip_of(facts)
    losses = {
        "PolicyAuthorizeNV": "groups are static: their people never change",
        "PolicyNameHash": "no key can be opened for a time",
        "GetCommandAuditDigest": "that the log is complete cannot be proven",
    }
    changing = [] if isinstance(facts.records, Trouble) else facts.records.groups
    for name in found.lacks:
        needed = name == "PolicyAuthorizeNV" and any(not group.static for group in changing)
        yield (broken if needed else attention)(
            f"the chip has no TPM2_{name}",
            where=f"{found.where}, {found.vendor}",
            why="the groups of this home need it" if needed else losses[name],
            next="tpmhsm device probe says what it can do; a firmware update may bring it",
        )
    return "all commands" + (", FIPS mode" if found.fips else "")


@check(CHECKS, "chip-state")
def chip_state(facts: Facts) -> Judged:
    """Whether the chip's state is older than what it certified: a copy was put back."""
    now, then = chip_of(facts).clock, records_of(facts).last
    if then is None or _is_other(facts):
        return ""
    back = now.resets < then.resets
    if back or (_same_run(now, then) and now.clock < then.clock):
        counted = (
            f"it was started {now.resets} times, and {then.resets} when it last certified the log"
            if back
            else "its clock stands before the moment at which it last certified the log"
        )
        yield broken(
            f"an old state of the chip was put back: {counted}",
            where=chip_of(facts).where,
            why="budgets are refilled by that, PINs can be tried anew, and rosters are of old",
            next="put back the newest copy of the directory tpm/; then tpmhsm doctor store",
        )
    return f"started {now.resets} times"


def _is_other(facts: Facts) -> bool:
    return isinstance(facts.chip, Chip) and facts.chip.same is not None


def _same_run(now: Clock, then: Clock) -> bool:
    return (now.resets, now.restarts) == (then.resets, then.restarts)


@check(CHECKS, "chip-clock")
def chip_clock(facts: Facts) -> Judged:
    """The system's clock against the chip's, since it last certified the log."""
    now, then = chip_of(facts).clock, records_of(facts).last
    if then is None or not _same_run(now, then) or now.clock < then.clock:
        return ""
    chips, systems = (now.clock - then.clock) / 1000, now.at - then.at
    apart = abs(chips - systems)
    if apart > SLACK + DRIFT * max(chips, 0):
        yield broken(
            f"since the last checkpoint {chips:,.0f} s went by for the chip and {systems:,.0f} s "
            "for the system",
            where="the system's clock",
            why="somebody set it, or it is wrong: certificates get their dates from it, windows "
            "their end from the chip's",
            next="timedatectl; sudo timedatectl set-ntp true",
        )
    return f"{apart:.0f} s apart since the last checkpoint"


@check(CHECKS, "rosters")
def rosters(facts: Facts) -> Judged:
    """Each group's epoch and roster in the chip, against the database."""
    found = chip_of(facts)
    if _is_other(facts):
        raise Unseen("this is another chip")
    if not found.rosters:
        return ""
    for one in found.rosters:
        if finding := roster_finding(one, found.where):
            yield finding
    return ", ".join(f"{one.group} in epoch {one.known}" for one in found.rosters)


def roster_finding(one: Roster, where: str) -> Finding | None:
    """What is wrong with a group's indices in the chip."""
    if what := _roster_fault(one):
        return broken(
            f"group {one.group}: {what}",
            where=where,
            why="approvals of its officers open nothing until that is put right",
            next=f"tpmhsm group change {one.group} --officers {one.officers}",
        )
    if one.epoch is not None and one.epoch != one.known:
        return _epochs_apart(one, where)
    return None


def _roster_fault(one: Roster) -> str:
    words = {
        "missing": "is gone from the chip",
        "unwritten": "was removed and made anew, and is unwritten",
        "other": "is another one than this group's",
    }
    for what, state in (("epoch counter", one.counter), ("roster index", one.roster)):
        if state != "well":
            return f"its {what} {words[state]}"
    if one.epoch == one.known and not one.same:
        return f"the chip holds another roster than the database for epoch {one.known}"
    return ""


def _epochs_apart(one: Roster, where: str) -> Finding:
    what = f"group {one.group}: the chip is in epoch {one.epoch}, the database in {one.known}"
    if one.changing:
        return attention(
            f"{what}, and a change waits",
            where=where,
            why="the change is half done: approvals count again once it is whole",
            next="tpmhsm request list, then tpmhsm request execute ID",
        )
    behind = (one.epoch or 0) < one.known
    return broken(
        what,
        where=where,
        why="an old state of the chip was put back: officers who were removed are in force again"
        if behind
        else "the database is an old copy, or somebody moved the chip's epoch on: approvals of the "
        "roster that the database knows open nothing",
        next="put back the newest copy of the directory tpm/"
        if behind
        else "restore the newest backup of the database; if it is the newest: "
        f"tpmhsm group change {one.group} --officers {one.officers}",
    )
