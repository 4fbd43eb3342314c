"""The founding document of a group, and its rosters.

A group is fixed at birth: the device, the two NV indices, the custodians. Its id is a hash over
all of that and 32 random bytes from every founding member, never its label: nothing in an NV Name
says which chip an index is on, so the id is what keeps approvals from counting elsewhere.

A roster says who the officers are in one epoch, and what they may be asked for. The custodians put
it in force.

A static group has no indices and no custodians: its officers stand in the founding document, and in
the policy of each of its keys, for good. It is for chips without TPM2_PolicyAuthorizeNV.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Any

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.policy.documents import (
    Fields,
    canonical,
    check_label,
    document_hash,
    parse_canonical,
    sorted_distinct,
)
from tpmhsm.policy.pcrs import UNPROTECTED, Measured, check_value, read_measured
from tpmhsm.policy.people import (
    CONTRIBUTION,
    Thresholds,
    check_rule,
    members_of,
    parse_thresholds,
)

GROUP_FORMAT = "tpmhsm/group/1"
ROSTER_FORMAT = "tpmhsm/roster/1"

FIRST_INDEX, LAST_INDEX = 0x01800000, 0x01BFFFFF
"""NV indices of the owner's range (TCG Registry of Reserved TPM 2.0 Handles)."""

USES = ("sign", "budget", "decrypt")
"""What officers may be asked for, in the one order; a new roster lists all of them."""

MAX_WINDOWS = 64
STATIC_EPOCH = 1
"""The only epoch of a static group."""

KEY_NAME = 34
"""Bytes of a Name: the algorithm's number and a SHA-256."""


@dataclass(frozen=True)
class GroupDocument:
    """What a group is. `device_ek`: SHA-256 of the EK certificate (or of the EK's TPMT_PUBLIC).

    `device_ak` is the attestation key's Name (34 bytes), `nonce` 32 random bytes of the host,
    `founders` the sorted contributions of all founding members, custodians or first officers.
    UsageError for custodians of whom two quorums need not share a person. A static group has 0 for
    both indices, and its officers in the place of custodians.
    """

    name: str
    device_ek: bytes
    device_ak: bytes
    nonce: bytes
    counter_index: int
    roster_index: int
    custodians: Thresholds
    founders: tuple[bytes, ...]

    def __post_init__(self) -> None:
        check_label(self.name, "group")
        self._check_sizes()
        check_rule(self.custodians)
        for threshold in () if self.static else self.custodians:
            if threshold.m * 2 <= threshold.n:
                raise UsageError(
                    f"custodians {threshold.m} of {threshold.n}: it must be more than half",
                    hint="two quorums that share nobody could each put a roster in force",
                )
        governing = {member.contribution for member in members_of(self.custodians)}
        if not governing <= set(self.founders):
            raise UsageError("a custodian's contribution is missing from the founders'")
        if self.static and governing != set(self.founders):
            raise UsageError("a static group has no other founders than its officers")

    def _check_sizes(self) -> None:
        parts = [(self.device_ek, 32), (self.device_ak, 34), (self.nonce, 32)]
        parts += [(founder, CONTRIBUTION) for founder in self.founders]
        if any(len(part) != size for part, size in parts):
            raise UsageError("a hash, Name, nonce or contribution of the group has a wrong length")
        indices = (self.counter_index, self.roster_index)
        in_range = all(FIRST_INDEX <= i <= LAST_INDEX for i in indices)
        if not self.static and (not in_range or len(set(indices)) != 2):
            raise UsageError("a group's NV indices are two of the range 0x01800000-0x01bfffff")
        if list(self.founders) != sorted(set(self.founders)):
            raise UsageError("the founders' contributions are sorted and distinct")

    @property
    def static(self) -> bool:
        """Whether its people are fixed for good."""
        return not self.counter_index and not self.roster_index

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes."""
        indices = {"counter_index": self.counter_index, "roster_index": self.roster_index}
        return canonical(
            {
                "format": GROUP_FORMAT,
                "name": self.name,
                "device": {"ek": self.device_ek.hex(), "ak": self.device_ak.hex()},
                "nonce": self.nonce.hex(),
                **({"static": True} if self.static else indices),
                "custodians": [threshold.encode() for threshold in self.custodians],
                "founders": [founder.hex() for founder in self.founders],
            }
        )

    def __hash__(self) -> int:
        return hash(self.id)

    @cached_property
    def id(self) -> bytes:
        """SHA-256(format ‖ 0x00 ‖ canonical bytes), 32 bytes."""
        return sha256(GROUP_FORMAT.encode() + b"\0" + self.encoded).digest()


@lru_cache(64)
def parse_group(data: bytes) -> GroupDocument:
    """Read a group document. ParseError unless it is valid and canonical."""
    what = "group document"
    fields = Fields(parse_canonical(data, what), what)
    fields.expect("format", GROUP_FORMAT)
    device = fields.fields("device")
    rule = parse_thresholds(fields.list("custodians"), "custodians", contributions=True)
    ek, ak = device.hex("ek", 32), device.hex("ak", 34)
    device.done()
    founders = sorted_distinct(fields.hexes("founders", CONTRIBUTION), "founders")
    facts = (fields.label("name"), ek, ak, fields.hex("nonce", 32))
    indices = (0, 0)
    if not fields.has("static"):
        indices = (fields.number("counter_index", 1), fields.number("roster_index", 1))
    elif not fields.flag("static"):
        raise ParseError(f"{what}: static = true, or not at all")
    fields.done()
    try:
        return GroupDocument(*facts, *indices, custodians=rule, founders=founders)
    except UsageError as e:
        raise ParseError(f"{what}: {e.message}") from None


def static_roster(group: GroupDocument) -> RosterDocument:
    """The one roster of a static group: its officers for good, who sign and decrypt."""
    officers = tuple(
        replace(one, members=tuple(replace(m, contribution=b"") for m in one.members))
        for one in group.custodians
    )
    return RosterDocument(group.id, STATIC_EPOCH, officers, ("sign", "decrypt"))


def founders_of(contributions: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return all members' contributions as the group document wants them."""
    return tuple(sorted(set(contributions)))


