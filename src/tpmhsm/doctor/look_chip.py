"""Looking at the chip: one transaction, in which nothing is changed that is not put back.

Commands: TPM2_GetTestResult, then capabilities (properties, commands), TPM2_ReadClock, the
persistent handles, two a group for each of its indices; and to try how much room there is, one NV
index is made and removed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tpmhsm.doctor import facts
from tpmhsm.doctor.facts import Roster, Trouble
from tpmhsm.doctor.look_machine import trouble_of
from tpmhsm.errors import ChipRefusedError, DeviceError, TpmHsmError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tpmhsm.keys.groups import GroupState
    from tpmhsm.keys.host import HostDevice
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.device import Device

PATIENCE = 3.0
"""Seconds that are waited for others who have the chip."""

_OWNER_SET, _OWNER_ON, _ENDORSEMENT_ON, _FIPS = 1 << 0, 1 << 1, 1 << 2, 1 << 0


def look_at_chip(
    device: Device, host: HostDevice | None, groups: Iterable[tuple[GroupState, bool]] = ()
) -> facts.Chip | Trouble:
    """What the chip says; `host` and `groups` (with whether a change of each is under way) are what
    the database knows of it.
    """
    try:
        with device.transaction(PATIENCE) as chip:
            return _ask(chip, device, host, groups)
    except Exception as error:  # noqa: BLE001 - whatever a broken chip or home makes of it
        return trouble_of(error)


def _ask(
    chip: Chip,
    device: Device,
    host: HostDevice | None,
    groups: Iterable[tuple[GroupState, bool]],
) -> facts.Chip | Trouble:
    from tpmhsm.tpm import capabilities, evidence, probe
    from tpmhsm.wire.commands import GetTestResult
    from tpmhsm.wire.constants import CC, PT

    result = chip.send(GetTestResult()).test_result
    found = capabilities.properties(chip)
    about = evidence.facts_of(found)
    if result:
        words = f"the chip failed its self-test (0x{result:x}) and answers nothing else"
        return Trouble("chip-failed", words)
    codes = capabilities.command_codes(chip)
    startup = found.get(PT.STARTUP_CLEAR, 0)
    state = probe.lockout(chip)
    return facts.Chip(
        where=device.describe(),
        software=device.kind == "software TPM",
        vendor=f"{about.manufacturer} {about.vendor}, firmware {about.firmware}",
        fips=bool(found.get(PT.MODES, 0) & _FIPS),
        lockout=facts.Lockout(
            state.active,
            state.tries,
            state.max_tries,
            state.recovery,
            state.lockout_auth_set,
        ),
        owner_on=bool(startup & _OWNER_ON),
        endorsement_on=bool(startup & _ENDORSEMENT_ON),
        owner_password=bool(found.get(PT.PERMANENT, 0) & _OWNER_SET),
        clock=_clock(chip),
        room=_room(chip),
        counters=found.get(PT.NV_COUNTERS_AVAIL),
        lacks=tuple(
            code.name
            for code in (CC.PolicyAuthorizeNV, CC.PolicyNameHash, CC.GetCommandAuditDigest)
            if code not in codes
        ),
        same=_same(chip, host),
        rosters=tuple(look_at_roster(chip, *one) for one in groups if not one[0].group.static),
    )


def _clock(chip: Chip) -> facts.Clock:
    from tpmhsm.wire.commands import ReadClock

    info = chip.send(ReadClock()).current_time.clock_info
    return facts.Clock(time.time(), info.clock, info.reset_count, info.restart_count)


def _room(chip: Chip) -> int | None:
    from tpmhsm.tpm.probe import room

    try:
        return room(chip)
    except ChipRefusedError:  # the owner's password is not known here
        return None


def _same(chip: Chip, host: HostDevice | None) -> Trouble | None:
    from tpmhsm.keys.host import must_be

    if host is None:
        return None
    try:
        must_be(chip, host)
    except DeviceError:
        raise
    except TpmHsmError as error:
        return trouble_of(error)
    return None


def look_at_roster(chip: Chip, state: GroupState, changing: bool) -> Roster:
    """How a group's indices stand; four commands if they are well."""
    from tpmhsm.keys.proof import index_state
    from tpmhsm.policy.people import rule_text
    from tpmhsm.policy.tree import counter_nv, roster_content, roster_nv
    from tpmhsm.tpm import nv

    group = state.group
    counter_area, roster_area = counter_nv(group, written=True), roster_nv(group, written=True)
    counter, roster = index_state(chip, counter_area), index_state(chip, roster_area)
    epoch = int.from_bytes(nv.content(chip, counter_area), "big") if counter == "well" else None
    wanted = roster_content(group, state.roster)
    same = roster == "well" and nv.content(chip, roster_area) == wanted
    return Roster(
        state.row.name,
        rule_text(state.roster.officers),
        counter,
        roster,
        epoch,
        state.roster.epoch,
        same=same,
        changing=changing,
    )
