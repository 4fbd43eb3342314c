"""What was seen of a set-up: plain values, JSON-ready or nearly so.

Whatever could not be looked at is a `Trouble`: the error's code, words and next step. Times are
Unix time in seconds; sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Wanted = Literal["software", "hardware", "other"]
"""What kind of chip the home is for: its own software TPM, a device file, or anything else."""


@dataclass(frozen=True)
class Trouble:
    """Why something could not be looked at: an error's stable code, its words, its next step."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True)
class File:
    """A file or directory, as far as the system lets us see it.

    `state`: 'there', 'missing', or 'hidden' where a directory above is closed to this user. `kind`:
    'file', 'directory', 'device', 'other'. `mode`: the twelve bits; `owner` and `group` are names.
    `usable`: this user may read and write it (enter it, if it is a directory).
    """

    path: str
    state: Literal["there", "missing", "hidden"] = "missing"
    kind: str = ""
    mode: int = 0
    owner: str = ""
    group: str = ""
    usable: bool = False


@dataclass(frozen=True)
class Cards:
    """What YubiKeys need. `missing`: Python packages; `service`: why the card daemon is not used;
    `readers`: YubiKeys that are plugged in; `asked`: one was named, and should be there now.
    """

    asked: bool = False
    missing: tuple[str, ...] = ()
    service: Trouble | None = None
    readers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """The machine and this user. `programs`: name to path, '' where it is not installed.

    `device`: the chip's device file that is wanted, and whether the user is `listed` in its group;
    `bare`: the one without resource manager.
    `swtpm`: what `swtpm --version` says. `cards` is None where nobody
    has a YubiKey.
    """

    user: str
    groups: tuple[str, ...]
    now: float
    python: str
    openssl: str
    programs: Mapping[str, str]
    swtpm: str
    device: File
    bare: File
    listed: bool = False
    cards: Cards | None = None


@dataclass(frozen=True)
class Home:
    """The directory. `others`: files in it that are another user's than the directory's owner;
    `open`: files that more than their owner can read or write. `filesystem` its type, `free` bytes.
    `settings`: why `tpmhsm.toml` cannot be used. `lost`: files that it names and that are not
    there, by the setting.
    """

    directory: File
    user: str
    others: tuple[File, ...] = ()
    open: tuple[File, ...] = ()
    filesystem: str = ""
    read_only: bool = False
    free: int | None = None
    settings: Trouble | None = None
    lost: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lockout:
    """Protection against guessing. `recovery`: seconds until a try comes back."""

    active: bool
    tries: int
    most: int
    recovery: int
    sealed: bool


@dataclass(frozen=True)
class Clock:
    """The chip's clock (milliseconds) and counts of resets, at a moment of the system's clock."""

    at: float
    clock: int
    resets: int
    restarts: int


@dataclass(frozen=True)
class Roster:
    """A group's two NV indices: 'well', 'missing', 'unwritten', 'other'; epochs of chip (None:
    not read) and database; whether the chip holds the roster of the database; whether a change is
    under way. `officers` as `--officers` takes them.
    """

    group: str
    officers: str
    counter: str
    roster: str
    epoch: int | None
    known: int
    same: bool
    changing: bool


@dataclass(frozen=True)
class Chip:
    """What the chip says. `same`: None, or why it is not the one this home was made for.

    `room`: the size of the largest NV index
    that can be made now, None if that cannot be tried; `counters`: how many more can be made, None
    if the chip does not say. `lacks`: commands that it has not.
    """

    where: str
    software: bool
    vendor: str
    fips: bool
    lockout: Lockout
    owner_on: bool
    endorsement_on: bool
    owner_password: bool
    clock: Clock
    room: int | None
    counters: int | None
    lacks: tuple[str, ...]
    same: Trouble | None = None
    rosters: tuple[Roster, ...] = ()


@dataclass(frozen=True)
class Group:
    """A group: people who may be lost before nothing can be approved, or changed, any more. The
    rules are as `--officers` takes them.
    """

    name: str
    officers: str
    spare: int
    custodians: str
    custodians_spare: int
    static: bool


@dataclass(frozen=True)
class Records:
    """What the database holds. `newest`: the latest time in it and what has it; `last`: the chip's
    clock when it last certified the log, None where it never did; `kind`: of the chip, '' before
    `init`; `yubikeys`: whether the person whose home this is has one; `log`: why the end of the
    log does not hold.
    """

    where: str
    kind: str
    entries: int
    newest: float | None
    newest_is: str
    last: Clock | None
    groups: tuple[Group, ...]
    pins: bool
    yubikeys: bool = False
    log: Trouble | None = None


@dataclass(frozen=True)
class Need:
    """Something that `tpmhsm status` says needs people; `about`: which check it belongs to."""

    about: str
    what: str
    next: str
    urgent: bool = False


@dataclass(frozen=True)
class Facts:
    """All that was seen; a Trouble stands for what could not be looked at. `at_home`: the database
    is the one in the home.
    """

    home: Home
    machine: Machine
    wanted: Wanted
    chip: Chip | Trouble
    records: Records | Trouble
    needs: tuple[Need, ...] | Trouble
    at_home: bool = True

    @property
    def chipless(self) -> bool:
        """Whether no chip was ever set up here: an approver's home needs none."""
        return (
            isinstance(self.records, Records)
            and not self.records.kind
            and isinstance(self.chip, Trouble)
            and self.chip.code == "device-missing"
        )
