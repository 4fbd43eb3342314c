"""Checks of the machine: rights, programs, versions, cards, the clock. Pure."""

from __future__ import annotations

import re

from tpmhsm.doctor.facts import Facts, File, Trouble
from tpmhsm.doctor.judging import Judged, Registry, attention, broken, check

CHECKS: Registry = {}

OLDEST_SWTPM = (0, 7)
"""What this program is tested with; older ones are other programs (swtpm_setup in Python)."""

OLDEST_OPENSSL = (3, 0)
WRITTEN = 1_764_547_200.0
"""2025-12-01: no clock that is right says less; this program was written later."""

DRIFT, SLACK = 0.2, 120.0
"""How far chip and system may differ: owners may set the chip's clock faster by 17 %; seconds."""


@check(CHECKS, "rights")
def rights(facts: Facts) -> Judged:
    """Whether this user may use the chip's device file, if the home is for one."""
    file, bare, user = facts.machine.device, facts.machine.bare, facts.machine.user
    if facts.wanted != "hardware":
        return ""
    if file.state == "there" and not file.usable:
        yield broken(
            f"{user} may not use {file.path} (mode {file.mode:04o}, {file.owner}:{file.group})",
            where=file.path,
            why="without the chip there are no keys, and no software TPM takes its place",
            next=f"log in anew: {user} is in {file.group} only since this session began"
            if facts.machine.listed and file.group not in facts.machine.groups
            else f"sudo usermod -aG {_group_of(file)} {user}, then log in anew",
        )
    elif file.state == "there" and file.kind != "device":
        yield broken(
            f"{file.path} is an ordinary {file.kind}, not a TPM",
            where=file.path,
            why="whatever answers there is no chip",
            next="ls -l /dev/tpm*; --tpm device:FILE names another",
        )
    elif file.state != "there" and bare.state == "there":
        yield broken(
            f"there is {bare.path} alone: the kernel has no resource manager for it",
            where=file.path,
            why="the bare device serves one program at a time, and forgets nobody's sessions",
            next="start Linux 4.12 or later (uname -r), or modprobe tpm_tis (tpm_crb)",
        )
    elif file.state != "there":
        yield broken(
            f"there is no {file.path}",
            where=file.path,
            why="the keys of this home open in their own chip alone",
            next="switch the TPM on in the firmware's set-up (fTPM, PTT), then ls -l /dev/tpm*",
        )
    return f"{file.path} ({file.owner}:{file.group})"


def _group_of(file: File) -> str:
    """Debian's and Fedora's device files belong to tss; one that is root's alone wants a rule."""
    return file.group if file.mode & 0o060 == 0o060 and file.group != "root" else "tss"


@check(CHECKS, "unused-chip")
def unused_chip(facts: Facts) -> Judged:
    """A chip that this user may not use, and a software TPM instead of it."""
    file, user = facts.machine.device, facts.machine.user
    if (
        facts.wanted == "software"
        and not facts.chipless
        and file.state == "there"
        and not file.usable
    ):
        yield attention(
            f"there is a chip at {file.path} that {user} may not use: this home has a software TPM",
            where=file.path,
            why="a software TPM is a file that root can copy; the chip is not",
            next=f"for a new home: sudo usermod -aG {_group_of(file)} {user}, log in anew, "
            "tpmhsm --home DIR init",
        )
    return ""


@check(CHECKS, "software-tpm")
def software_tpm(facts: Facts) -> Judged:
    """The programs of the software TPM, if the home is for one."""
    if facts.wanted != "software" or facts.chipless:
        return ""
    missing = [name for name, path in facts.machine.programs.items() if not path]
    version = facts.machine.swtpm
    if missing:
        yield broken(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed",
            where="the PATH of this user",
            why="the software TPM of this home does not start without it",
            next="sudo apt install swtpm swtpm-tools",
        )
    elif version and _numbers(version) < OLDEST_SWTPM:
        yield attention(
            f"swtpm {version} is older than what this program is tested with",
            where=facts.machine.programs["swtpm"],
            why="older ones lack commands or lose state at a crash",
            next="sudo apt install swtpm swtpm-tools (0.7 or later)",
        )
    return f"swtpm {version or 'of an unknown version'}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


@check(CHECKS, "versions")
def versions(facts: Facts) -> Judged:
    """Python, and the OpenSSL that checks signatures here."""
    found = re.search(r"\d+(\.\d+)+", facts.machine.openssl)
    if found and _numbers(found[0]) < OLDEST_OPENSSL:
        yield attention(
            f"{facts.machine.openssl} gets no more repairs",
            where="the cryptography package",
            why="signatures and certificates of others are checked with it",
            next="pip install --upgrade cryptography",
        )
    return f"Python {facts.machine.python}, OpenSSL {found[0] if found else '?'}"


@check(CHECKS, "cards")
def cards(facts: Facts) -> Judged:
    """The packages and the daemon that YubiKeys need, when this home's person has one, or -i
    names one.
    """
    found = facts.machine.cards
    if found is None:
        return ""
    why = "an approver with a YubiKey can sign nothing on this machine"
    if found.missing:
        yield broken(
            f"the Python packages for YubiKeys are missing: {', '.join(found.missing)}",
            where="this installation of tpmhsm",
            why=why,
            next="pip install 'tpmhsm[yubikey]'",
        )
    elif found.service:
        yield broken(
            found.service.message,
            where="pcscd",
            why=why,
            next=found.service.hint or "systemctl status pcscd.socket",
        )
    elif found.asked and not found.readers:
        yield attention(
            "no YubiKey is plugged in", where="USB", why=why, next="plug it in; lsusb lists it"
        )
    return ", ".join(found.readers) or "pcscd"


@check(CHECKS, "clock")
def clock(facts: Facts) -> Judged:
    """The system's clock: against this program's age, and the newest that the database has."""
    now = facts.machine.now
    why = "certificates and CRLs get their dates from it; wrong ones are refused everywhere"
    ask = "timedatectl; sudo timedatectl set-ntp true"
    if now < WRITTEN:
        yield broken(
            f"the clock says {moment(now)}: that is before this program was written",
            where="the system's clock",
            why=why,
            next=ask,
        )
    records = facts.records
    if not isinstance(records, Trouble) and records.newest and records.newest > now + SLACK:
        yield broken(
            f"the clock says {moment(now)}, and {records.newest_is} is of {moment(records.newest)}",
            where="the system's clock, or it was wrong then",
            why=why,
            next=f"{ask}; if it is right now: tpmhsm audit list, for what was dated wrongly",
        )
    return moment(now)


def moment(seconds: float) -> str:
    """Unix time for people: '2026-11-23 17:05 UTC'."""
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
