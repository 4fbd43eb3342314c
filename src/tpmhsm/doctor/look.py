"""Gathering all facts of a set-up. It raises for nothing that is broken: that is looked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tpmhsm.doctor.facts import Chip, Facts, Need, Records, Trouble, Wanted
from tpmhsm.doctor.look_chip import look_at_chip
from tpmhsm.doctor.look_home import look_at_home
from tpmhsm.doctor.look_machine import look_at_machine, trouble_of
from tpmhsm.doctor.look_records import Read, look_at_records
from tpmhsm.errors import TpmHsmError

if TYPE_CHECKING:
    from tpmhsm.ca.settings import Settings
    from tpmhsm.tpm.device import Device


@dataclass(frozen=True)
class Patient:
    """What is to be looked at: the home, which chip and database were named, how to open them.

    `tpm` is what `--tpm` says, `database` the home or a URL, `identity` what `-i` says. `device`
    and `settings` may raise. `needs` says what needs people; it is called only when chip and
    database can be asked.
    """

    home: Path
    tpm: str
    database: str | Path
    identity: str
    device: Callable[[], Device]
    settings: Callable[[], Settings]
    needs: Callable[[], Sequence[Need]]


def look(patient: Patient) -> Facts:
    """All facts."""
    home = look_at_home(patient.home, patient.settings)
    read = Read(Trouble("device", "no chip is named"))
    chip: Chip | Trouble
    try:
        device = patient.device()
    except (TpmHsmError, OSError) as error:
        chip = trouble_of(error)
    else:
        read = look_at_records(patient.database, device)
        chip = look_at_chip(device, read.host, read.states)
    wanted = _wanted(patient, read.records)
    return Facts(
        home=home,
        machine=look_at_machine(
            _device_file(patient.tpm),
            patient.identity,
            yubikeys=isinstance(read.records, Records) and read.records.yubikeys,
        ),
        wanted=wanted,
        chip=chip,
        records=read.records,
        needs=_needs(patient, read.records, chip),
        at_home=isinstance(patient.database, Path),
    )


def _device_file(tpm: str) -> Path:
    from tpmhsm.tpm.device import DEVICE_FILE

    kind, _, rest = tpm.partition(":")
    return Path(rest) if kind == "device" and rest else DEVICE_FILE


def _wanted(patient: Patient, records: Records | Trouble) -> Wanted:
    """Which kind of chip this home is for: as named, else as it was set up, else as it would be."""
    from tpmhsm.tpm import software

    kind = patient.tpm.partition(":")[0]
    if kind == "device":
        return "hardware"
    if kind == "software":
        return "software"
    if kind != "auto":
        return "other"
    try:
        if software.is_manufactured(software.directory_of(patient.home)):
            return "software"
    except OSError:
        pass
    known = records.kind if isinstance(records, Records) else ""
    return "hardware" if known == "hardware" else "software"


def _needs(patient: Patient, records: object, chip: object) -> tuple[Need, ...] | Trouble:
    if isinstance(records, Trouble):
        return Trouble("unseen", "the database cannot be read")
    if isinstance(chip, Trouble) and isinstance(records, Records) and not records.kind:
        return ()
    if isinstance(chip, Trouble):
        return Trouble("unseen", "the chip cannot be asked")
    try:
        return tuple(patient.needs())
    except Exception as error:  # noqa: BLE001 - whatever somebody wrote into the database
        return trouble_of(error)
