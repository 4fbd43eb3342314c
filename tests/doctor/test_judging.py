"""What is said of facts that no test machine has: other file systems, programs, people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tpmhsm.doctor.checks import examine
from tpmhsm.doctor.facts import (
    Cards,
    Chip,
    Clock,
    Facts,
    File,
    Group,
    Home,
    Lockout,
    Machine,
    Need,
    Records,
    Roster,
    Trouble,
)
from tpmhsm.doctor.judging import Unseen, attention, broken, judge

NOW = 1.8e9
DEVICE = File("/dev/tpmrm0", "there", "device", 0o660, "tss", "tss", usable=False)
LOCKOUT = Lockout(False, 0, 10, 3600, sealed=True)
CLOCK = Clock(NOW, 100_000, 7, 0)
CHIP = Chip(
    where="hardware at /dev/tpmrm0",
    software=False,
    vendor="STM ST33, firmware 1.2",
    fips=False,
    lockout=LOCKOUT,
    owner_on=True,
    endorsement_on=True,
    owner_password=False,
    clock=CLOCK,
    room=2048,
    counters=20,
    lacks=(),
    rosters=(Roster("officers", "2:a,b,c", "well", "well", 2, 2, same=True, changing=False),),
)
WELL = Facts(
    home=Home(
        File("/home/ca", "there", "directory", 0o700, "ca", "ca", usable=True),
        "ca",
        filesystem="ext4",
        free=1 << 33,
    ),
    machine=Machine(
        user="ca",
        groups=("ca", "tss"),
        now=NOW,
        python="3.12.1",
        openssl="OpenSSL 3.2.1 30 Jan 2024",
        programs={"swtpm": "/usr/bin/swtpm", "swtpm_setup": "", "swtpm_localca": ""},
        swtpm="0.7.1",
        device=replace(DEVICE, usable=True),
        bare=File("/dev/tpm0", "there", "device", 0o660, "tss", "root"),
    ),
    wanted="hardware",
    chip=CHIP,
    records=Records(
        where="/home/ca/tpmhsm.db",
        kind="hardware",
        entries=12,
        newest=NOW - 60,
        newest_is="entry 12 of the log",
        last=Clock(NOW - 50, 50_000, 7, 0),
        groups=(Group("officers", "2:a,b,c", 1, "2:a,b,c", 1, static=False),),
        pins=True,
    ),
    needs=(),
)


def changed(facts: Any, path: str, value: Any) -> Any:
    """The facts with another value at a path of names."""
    first, _, rest = path.partition(".")
    return replace(facts, **{first: changed(getattr(facts, first), rest, value) if rest else value})


def states(facts: Facts) -> Mapping[str, str]:
    return {one.name: one.state for one in examine(facts)}


def test_all_is_well() -> None:
    assert set(states(WELL).values()) == {"well"}
    assert "software-tpm" not in states(WELL), "of no concern to a home for hardware"


CASES = {
    "NFS": ("home.filesystem", "nfs4", "file-system", "attention", "locks"),
    "an old swtpm": ("machine.swtpm", "0.5.3", "software-tpm", "attention", "0.5.3"),
    "an old OpenSSL": ("machine.openssl", "OpenSSL 1.1.1w", "versions", "attention", "1.1.1w"),
    "packages for YubiKeys": (
        "machine.cards",
        Cards(missing=("yubikit",)),
        "cards",
        "broken",
        "yubikit",
    ),
    "no YubiKey": ("machine.cards", Cards(asked=True), "cards", "attention", "plugged in"),
    "a home that is hidden": (
        "home.directory",
        File("/root/ca", "hidden"),
        "home",
        "broken",
        "may not use",
    ),
    "little room": ("home.free", 50 << 20, "disk", "attention", "50 MiB"),
    "the owner hierarchy": ("chip.owner_on", False, "hierarchies", "broken", "owner"),
    "the endorsement hierarchy": ("chip.endorsement_on", False, "hierarchies", "broken", "endorse"),
    "little NV space": ("chip.room", 512, "nv-space", "attention", "512 bytes"),
    "no NV space": ("chip.room", 64, "nv-space", "broken", "64 bytes"),
    "a chip without groups": (
        "chip.lacks",
        ("PolicyAuthorizeNV",),
        "abilities",
        "broken",
        "PolicyAuthorizeNV",
    ),
    "a chip without windows": (
        "chip.lacks",
        ("PolicyNameHash",),
        "abilities",
        "attention",
        "PolicyNameHash",
    ),
    "no officer to spare": (
        "records.groups",
        (Group("officers", "3:a,b,c", 0, "2:a,b,c", 1, static=False),),
        "people",
        "attention",
        "can lose no officer",
    ),
    "no custodian to spare": (
        "records.groups",
        (Group("officers", "2:a,b,c", 1, "3:a,b,c", 0, static=False),),
        "people",
        "attention",
        "can lose no custodian",
    ),
    "a budget that is used up": (
        "needs",
        (Need("budgets", "nothing left", "tpmhsm key grant", urgent=True),),
        "budgets",
        "broken",
        "nothing left",
    ),
    "an act that was interrupted": (
        "needs",
        (Need("requests", "request 4: approved, not executed", "tpmhsm request execute 4"),),
        "requests",
        "attention",
        "not executed",
    ),
    "fewer starts": ("chip.clock.resets", 6, "chip-state", "broken", "put back"),
    "a clock before the checkpoint": ("chip.clock.clock", 49_000, "chip-state", "broken", "stands"),
    "clocks apart": ("chip.clock.at", NOW + 4000, "chip-clock", "broken", "went by"),
    "a change that is half done": (
        "chip.rosters",
        (Roster("officers", "2:a,b", "well", "well", 3, 2, same=True, changing=True),),
        "rosters",
        "attention",
        "a change waits",
    ),
    "another roster": (
        "chip.rosters",
        (Roster("officers", "2:a,b", "well", "well", 2, 2, same=False, changing=False),),
        "rosters",
        "broken",
        "another roster",
    ),
    "no database": (
        "records",
        Trouble("lost", "the database server went away"),
        "database",
        "broken",
        "went away",
    ),
    "a busy chip": ("chip", Trouble("device-busy", "process 7 has held it"), "chip", "broken", "7"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_fault_is_one_finding(case: str) -> None:
    path, value, name, state, words = CASES[case]
    facts = changed(WELL, path, value)
    if name == "software-tpm":
        facts = changed(facts, "wanted", "software")
        facts = changed(facts, "machine.programs", dict.fromkeys(facts.machine.programs, "/bin/x"))
    found = {one.name: one for one in examine(facts)}
    assert [n for n, one in found.items() if one.findings] == [name]
    (finding,) = found[name].findings
    assert found[name].state == state and words in finding.what + finding.why
    assert finding.where and finding.why and finding.next


def test_rights_are_had_by_a_new_session() -> None:
    facts = changed(changed(WELL, "machine.device", DEVICE), "machine.groups", ("ca",))
    facts = changed(facts, "chip", Trouble("device-permission", "no TPM"))
    (finding,) = next(one for one in examine(facts) if one.name == "rights").findings
    assert "sudo usermod -aG tss ca" in finding.next
    facts = changed(facts, "machine.listed", True)
    found = {one.name: one for one in examine(facts)}
    assert "log in anew" in found["rights"].findings[0].next
    assert found["chip"].state == "unseen", "one cause, one finding"


def test_an_approvers_home_needs_no_chip() -> None:
    facts = changed(WELL, "records.kind", "")
    facts = changed(facts, "records.last", None)
    facts = changed(facts, "chip", Trouble("device-missing", "there is no software TPM"))
    found = states(changed(facts, "wanted", "software"))
    assert set(found.values()) == {"well"} and "lockout" not in found


def test_whatever_is_hidden_is_not_called_well() -> None:
    facts = changed(WELL, "chip", Trouble("device", "it does not answer"))
    facts = changed(facts, "records", Trouble("corrupt", "damaged"))
    facts = changed(facts, "needs", Trouble("unseen", "the database cannot be read"))
    found = states(facts)
    hidden = {"lockout", "nv-space", "rosters", "people", "log", "budgets", "certificates"}
    assert {found[name] for name in hidden} == {"unseen"}


def test_a_check_that_finds_and_then_cannot_look_on() -> None:
    words = {"where": "here", "why": "it matters", "next": "mend it"}

    def half(facts: Facts) -> Any:
        yield attention("one", **words)
        yield broken("two", **words)
        raise Unseen("the rest")

    (one,) = judge(WELL, [("half", half)])
    assert (one.state, len(one.findings), one.seen) == ("broken", 2, "not seen: the rest")
