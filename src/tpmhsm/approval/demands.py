"""What a roster says besides its people, as custodians have to see it before they approve it: what
officers may be asked for, which keys they may open, which PCRs approvals demand.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from tpmhsm.approval.content import Flag, Listing, Row
from tpmhsm.approval.memory import Memory
from tpmhsm.approval.request import KEY_CLAIM, Request
from tpmhsm.approval.screen import groups_of, readable
from tpmhsm.attest.statements import ChipKey, signing_key
from tpmhsm.errors import TpmHsmError
from tpmhsm.policy.group import USES, RosterDocument
from tpmhsm.policy.rosters import (
    opened_keys,
    roster_differences,
    short_name,
    state_in_words,
    uses_in_words,
)

SHOWN_KEYS = 3
"""So many keys that may be opened stand on the screen itself; more on a page of their own."""


@dataclass(frozen=True)
class Demands:
    """`words`: what changes, clause by clause; none for a founding."""

    words: tuple[str, ...]
    rows: tuple[Row, ...]
    flags: tuple[Flag, ...]
    listings: tuple[Listing, ...]


def demands_facts(roster: RosterDocument) -> dict[str, str]:
    """Short facts: everything but the people."""
    values = (value for _, value in _values(roster))
    return {
        "uses": ",".join(roster.uses),
        "windows": " ".join(name.hex() for name in roster.windows),
        "pcrs": f"{state_in_words(roster.measured)} {' '.join(values)}".strip(),
    }


def read_demands(
    request: Request, old: RosterDocument | None, new: RosterDocument, memory: Memory
) -> Demands:
    """Compare two rosters (a founding has no old one) as the person has to see it."""
    keys = {name: _key(request, memory, name) for name in new.windows}
    before = old or RosterDocument(new.group, new.epoch, new.officers)
    words = [] if old is None else roster_differences(before, new, lambda n: _called(memory, n))
    flags = [
        flag for name in opened_keys(before, new) for flag in _opened_flags(keys[name], memory)
    ]
    if "budget" in before.uses and "budget" not in new.uses:
        flags.append(Flag("UNITS", "those that were granted sign on; deleting a key ends its own"))
    if new.measured != before.measured:
        flags += _state_flags(before, new)
    return Demands(
        tuple(words),
        tuple(_rows(new, [key.words for key in keys.values()])),
        tuple(flags),
        tuple(_listings(new, [f"{key.words}  Name {key.name.hex()}" for key in keys.values()])),
    )


def _rows(roster: RosterDocument, keys: list[str]) -> list[Row]:
    rows = []
    if roster.uses != USES:
        rows.append(Row("Asked for", uses_in_words(roster)))
    if keys:
        more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
        rows.append(Row("May open", f"{', '.join(keys[:SHOWN_KEYS])}{more}"))
    if roster.measured:
        rows.append(Row("Demands", state_in_words(roster.measured)))
    return rows


def _listings(roster: RosterDocument, keys: list[str]) -> list[Listing]:
    found = []
    if keys:
        found.append(Listing("keys that officers may open", tuple(keys)))
    if roster.measured:
        lines = tuple(f"{where}  {groups_of(value, 8)}" for where, value in _values(roster))
        found.append(Listing("PCRs that every approval, grant and window demands", lines))
    return found


def _values(roster: RosterDocument) -> list[tuple[str, str]]:
    return [
        (f"{bank}:{number}", value.hex())
        for bank, values in sorted(roster.measured.items())
        for number, value in sorted(values.items())
    ]


# ── keys that may be opened ──────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Key:
    """A key by its Name: what this home or else the host calls it, and its key if it was shown."""

    name: bytes
    words: str
    pinned: bool
    key: ChipKey | None


def _key(request: Request, memory: Memory, name: bytes) -> _Key:
    public, _, label = request.claims.texts.get(f"{KEY_CLAIM}{name.hex()}", "").partition(" ")
    pinned = memory.pinned_key(name)
    key = _of_name(pinned.public if pinned else _octets(public), name)
    called = pinned.label if pinned else readable(label)[:64] or short_name(name)
    words = f"{called} ({key.words})" if key else called
    return _Key(name, words, pinned is not None, key)


def _octets(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _of_name(public: bytes, name: bytes) -> ChipKey | None:
    """The key with this public area, if its Name says so: the Name is what is approved."""
    try:
        key = signing_key(public)
    except TpmHsmError:
        return None
    return key if key.name == name else None


def _called(memory: Memory, name: bytes) -> str:
    pinned = memory.pinned_key(name)
    return pinned.label if pinned else short_name(name)


def _opened_flags(one: _Key, memory: Memory) -> list[Flag]:
    flags = [
        Flag("OPENS", f"{one.words}: while officers hold it open, anyone with the machine signs")
    ]
    if one.key and any(c.ca for c in memory.certified(sha256(one.key.spki).digest())):
        flags.append(Flag("AUTHORITY", f"{one.words} certifies: whoever signs with it is the CA"))
    if one.key and one.key.imported:
        flags.append(Flag("IMPORTED", f"{one.words} was not made in the chip: copies may exist"))
    if not one.pinned:
        flags.append(Flag("UNKNOWN KEY", f"what {one.words} is called, only the host says"))
    return flags


# ── PCRs ─────────────────────────────────────────────────────────────────────────────────────


def _state_flags(before: RosterDocument, new: RosterDocument) -> list[Flag]:
    if not new.measured:
        return [Flag("ANY STATE", "the keys can be used whatever firmware or system was started")]
    flags = [Flag("STATE", "the values are the host's word: was there an update, and by whom?")]
    flags += [
        Flag("EMPTY", f"all of {bank} are 00 or FF: nothing was measured, so they protect nothing")
        for bank, values in sorted(new.measured.items())
        if all(set(value) in ({0x00}, {0xFF}) for value in values.values())
    ]
    lost = [
        f"{bank}:{number}"
        for bank, values in before.measured.items()
        for number in sorted(values)
        if number not in new.measured.get(bank, {})
    ]
    if lost:
        flags.append(Flag("LESS", f"no longer demanded: {', '.join(lost)}"))
    return flags