@dataclass(frozen=True)
class RosterDocument:
    """Who the officers of a group are in one epoch, and what they may be asked for.

    `group` is the group's id. `uses`: of `USES`, in that order. `windows`: Names (34 bytes, sorted)
    of the keys that they may open for some seconds. `measured`: the PCRs, with their values, that
    every approval, grant and window demands besides. UsageError for anything that cannot be.
    """

    group: bytes
    epoch: int
    officers: Thresholds
    uses: tuple[str, ...] = USES
    windows: tuple[bytes, ...] = ()
    measured: Measured = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.group) != 32 or not 1 <= self.epoch < 1 << 64:
            raise UsageError("a roster names a group by its 32-byte id, and an epoch from 1")
        check_rule(self.officers)
        if not self.uses or self.uses != tuple(use for use in USES if use in self.uses):
            raise UsageError(
                f"a roster for {', '.join(map(str, self.uses)) or 'nothing'}",
                hint=f"uses are of {', '.join(USES)}, in this order",
                code="bad-uses",
            )
        if list(self.windows) != sorted(set(self.windows)) or len(self.windows) > MAX_WINDOWS:
            raise UsageError(f"keys that may be opened: sorted, distinct, at most {MAX_WINDOWS}")
        if any(len(name) != KEY_NAME for name in self.windows):
            raise UsageError("a key that may be opened stands in a roster by its 34-byte Name")
        self._check_measured()

    def _check_measured(self) -> None:
        for bank, values in self.measured.items():
            if not values:
                raise UsageError(f"a roster that demands no PCR of the {bank} bank")
            for number, value in values.items():
                check_value(bank, number, value)
                if why := UNPROTECTED.get(number):
                    raise UsageError(
                        f"PCR {number} protects nothing: {why}", code="policy-pcr-unprotected"
                    )

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes. What is empty is not there."""
        document: dict[str, Any] = {
            "format": ROSTER_FORMAT,
            "group": self.group.hex(),
            "epoch": self.epoch,
            "officers": [threshold.encode() for threshold in self.officers],
            "uses": list(self.uses),
        }
        if self.windows:
            document["windows"] = [name.hex() for name in self.windows]
        if self.measured:
            document["measured"] = {
                bank: {str(number): value.hex() for number, value in values.items()}
                for bank, values in self.measured.items()
            }
        return canonical(document)

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of the canonical bytes."""
        return document_hash(self.encoded)

    def __hash__(self) -> int:
        return hash(self.hash)


@lru_cache(64)
def parse_roster(data: bytes) -> RosterDocument:
    """Read a roster document. ParseError unless it is valid and canonical."""
    what = "roster document"
    document = parse_canonical(data, what)
    fields = Fields(document, what)
    fields.expect("format", ROSTER_FORMAT)
    rule = parse_thresholds(fields.list("officers"), "officers", contributions=False)
    uses = fields.list("uses")
    if not all(isinstance(use, str) for use in uses):
        raise ParseError(f"{what}: uses is not a list of strings")
    group, epoch = fields.hex("group", 32), fields.number("epoch", 1)
    windows = fields.hexes("windows", KEY_NAME) if fields.has("windows") else ()
    measured = read_measured(document.get("measured", {}), what)
    fields.allow("measured")
    fields.done()
    try:
        roster = RosterDocument(group, epoch, rule, tuple(uses), windows, measured)
    except UsageError as e:
        raise ParseError(f"{what}: {e.message}") from None
    if roster.encoded != data:
        raise ParseError(f"{what}: what is empty does not stand in it")
    return roster


def check_pair(group: GroupDocument, roster: RosterDocument) -> None:
    """Refuse (UsageError) a roster of another group, and one name or key for two people."""
    if roster.group != group.id:
        raise UsageError("the roster belongs to another group")
    if group.static and roster != static_roster(group):
        raise UsageError(
            f'"{group.name}" is static: its people cannot be changed', code="static-group"
        )
    custodians = members_of(group.custodians)
    by_name = {member.name: member.identity for member in custodians}
    by_key = {member.identity: member.name for member in custodians}
    for officer in members_of(roster.officers):
        key = by_name.get(officer.name, officer.identity)
        name = by_key.get(officer.identity, officer.name)
        if (key, name) != (officer.identity, officer.name):
            raise UsageError(
                f"officer {officer.name} and custodian {name}: one name is one key, in both lists"
            )
